"""Deep networks without normalization: what L layers do to a signal, and how far one network may be off.

*Bias-free ReLU and leaky-ReLU networks* [EX]. z_l = conv(a_{l-1}), a_l = phi(z_l), weights independent between
layers, each filter's law unchanged under w -> -w (normal, uniform, truncated, Haar-orthogonal), variance
s_l^2, uncorrelated within a filter. Let f = (1 + slope^2)/2. Condition on a_{l-1} and flip the sign of one
filter: its products w_i w_j stay, z changes sign, so E[w_i w_j phi'(z)^2] = f s^2 delta_ij and E phi(z)^2 = f
E z^2, whatever the width. Cross terms between filters are odd and vanish. Hence, with no assumption of
independence of forward and backward:

    forward    Q_l(i) = s_l^2 C_{l-1} box(f Q_{l-1})(i)          E z_l^2 per position; box(sum_c x^2) first
    backward   G_{l-1}(j) = s_l^2 C_l boxT(f G_l)(j)            E (dL/da_l)^2 = G_l, E (dL/dz_l)^2 = f G_l
    weights    E dW_l[o, c, t]^2 = N sum_i f G_l(i) E a_{l-1}^2(pixel of i by tap t)

for an upstream gradient that is independent of the weights, zero-mean and uncorrelated. Global average pooling
and a softmax loss are not such upstreams. He's variance 2/((1 + slope^2) fan_in) makes f s^2 fan_in = 1: only
edges change the second moment. (Up to the chance 2^-n that a whole layer of n ReLUs is off.)

*One network is one sample* [EX]. In a fully connected ReLU network with Gaussian weights the ratios |a_l|^2 /
|a_{l-1}|^2 are independent with mean 1 (He) and relative variance 5/n: each of n terms (2/n) relu(g)^2 has
variance (4/n^2)(3/2 - 1/4). So E of the squared total is prod(1 + 5/n), and to first order log |a_L|^2 is
normal with mean -(5/2) sum 1/n and variance 5 sum 1/n: the typical network shrinks although the mean does not.
Weights of kurtosis k give 5 + 2 (k - 3) sum a^4 / (sum a^2)^2; going back, Gaussian upstream, prod (1 + 3/(n_l
+ 2)) (1 + 2/n_{l-1}). Samples and positions of one network share its weights, so averaging over them does not
average this away: for vectors of squared norms q_p and cosines c_pp'

    relative variance of the mean of relu(z)^2 = mean_pp' [q_p q_p' (J2(c_pp') - 1/4)] / ((mean q / 2)^2 C_out)
    J2(c) = (3 sin t cos t + (pi - t)(1 + 2 cos^2 t)) / (2 pi),   c = cos t      (arc-cosine kernel, order two)

which lies below 5 mean(q^2) / (C_out mean(q)^2).

*Other activations* [MF] (Poole et al. 2016, Schoenholz et al. 2017). With s_w^2 = s^2 fan_in:

    q_{l+1} = s_w^2 E phi(sqrt(q_l) Z)^2 + s_b^2,        chi(q) = s_w^2 E phi'(sqrt(q) Z)^2

The gradient's second moment per entry is multiplied by chi(q_l) fan_out/fan_in going back through layer l; the
product is taken along the actual q_l, not at the fixed point alone. chi < 1 at the fixed point: gradients die,
chi > 1: they explode. At finite width n the relative variance of (1/n) sum phi^2 obeys
V_{l+1} = slope_l^2 V_l + (E phi^4/(E phi^2)^2 - 1)/n, slope = d ln E phi^2 / d ln q, and z itself has 2/n more.
Correlations c of two inputs are mapped by c' = E phi(u) phi(v) / E phi^2, for ReLU (sqrt(1 - c^2) + c (pi -
arccos c))/pi; so a unit's variance *over the batch* decays with depth as q (1 - c_l), although its second
moment stays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from minires.theory.laws.activations import Activation, activation_moments
from minires.theory.laws.geometry import ConvGeometry

_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772  # Klambauer et al. 2017


def _selu(z: np.ndarray) -> np.ndarray:
    return _SELU_SCALE * np.where(z > 0, z, _SELU_ALPHA * np.expm1(np.minimum(z, 0)))


def _selu_derivative(z: np.ndarray) -> np.ndarray:
    """It jumps at 0; the root mean square of both sides there makes a trapezoid rule exact for its square."""
    slope = np.where(z > 0, 1.0, _SELU_ALPHA * np.exp(np.minimum(z, 0)))
    return _SELU_SCALE * np.where(z == 0, math.sqrt((1 + _SELU_ALPHA**2) / 2), slope)


SELU = Activation("selu", _selu, _selu_derivative)


# ---- exact maps of bias-free ReLU networks


class ReluLayer(NamedTuple):
    """A bias-free convolution (linear layer: an image of one pixel) and its leaky ReLU. variance: of a weight."""

    in_channels: int
    out_channels: int
    variance: float
    geometry: ConvGeometry
    slope: float = 0.0

    @property
    def share(self) -> float:
        """f, what the activation leaves of a second moment and of a gradient's."""
        return (1 + self.slope**2) / 2


