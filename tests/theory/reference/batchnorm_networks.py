"""BatchNorm networks without edges: plain conv-BN-ReLU, BasicBlock (v1) and PreActBlock (v2).

Mean field [MF]: wide layers, large batch, gains 1 and shifts 0; what one unit adds is Gaussian and independent
of what it holds. BatchNorm makes every branch's output have variance one per channel, whatever the weights'
scale, so none of the laws below depends on the initializer as long as its mean is zero. "Without edges" means
circular padding or 1x1 kernels: zero padding changes the gradients a lot, and `tests.theory.reference.padded_networks`
has the law for that.

*Plain.*  After BN a unit is z ~ N(0,1), so E relu(z)^2 = 1/2 and the variance is 1/2 - 1/(2 pi) = (pi-1)/(2
pi). The next convolution (gain a = sigma^2 fan_in) has second moment a/2 but batch variance a (pi-1)/(2 pi),
since BN subtracts what the positive mean of the features contributes. Backward: ReLU halves, the convolution
multiplies by a, BN divides by the batch variance: (1/2) a / (a (pi-1)/(2 pi)) = pi/(pi-1) = 1.467 per layer.
ReLU and BN together make gradients explode.

*v1, h' = relu(h + g), g ~ N(0,1).*  The stream of one unit is a random walk cut at zero, Lindley's recursion.
Its law after n steps is that of the maximum max(0, S_1, ..., S_n) of the walk's partial sums (Spitzer 1956),
hence

    E h = sum_{k<=n} E S_k^+ / k = (2 pi)^(-1/2) sum_{k<=n} k^(-1/2)
    E h^2 = n/2 + (1/(2 pi)) sum_{j+k<=n} (j k)^(-1/2)
    P(h > 0) = 1 - C(2n, n) / 4^n               (Sparre Andersen 1953: free of the step's distribution)

Backward, the skip path's gates are correlated: a unit that is on stays on more often than not. Let Gamma_l(h)
be the gradient energy at the stream given its value, Gamma_L = 1. A branch brings (pi/(pi-1)) / V_l of what
arrives at the sum (V_l: batch variance of h_l), so with G+ = E[1{h' > 0} Gamma(h')] and rho_l = (pi/(pi-1)) /
V_l

    Gamma_l(h) = E_g[1{h + g > 0} Gamma_{l+1}(h + g)] + rho_l G+_{l+1},        G_l = E Gamma_l(h_l) = (1 +
    rho_l) G+_{l+1}.

A transition with a projection (B) restarts the walk with a step of variance 2 (two normalized branches); its
gradient is (1 + pi/(pi-1)) / V_l * G+. Without a projection (A) the old channels walk on and the new ones
start from zero.

*v2, h' = h + conv2 relu bn2 conv1 relu bn1 h.*  Nothing is cut: the second moment grows by 1 a block, the batch
variance by (pi-1)/pi, and the branch brings (pi/(pi-1)) / V_l, so growth is a power of the depth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from minires.theory.laws.reflected_walk import Floats, Grid, grid_for
from tests.theory.reference.blocks import Block

RELU_VARIANCE = 0.5 - 0.5 / math.pi  # of relu(z), z ~ N(0, 1)
BRANCH_GAIN = math.pi / (math.pi - 1)  # squared gradient through one ReLU and one BN


def pull_back_times_step(grid: Grid, f: Floats, q: np.ndarray | float) -> Floats:
    """E_g[g 1{h + g > 0} f(h + g)]: by Stein's identity q times the derivative of the pull-back."""
    if not np.any(q):
        return np.zeros_like(f)
    spectrum = grid._spectrum(f[..., 1:], q)
    slope = 1j * grid._omega[: spectrum.shape[-1]]
    return grid._read(spectrum * slope * np.asarray(q, float)[..., None])


def mean(n: int) -> float:
    """E h after n unit steps from zero (Spitzer)."""
    return float(np.sum(np.arange(1, n + 1) ** -0.5)) / math.sqrt(2 * math.pi)


def second_moment(n: int) -> float:
    """E h^2 after n unit steps from zero (Spitzer); grows as n."""
    k = np.arange(1, n + 1)
    partial = np.concatenate([[0.0], np.cumsum(k**-0.5)])
    return n / 2 + float(np.sum(k**-0.5 * partial[n - k])) / (2 * math.pi)


def variance(n: int) -> float:
    """Variance of h after n unit steps from zero: what the next BatchNorm sees; grows as (1 - 2/pi) n."""
    return second_moment(n) - mean(n) ** 2


