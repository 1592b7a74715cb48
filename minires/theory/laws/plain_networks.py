"""Deep networks without normalization: what L layers do to a signal, and how far one network may be off.

*Bias-free ReLU and leaky-ReLU networks* [EX]. z_l = conv(a_{l-1}), a_l = phi(z_l), weights independent between layers,
of variance s_l^2, uncorrelated within a filter, and each filter's law unchanged under w -> -w. Let f = (1 + slope^2)/2.
Condition on a_{l-1} and flip the sign of one filter: its products w_i w_j stay, z changes sign, so
E[w_i w_j phi'(z)^2] = f s^2 delta_ij and E phi(z)^2 = f E z^2, whatever the width. Cross terms between filters are odd
and vanish. So forward E z^2 = s^2 fan_in f E z_below^2, backward E dx^2 = s^2 fan_out f E dy^2, for an upstream that is
uncorrelated and independent of the weights (not that of a global average pooling or a softmax loss). He's variance
makes f s^2 fan_in = 1: only edges change the signal.

*One network is one sample* [EX]. In a fully connected ReLU network with Gaussian weights the ratios |a_l|^2 /
|a_{l-1}|^2 are independent with mean 1 (He) and relative variance 5/n: each of n terms (2/n) relu(g)^2 has variance
(4/n^2)(3/2 - 1/4). So E of the squared total is prod(1 + 5/n), and to first order log |a_L|^2 is normal with mean
-(5/2) sum 1/n and variance 5 sum 1/n: the typical network shrinks although the mean does not. Samples and positions of
one network share its weights, so averaging over them does not average this away.

*Other activations* [MF] (Poole et al. 2016, Schoenholz et al. 2017). With s_w^2 = s^2 fan_in:

    q_{l+1} = s_w^2 E phi(sqrt(q_l) Z)^2 + s_b^2,        chi(q) = s_w^2 E phi'(sqrt(q) Z)^2

The gradient's second moment per entry is multiplied by chi(q_l) fan_out/fan_in going back through layer l. chi < 1 at
the fixed point: gradients die, chi > 1: they explode. At finite width n the relative variance of (1/n) sum phi^2 obeys
V_{l+1} = slope_l^2 V_l + (E phi^4/(E phi^2)^2 - 1)/n, slope = d ln E phi^2 / d ln q, and z itself has 2/n more.
Correlations c of two inputs are mapped by c' = E phi(u) phi(v) / E phi^2, so a unit's variance *over the batch* decays
with depth as q (1 - c_l), although its second moment stays.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from minires.theory.laws.activations import Activation, activation_moments


class LogNormal(NamedTuple):
    """Law of log |a_L|^2 / |a_0|^2, to first order in 1/width."""

    mean: float
    variance: float


def relu_log_law(widths: Sequence[int]) -> LogNormal:
    """Fully connected He-ReLU layers of these widths."""
    total = sum(1 / n for n in widths)
    return LogNormal(-2.5 * total, 5 * total)


def log_slope(activation: Activation, q: float) -> float:
    """d ln E phi(sqrt(q) Z)^2 / d ln q; 1 for ReLU, below 1 for an activation that saturates."""
    if q <= 0:
        return 1.0
    up, down = (float(activation_moments(activation, q * r).second) for r in (1.001, 1 / 1.001))
    return math.log(up / down) / (2 * math.log(1.001)) if down > 0 else 1.0


class FixedPoint(NamedTuple):
    """q*: of the pre-activations in deep layers.  chi there: below 1 gradients die, above 1 they explode."""

    q: float
    chi: float


def fixed_point(activation: Activation, weight_gain: float) -> FixedPoint:
    """Where q = s_w^2 E phi(sqrt(q) Z)^2, without biases, by bisection between 1e-12 and 1e6: 0 if the map lies below
    the diagonal everywhere (a signal that dies), inf if above (one that explodes). A homogeneous activation has a fixed
    point only at s_w^2 f = 1, where every q is one: nan then."""
    if activation.homogeneous:
        chi = weight_gain * (1 + activation.slope**2) / 2
        return FixedPoint(0.0 if chi < 1 else math.inf if chi > 1 else math.nan, chi)
    low, high = 1e-12, 1e6
    for _ in range(200):
        q = math.sqrt(low * high)
        grows = weight_gain * float(activation_moments(activation, q).second) > q
        low, high = (q, high) if grows else (low, q)
    if high == 1e6:
        return FixedPoint(math.inf, math.nan)
    q = 0.0 if low == 1e-12 else low
    return FixedPoint(q, weight_gain * float(activation_moments(activation, q).slope2))
