"""Residual networks without normalization.

*Linear skip path*, h' = h + alpha F(h), F's last convolution linear, weights zero-mean and independent. The
cross term E h . F(h) vanishes because the last weights have mean zero, so second moments add, whatever the
width [EX]:

    E|h_L|^2 = prod (1 + alpha_l^2 c) |h_0|^2,       E|g_0|^2 = prod (1 + alpha_l^2 c) |v|^2

c is the branch's gain of the second moment. F = W2 relu(W1 h) with weight gains g1, g2 (Var W * fan_in) has
c = g1 g2 / 2, so He-He makes 2 (a block triples the signal), He-LeCun 1 (doubles). In the pre-activation form
F = W2 relu(W1 relu h), c = g1 g2 / 4 needs E relu(h)^2 = E h^2 / 2, i.e. a symmetric h: only [MF].
alpha^2 = 1/L keeps both bounded: (1 + c/L)^L -> e^c, which is how Fixup, SkipInit and their kin work. Zero
padding: boxes instead of the factor c (`geometry`).

*ReLU after the sum*, h' = relu(h + alpha F(h)) [MF]. h >= 0, so relu(h)^2 = h^2 and a He-He branch brings
steps of variance 2 alpha^2 E h^2: a walk reflected at zero (`reflected_walk`) whose steps grow with it, a geometric
Lindley recursion. Backward, with correlated gates as in `batchnorm_networks`,

    Gamma_l(h) = E_g[1{h + g > 0} Gamma_{l+1}(h + g)] + c alpha^2 E[1{h' > 0} Gamma_{l+1}(h')]

Forward and backward differ: the gates cut gradients, but the reflection leaves E h^2 alone to first order.

*Fixup* (Zhang et al. 2019): the first convolution of a branch with m of them is scaled by L^(-1/(2m - 2)), the
last is 0. At the start every block is the identity [ID]: the signal grows by exactly 1, the gradient is cut
once by the topmost gate (h = 0 at half of the entries) and then constant, the first convolution's gradient is
0, the last one's is not. The scale shows only when the last convolution is not 0; it then acts as alpha^2 =
1/L (m = 2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from minires.theory.laws.geometry import ConvGeometry
from minires.theory.laws.reflected_walk import Floats, Grid, grid_for


def branch_gain(gain1: float = 2.0, gain2: float = 2.0) -> float:
    """c of F = W2 relu(W1 h), weight gains Var W * fan_in: He (2) and He make 2, He and LeCun (1) make 1."""
    return gain1 * gain2 / 2


def preactivation_branch_gain(gain1: float = 2.0, gain2: float = 2.0) -> float:
    """c of F = W2 relu(W1 relu(h)) for a symmetric h; mean field."""
    return gain1 * gain2 / 4


def growth(alphas: Sequence[float], c: float = 2.0) -> float:
    """prod (1 + alpha^2 c): of E|h|^2 going up and of E|g|^2 going down the linear skip path."""
    return math.prod(1 + alpha**2 * c for alpha in alphas)


def fixup_scale(blocks: int, layers_in_branch: int = 2) -> float:
    """What Fixup multiplies all but the last layer of a branch by: L^(-1/(2m - 2))."""
    if layers_in_branch < 2:
        raise ValueError(f"Fixup needs branches of at least 2 layers, got {layers_in_branch}")
    return blocks ** (-1 / (2 * layers_in_branch - 2))


class SkipMaps(NamedTuple):
    """Per position: second moment of h_0..h_L, and gradient energy per entry at h_0..h_L (upstream 1)."""

    q: tuple[np.ndarray, ...]
    gradient: tuple[np.ndarray, ...]


def skip_law(q: np.ndarray, alphas: Sequence[float], geometry: ConvGeometry, c: float = 2.0) -> SkipMaps:
    """h' = h + alpha W2 relu(W1 h), zero padding, both convolutions of `geometry` (stride 1, same size) [EX].

    q: (H, W), second moment of h_0, averaged over channels.  c: `branch_gain`, without edges.
    """
    if geometry.image != geometry.outputs:
        raise ValueError(f"the branch turns a map of {geometry.image} into one of {geometry.outputs}: no sum")
    up, down = [np.asarray(q, dtype=float)], [np.ones(geometry.outputs)]
    for alpha in alphas:
        inner = geometry.box(geometry.box(up[-1])) / geometry.taps**2
        up.append(up[-1] + alpha**2 * c * inner)
    for alpha in reversed(alphas):
        inner = geometry.box_transpose(geometry.box_transpose(down[-1])) / geometry.taps**2
        down.append(down[-1] + alpha**2 * c * inner)
    return SkipMaps(tuple(up), tuple(down[::-1]))


class GatedLaw(NamedTuple):
    """Streams h_0..h_L: second moment relative to h_0's, and total gradient relative to the top's."""

    second_moment: np.ndarray
    gradient: np.ndarray


def gated_law(alphas: Sequence[float], c: float = 2.0) -> GatedLaw:
    """h' = relu(h + alpha F(h)), h_0 = relu of a Gaussian; c: gain of the branch (He-He: 2) [MF].

    ``gated_law([16**-0.5] * 16)`` grows to 4.97 going up and to 1.305 going down.
    """
    steps, walks, grid = _gated_walks(alphas, c)
    q = np.array([float(grid.moment(walk, 2)) for walk in walks])
    gamma = np.ones(grid.n + 1)
    gradient = [1.0]
    for alpha, step, walk, above in zip(alphas[::-1], steps[::-1], walks[-2::-1], walks[:0:-1], strict=True):
        brought = c * alpha**2 * float(grid.expect(above, gamma, gated=True))
        pulled = grid.pull_back(gamma, step)
        gamma = pulled + brought
        gradient.append(float(grid.expect(walk, gamma)))
    return GatedLaw(q / q[0], np.array(gradient[::-1]))


def _gated_walks(alphas: Sequence[float], c: float) -> tuple[list[float], list[Floats], Grid]:
    """Steps' variances and laws of the stream, h_0 = relu(N(0, 1)), on a grid for its first and its last step."""
    top = 0.5 * math.prod(1 + c * alpha**2 for alpha in alphas)  # E h^2 grows no faster than without the gates
    grid = grid_for(2 * top + 1, min(1.0, *(0.5 * c * alpha**2 for alpha in alphas)))
    walks, steps = [grid.step(grid.start(), 1.0)], []
    for alpha in alphas:
        steps.append(c * alpha**2 * float(grid.moment(walks[-1], 2)))
        walks.append(grid.step(walks[-1], steps[-1]))
    return steps, walks, grid
