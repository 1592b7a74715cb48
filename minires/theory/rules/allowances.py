"""What the laws may be off, cause by cause.

Causes differ in sign from layer to layer, so they add as the root of the sum of squares. Most constants were chosen on
the layouts 4000 to 4299 of `tests.theory.random_layouts`, by the likelihood of what was measured there: the variance of
an error is the sum of its causes' squares, and three deviations are allowed. Three hundred more, 7000 to
7299, widened that of neighbors that agree, and showed that no other choice foresees new layouts better. A cause that
got nothing there is not here, such as a ReLU or a tanh of a Gaussian. Where only a few layouts have a cause, it is
their largest error.
"""

from __future__ import annotations

import math

import numpy as np

from minires.theory.laws.activations import Activation, activation_moments
from minires.theory.rules.state import Gradient, State

FORWARD_FLOOR, BACKWARD_FLOOR, WEIGHT_FLOOR = 0.055, 0.03, 0.08
LARGEST = 1.0
"""A row that may be off by a factor of two says little: it has no grade."""
FEWEST_VALUES = 16
"""Of a channel, for the gradient of a BatchNorm to have a grade."""
NOT_GAUSSIAN = 0.5
"""Where a pooled signal, or a mean over unlike channels, is taken for a Gaussian."""
NOT_RECTIFIED = 0.25
"""Of a gradient at a second ReLU of what passes for a rectified Gaussian."""
NARROW, SHIFTED = 0.22, 0.25
"""Of a sum: over the width of the branch, and times its mean in deviations. Narrow, or skewed and sparse away from its
center, a branch is less of a Gaussian; a quarter of that shows forward."""
ROUNDING = 64
"""Units in the last place, of a second moment and of a covariance: sums over a thousand nodes and two dozen terms."""
DYING = 3.0
"""Of a batch variance and a weight gradient, times the chance that a narrow layer is dead: what is left scatters."""
PREACTIVATION = 0.6
"""Over C, of a sum that nothing follows. (Measured at width 3, one and two blocks: 7 and 14 %; at 4: 6 %.)"""
OFF_CENTER = 0.06
"""Of a Gaussian, times its mean in deviations: what channels have in common is then less Gaussian than they are."""
STEP = 0.2
"""Of a variance, relative, for slopes and curvatures."""
FEW_DIRECTIONS = 1.0
"""Of a tanh or sigmoid of actual images, times the scatter: few directions are not Gaussian over a batch."""


def uneven(q: np.ndarray) -> float:
    """How much second moments differ between positions, relative to their mean."""
    return float(np.std(q) / max(float(np.mean(q)), 1e-300))


def batch_variance(state: State, amplified: float) -> float:
    """Behind a pool it is a difference of covariances that are known to first order; few directions of actual images.
    It is the difference of a second moment and a covariance, and carries the rounding of both.

    amplified: what a relative error of the second moment costs, which is more where the difference is small.
    """
    real, rounding = state.signal.each is not None, ROUNDING * float(np.finfo(state.signal.kernel.dtype).eps)
    pooled = 0.35 * amplified * state.pooled_variance
    return math.hypot(pooled, 0.03 * real, 0.2 * real * state.scatter, DYING * state.dead, rounding * amplified**2)


def branch(width: int, mean: float, variance: float) -> float:
    """Of a gradient at the sum of a skip path and a branch of that inner width, mean and variance."""
    return math.hypot(NARROW / width, SHIFTED * min(abs(mean) / math.sqrt(max(variance, 1e-300)), 3.0))