def dense(in_features: int, out_features: int, variance: float, slope: float = 0.0) -> ReluLayer:
    """A linear layer as a convolution over one pixel."""
    return ReluLayer(in_features, out_features, variance, ConvGeometry.of((1, 1), 1), slope)


class ReluLaw(NamedTuple):
    """Second moments of every layer, bottom first; maps are (H, W).

    pre: of z_l.  post: of a_l, post[0] the input's.  gradient: of dL/da_l, gradient[0] at the input, in units
    of the upstream's.  weight: (kh, kw), mean over channels of E dW^2 for one sample; N samples give N times
    as much.
    """

    pre: tuple[np.ndarray, ...]
    post: tuple[np.ndarray, ...]
    gradient: tuple[np.ndarray, ...]
    weight: tuple[np.ndarray, ...]


def relu_law(layers: Sequence[ReluLayer], x: np.ndarray) -> ReluLaw:
    """x: (N, C, H, W), the actual input, or (H, W), its second moment per entry."""
    q = np.square(x, dtype=float).mean(axis=(0, 1)) if np.ndim(x) == 4 else np.asarray(x, dtype=float)
    pre, post = [], [q]
    for layer in layers:
        pre.append(layer.variance * layer.in_channels * layer.geometry.box(post[-1]))
        post.append(layer.share * pre[-1])
    gradient, weight = [np.ones_like(post[-1])], []
    for layer, below in zip(layers[::-1], post[-2::-1], strict=True):
        at_z = layer.share * gradient[-1]
        weight.append(layer.geometry.per_tap(below, at_z))
        gradient.append(layer.variance * layer.out_channels * layer.geometry.box_transpose(at_z))
    return ReluLaw(tuple(pre), tuple(post), tuple(gradient[::-1]), tuple(weight[::-1]))


# ---- how far one network may be off


class LogNormal(NamedTuple):
    """Law of log |a_L|^2 / |a_0|^2, to first order in 1/width."""

    mean: float
    variance: float

    @property
    def median(self) -> float:
        """What the typical network does, relative to the expectation 1."""
        return math.exp(self.mean)


def relu_log_law(widths: Sequence[int]) -> LogNormal:
    """Fully connected He-ReLU layers of these widths."""
    total = sum(1 / n for n in widths)
    return LogNormal(-2.5 * total, 5 * total)


def relu_second_moment(widths: Sequence[int]) -> float:
    """E (|a_L|^2 / E|a_L|^2)^2 = prod (1 + 5/n), Gaussian weights."""
    return math.prod(1 + 5 / n for n in widths)


def relu_backward_second_moment(widths: Sequence[int]) -> float:
    """E (|g_0|^2 / E|g_0|^2)^2 of layers widths[l-1] -> widths[l], Gaussian upstream v, relative to |v|.

    prod_l (1 + 3/(n_l + 2)) (1 + 2/n_{l-1}).
    """
    return math.prod((1 + 3 / (above + 2)) * (1 + 2 / below) for below, above in pairwise(widths))


def layer_relative_variance(width: int, kurtosis: float = 3.0, concentration: float = 0.0) -> float:
    """Relative variance of |relu(W a)|^2 for one vector a: (5 + 2 (kurtosis - 3) concentration) / width.

    concentration: sum a^4 / (sum a^2)^2, which is 0 for a spread-out a; only non-Gaussian weights notice.
    """
    return (5 + 2 * (kurtosis - 3) * concentration) / width