def positive(n: int) -> float:
    """P(h > 0) after n steps of any symmetric continuous law: 1 - C(2n, n) / 4^n."""
    return 1.0 - math.exp(math.lgamma(2 * n + 1) - 2 * math.lgamma(n + 1) - n * math.log(4))


class StreamLaw(NamedTuple):
    """The stream h_0, ..., h_L of a residual network.

    second_moment, variance (over batch and positions, per channel), positive (share of entries above zero):
    forward.
    gradient: ||dL/dh_l||^2 in total, relative to the top; gradient[0] is the growth through the network.
    """

    second_moment: np.ndarray
    variance: np.ndarray
    positive: np.ndarray
    gradient: np.ndarray


def plain_gradient(layers: int) -> np.ndarray:
    """Squared gradient below layers l = 0..layers of conv-BN-ReLU over the top's: (pi/(pi-1))^(layers - l)."""
    return BRANCH_GAIN ** np.arange(layers, -1, -1.0)


def preact_law(blocks: int, start: float = 2.0) -> StreamLaw:
    """v2 (PreActBlock) stream behind a He convolution on unit-variance input, whose variance `start` is 2."""
    l = np.arange(blocks + 1)  # noqa: E741  the law's own letter
    v = start + 2 * RELU_VARIANCE * l
    growth = 1 + BRANCH_GAIN / v[:-1]
    gradient = np.concatenate([np.cumprod(growth[::-1])[::-1], [1.0]])
    return StreamLaw(start + l, v, np.full(blocks + 1, 0.5), gradient)


def basic_block_law(layout: Sequence[Block], grid: Grid | None = None) -> StreamLaw:
    """v1 (BasicBlock) stream h_0 = relu(bn(stem)), ..., h_L of a network without edges.

    Example: ``basic_block_law(resnet_layout(20, "B")).gradient[0]`` is 190.3; 3x3 kernels with zero padding
    give 141.6 (`minires.theory.position`).
    """
    grid = grid or grid_for(1.0 + len(layout))
    laws = [[_Population(1.0, grid.step(grid.start(), 1.0))]]
    for block in layout:
        laws.append(_forward(grid, laws[-1], block))
    variances = [sum(p.weight * _variance(grid, p.walk) for p in law) for law in laws]
    gradient = _backward(grid, [_pooled(law) for law in laws], variances, layout)
    moments = [sum(p.weight * float(grid.moment(p.walk, 2)) for p in law) for law in laws]
    on = [sum(p.weight * float(grid.positive(p.walk)) for p in law) for law in laws]
    return StreamLaw(np.array(moments), np.array(variances), np.array(on), gradient)


class _Population(NamedTuple):
    """Channels that share one history: their share of all channels, and the law of their entries."""

    weight: float
    walk: Floats


def _forward(grid: Grid, populations: list[_Population], block: Block) -> list[_Population]:
    if block.shortcut == "B":
        return [_Population(1.0, grid.step(grid.start(), 2.0))]
    kept = block.in_channels / block.out_channels
    after = [_Population(kept * p.weight, grid.step(p.walk, 1.0)) for p in populations]
    if kept < 1:
        after.append(_Population(1 - kept, grid.step(grid.start(), 1.0)))
    return after


def _backward(grid: Grid, walks: list[Floats], v: list[float], layout: Sequence[Block]) -> np.ndarray:
    """Totals ||dL/dh_l||^2, from Gamma per entry times the number of entries (relative to the top)."""
    gamma = np.ones(grid.n + 1)
    entries = 1.0
    gradient = [1.0]
    for l in range(len(layout) - 1, -1, -1):  # noqa: E741
        block = layout[l]
        arriving = float(grid.expect(walks[l + 1], gamma, gated=True))
        fewer = block.out_channels / block.in_channels / block.stride**2  # entries above for each entry below
        branch = BRANCH_GAIN / v[l] * arriving * fewer
        if block.shortcut == "B":
            gamma = np.full(grid.n + 1, branch + arriving * fewer / v[l])
        else:
            skip = grid.pull_back(gamma, 1.0)
            share = 1 / block.stride**2  # of the pixels; the others are not read by the shortcut
            gamma = share * skip + branch
        entries /= fewer
        gradient.append(entries * float(grid.expect(walks[l], gamma)))
    return np.array(gradient[::-1])


def _pooled(populations: list[_Population]) -> Floats:
    return sum(p.weight * p.walk for p in populations)


def _variance(grid: Grid, walk: Floats) -> float:
    return float(grid.moment(walk, 2) - grid.moment(walk, 1) ** 2)