def activation(kind: Activation, state: State) -> tuple[float, float]:
    """Forward, with what the signal may be off already, and backward, of an activation where the law is not exact.

    E phi^2 and E phi'^2 are functions of the variance, which may be off and differs between networks: the first counts
    by their slopes, the second by their curvatures. Of a bias far below zero both are steep.
    """
    unknown = state.form in ("positive", "other") or (state.form == "sum" and not state.summands)
    shape, square = NOT_GAUSSIAN if unknown else 0.0, state.signal.mean**2
    variance = max(float(state.signal.q.mean()) - square, 1e-300)
    if state.form == "gaussian":
        shape = OFF_CENTER * min(math.sqrt(square / variance), 3.0)
    smooth = FEW_DIRECTIONS * state.scatter * (not kind.homogeneous and state.signal.each is not None)
    levels = variance * np.array([1 - STEP, 1.0, 1 + STEP])
    moments, amplified = activation_moments(kind, levels, state.signal.mean), 1 + square / variance
    moved = []
    for low, here, high in (moments.second, moments.slope2):
        slope, curvature = (high - low) / (2 * STEP), (high - 2 * here + low) / STEP**2
        off = amplified * state.allowance * slope, amplified * amplified * state.relvar * curvature / 2
        moved.append(math.hypot(*off) / max(here, 1e-300))
    forward = state.allowance if unknown else moved[0]
    return math.hypot(forward, shape, smooth, state.rough / 4), math.hypot(
        moved[1], shape, smooth, state.rough, state.dead
    )


def batchnorm(state: State, batch: int) -> tuple[float, float]:
    """Forward, where a pooled or rectified signal is normalized; backward, of 1/v.

    Of few channels, of few values in each, and of few directions, which are known from the stem alone.
    """
    pooled = {"positive": (0.2, 0.7), "other": (0.2, 0.7), "function": (0.08, 0.0), "sum": (0.08, 0.0)}
    forward, backward = pooled.get(state.form, (0.0, 0.0))
    values, few = batch * state.positions, 1 - 1 / state.scale_noise
    spread = math.sqrt(state.scatter) if state.patches is None else 0.0
    unlike = 0.5 * (state.stream is not None and len(state.stream.populations) > 1)  # old channels and new ones
    causes = 0.02, 0.95 / state.channels, spread, 6 / values, 0.7 * few, unlike
    return math.hypot(forward, 2 / values), math.hypot(backward, *causes)


def maximum(state: State, known: bool, overlapping: bool) -> tuple[float, float]:
    """Pixels of a window that differ, photographs, whose contrast differs, and maxima of what is not a function of one
    Gaussian. Gradients, too, where a window's neighbors agree."""
    real, apart = state.signal.each is not None, uneven(state.signal.q)
    odd = 0.0 if known and state.stream is None else NOT_GAUSSIAN
    forward = math.hypot(0.05, 0.25 * apart, 0.1 * real, 0.3 * state.scatter, odd)
    agree = 0.33 if state.signal.same is not None else 0.0
    return forward, math.hypot(odd, 0.5 * apart, agree, 0.15 * (real and overlapping))


def average(state: State, q: np.ndarray, alone: np.ndarray) -> float:
    """Forward: positions that differ are averaged as if alike, and photographs' contrasts.

    q: the second moment behind the average; alone: if pixels did not correlate. Where they cancel, little is left.
    """
    cancelled = max(float(alone.mean()) / max(float(q.mean()), 1e-300) - 1, 0.0)
    return math.hypot(0.28 * uneven(state.signal.q), 0.18 * (state.signal.each is not None), cancelled)


def convolution(g: Gradient, below: State, taps: int) -> float:
    """Backward, over C_in: the gates above depend on the weights that the gradient goes through.

    Such terms do not cancel where neighboring pixels receive the same gradient and no BatchNorm takes it away.
    """
    exact = g.grade == "EX" and g.spread_out
    agree = not (g.spread_out or g.centered > 0 or taps == 1)
    return math.hypot(0.0 if exact else 0.07, 1.0 if agree else 0.0) / below.channels


def weight_gradient(g: Gradient, below: State, agreed: float) -> float:
    """Of a sum over pixels whose gradients agree, which is a difference of S and its means; of samples of different
    contrast, where the gates above knew it (twice the relative variance of their second moments)."""
    contrast, real = 0.0, below.signal.each is not None
    if g.uneven and real:
        samples = below.signal.each.mean(axis=1)
        contrast = 2 * float(np.var(samples) / max(float(samples.mean()) ** 2, 1e-300))
    centered = 0.3 if g.centered and g.same is not None and real else 0.0
    return math.hypot(
        0.35 * agreed, 0.4 * contrast, 0.0 if g.spread_out else 0.33, 0.22 * real, centered, DYING * below.dead
    )