def batch_relative_variance(vectors: np.ndarray, width: int) -> float:
    """Relative variance, over Gaussian weights of `width` filters, of the mean over p of relu(w .
    vectors[p])^2.

    vectors: (P, fan_in), the inputs of all samples and positions (unfolded patches for a convolution).
    """
    gram = vectors @ vectors.T
    q = np.diagonal(gram)
    norm = np.sqrt(np.multiply.outer(q, q))
    c = np.clip(gram / np.where(norm > 0, norm, 1), -1, 1)
    t = np.arccos(c)
    j2 = (3 * np.sin(t) * c + (math.pi - t) * (1 + 2 * c * c)) / (2 * math.pi)
    return float(np.mean(np.multiply.outer(q, q) * (j2 - 0.25)) / (q.mean() / 2) ** 2 / width)


# ---- mean field


class MeanField(NamedTuple):
    """Layers l = 1..L of a fully connected network, mean field; arrays of length L.

    q: second moment of z_l.  chi: what the gradient's second moment is multiplied by going back through layer
    l's activation and the next square weight matrix.  gradient: of dL/dz_l relative to dL/dz_L, layers of
    equal width.
    spread: relative standard deviation of q between networks of the given width (nan where no width is given).
    """

    q: np.ndarray
    chi: np.ndarray
    gradient: np.ndarray
    spread: np.ndarray


def mean_field(
    activation: Activation,
    weight_gain: float,
    depth: int,
    *,
    bias_variance: float = 0.0,
    q0: float = 1.0,
    width: int | None = None,
) -> MeanField:
    """weight_gain: s_w^2 = Var W * fan_in of every layer.  q0: mean square of the input's entries."""
    q, chi, spread = [weight_gain * q0 + bias_variance], [], [0.0]
    for _ in range(depth):
        moments = activation_moments(activation, q[-1])
        chi.append(weight_gain * float(moments.slope2))
        q.append(weight_gain * float(moments.second) + bias_variance)
        own = float(moments.fourth / moments.second**2) - 1 if moments.second > 0 else 0.0
        relative = weight_gain * float(moments.second) / q[-1] if q[-1] > 0 else 0.0
        z_share = log_slope(activation, q[-2]) ** 2 * spread[-1]
        spread.append(relative**2 * (z_share + own / width) if width else math.nan)
    gradient = np.concatenate([np.cumprod(chi[:-1][::-1])[::-1], [1.0]])
    v = np.array(spread[:-1]) + (2 / width if width else math.nan)
    return MeanField(np.array(q[:-1]), np.array(chi), gradient, np.sqrt(v))


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


def fixed_point(activation: Activation, weight_gain: float, bias_variance: float = 0.0) -> FixedPoint:
    """Where q = s_w^2 E phi(sqrt(q) Z)^2 + s_b^2, by bisection of q -> map(q) - q between 1e-12 and 1e6.

    q* = 0 if the map lies below the diagonal everywhere (a signal that dies); inf if above (one that
    explodes). A homogeneous activation without bias has a fixed point only at s_w^2 f = 1, where every q is
    one: nan then.
    """
    if activation.homogeneous and bias_variance == 0:
        chi = weight_gain * (1 + activation.slope**2) / 2
        return FixedPoint(0.0 if chi < 1 else math.inf if chi > 1 else math.nan, chi)

    def excess(q: float) -> float:
        return weight_gain * float(activation_moments(activation, q).second) + bias_variance - q

    low, high = 1e-12, 1e6
    if excess(low) <= 0:
        return FixedPoint(0.0, weight_gain * float(activation_moments(activation, 0.0).slope2))
    if excess(high) >= 0:
        return FixedPoint(math.inf, math.nan)
    for _ in range(200):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return FixedPoint(low, weight_gain * float(activation_moments(activation, low).slope2))


def relu_correlation(depth: int, start: float = 0.0) -> np.ndarray:
    """Correlation of two inputs at the pre-activations of layers 1..depth of a bias-free ReLU network.

    start: at layer 1. c' = (sqrt(1 - c^2) + c (pi - arccos c)) / pi creeps up to 1: all inputs come to look
    alike.
    """
    c = [start]
    for _ in range(depth - 1):
        c.append((math.sqrt(1 - c[-1] ** 2) + c[-1] * (math.pi - math.acos(c[-1]))) / math.pi)
    return np.array(c)
