"""What the laws may be off, cause by cause.

A rule that approximates says how far it may be off: a size for each cause. This doubt travels with the signal and with
the gradient, every approximation on the way adds its own, and at a row it becomes an allowance.

The sizes were chosen on 3,500 layouts of `tests.theory.random_layouts` (4000 to 4399, 7000 to 7299, 8000 to 8599,
20000 to 22199) and on its usual networks 0 to 125: of a hundred causes that one could think of, those without which the
doubts foresaw errors worse, each with the constant that makes the doubt the 98.5 % quantile of the error (pinball loss
of its logarithm). What was measured at each level of doubt gave `LEVELS`. Where few of those networks have a cause, it
is its largest error.
"""

import math
from typing import TYPE_CHECKING, Self

import numpy as np

from minires.theory.laws.activations import Activation, activation_moments

if TYPE_CHECKING:
    from minires.theory.rules.state import Gradient, State

LEVELS = (0.0, 0.03, 0.12, 0.2, 0.7), (0.05, 0.07, 0.078, 0.35, 1.0)
"""Doubts, and what is allowed there: small doubts make no difference, large ones seldom come alone."""
LARGEST = 1.0  # beyond this doubt a row says little, and has no grade
FEWEST_VALUES = 16  # of a channel, for the gradient of a BatchNorm to have a grade
ROUNDING = 64  # units in the last place, of sums over a thousand nodes and two dozen terms
STEP = 0.2  # of a variance, relative, for slopes and curvatures
HUGE = 1e9  # stands for what overflows


class Doubt(dict[str, float]):
    """{cause: size}, relative to the law. Causes differ in sign from layer to layer, so sizes add as squares."""

    @classmethod
    def of(cls, **sizes: float) -> Self:
        """Sizes of 0 are left out."""
        return cls({cause.replace("_", " "): min(float(size), HUGE) for cause, size in sizes.items() if size})

    def __add__(self, other: Self) -> Self:
        return Doubt({cause: math.hypot(self.get(cause, 0.0), other.get(cause, 0.0)) for cause in {**self, **other}})

    def times(self, factor: float) -> Self:
        """Where a relative error counts so many times."""
        return Doubt({cause: min(size * abs(factor), HUGE) for cause, size in self.items()})

    def larger(self, other: Self) -> Self:
        """Of two paths that meet, the larger size of each cause."""
        return Doubt({cause: max(self.get(cause, 0.0), other.get(cause, 0.0)) for cause in {**self, **other}})

    @property
    def size(self) -> float:
        return math.hypot(*self.values())

    @property
    def allowance(self) -> float:
        """Relative error that the law is allowed; nan if the doubt is too large for any."""
        return float(np.interp(self.size, *LEVELS)) if self.size <= LARGEST else math.nan

    @property
    def main(self) -> str:
        """The cause of largest size."""
        return max(self, key=self.__getitem__, default="")


def contrast(each: np.ndarray | None) -> float:
    """Twice the relative variance of the samples' second moments (N, P)."""
    samples = np.zeros(1) if each is None else each.mean(axis=1)
    return 2 * float(np.var(samples) / max(samples.mean() ** 2, 1e-300))


def uneven(q: np.ndarray) -> float:
    """How much second moments differ between positions, relative to their mean."""
    return float(np.std(q) / max(float(np.mean(q)), 1e-300))


def forward(state: "State") -> Doubt:
    """Of a mean square, at its row."""
    return Doubt.of(few_entries=0.087 / math.sqrt(state.channels * state.positions))


def batch_variance(state: "State", amplified: float) -> Doubt:
    """A batch variance is the difference of a second moment and a covariance, and carries the rounding of both,
    `amplified` where it is small. Behind a pool both are known to first order, and hardly where a branch was shifted:
    of such rows 5 % failed without this cause."""
    amplified = min(amplified, HUGE)
    shifted = state.doubt.get("a shifted branch", 0.0)
    return Doubt.of(
        a_small_difference=0.03 * (amplified**2 - 1),
        covariances_of_a_pool=(0.21 + 2 * shifted) * amplified * state.pooled_variance,
        dead_channels=state.dead,
        rounding=ROUNDING * float(np.finfo(state.signal.kernel.dtype).eps) * amplified**2,
    )


def gradient(state: "State") -> Doubt:
    """Of a gradient's mean square, at its row."""
    return Doubt.of(few_entries=0.27 / math.sqrt(state.channels * state.positions), few_directions=0.9 * state.scatter)


def weight_gradient(g: "Gradient", below: "State", agreed: float, contrast: float) -> Doubt:
    """Of a sum over pixels whose gradients agree, which is a difference of S and its means; of what BatchNorm's second
    projection took; of samples of different contrast, where the gates above knew it."""
    centered = bool(g.centered) and g.same is not None and below.signal.each is not None
    return Doubt.of(
        pixels_that_agree=math.hypot(0.34 * agreed, 0.35 * (not g.spread_out), 0.6 * centered),
        the_second_projection=2.8 * g.unseen,
        contrasts=0.82 * contrast * g.uneven,
    )


def activation(kind: Activation, state: "State") -> tuple[Doubt, Doubt]:
    """Forward, with the doubts that the signal brought along, and backward, of an activation whose law is not exact.

    E phi^2 and E phi'^2 are functions of the variance, which may be off, and their slopes say what that costs. The
    variance also differs from network to network and from sample to sample, which the curvature of E phi^2 shows: few
    channels do that, and batches that span few directions. With a bias far below zero both are steep.
    """
    unknown = state.form in ("positive", "other") or (state.form == "sum" and not state.summands)
    square = state.signal.mean**2
    variance = max(float(state.signal.q.mean()) - square, 1e-300)
    moments = activation_moments(kind, variance * np.array([1 - STEP, 1.0, 1 + STEP]), state.signal.mean)
    amplified = min(1 + square / variance, HUGE)
    slopes = [amplified * (e[2] - e[0]) / (2 * STEP * max(e[1], 1e-300)) for e in (moments.second, moments.slope2)]
    low, here, high = moments.second
    curved = min(abs(amplified**2 * (high - 2 * here + low) / (2 * STEP**2 * max(here, 1e-300))), HUGE)
    shape, scatter = 0.26 * unknown, max(state.scatter - state.isotropic, 0.0)
    narrow, shifted = state.branch
    after = Doubt.of(
        not_gaussian=shape,
        few_channels=0.0 if unknown else 2.9 * curved / state.channels,
        few_directions=0.0 if unknown else 2.6 * curved * scatter,
        a_narrow_branch=0.34 * narrow,
        a_shifted_branch=0.1 * shifted,
    )
    back = Doubt.of(
        not_gaussian=shape,
        uneven_positions=0.031 * uneven(state.signal.q),
        few_directions=scatter,
        a_shifted_branch=0.44 * shifted,
        dead_channels=state.dead,
    )
    return (state.doubt if unknown else state.doubt.times(slopes[0])) + after, state.doubt.times(slopes[1]) + back


def second_gate() -> Doubt:
    """Backward, of a second ReLU of what passes for a rectified Gaussian."""
    return Doubt.of(not_gaussian=0.2)


def stream_gate(total: "State") -> tuple[Doubt, Doubt]:
    """Of the ReLU after a sum whose law is the stream's."""
    narrow, shifted = total.branch
    return Doubt.of(a_narrow_branch=0.1 * narrow, a_shifted_branch=0.17 * shifted), Doubt.of(
        a_shifted_branch=0.44 * shifted
    )


def batchnorm(state: "State", batch: int, vanished: bool) -> tuple[Doubt, Doubt]:
    """Forward, where a pooled or rectified signal is normalized; backward, of 1/v, which differs from network to
    network, and more so where samples are alike. Real images have few directions. vanished: v is lost in rounding."""
    pooled, function = state.form in ("positive", "other"), state.form in ("function", "sum")
    real = state.signal.each is not None
    forward = Doubt.of(
        a_pool_normalized=0.56 * pooled,
        a_function_normalized=0.13 * function,
        few_values=0.67 / (batch * state.positions),
        few_directions=math.hypot(0.17 * state.scatter, 0.027 * real),
        few_weights=0.07 * (1 - 1 / state.scale_noise),
        a_small_difference=HUGE * vanished,
    )
    back = Doubt.of(
        a_function_normalized=0.29 * function,
        spread_of_the_variance=0.0 if math.isnan(state.relvar) else 1.5 * state.relvar,
        samples_that_agree=0.41 * float(np.mean(state.correlation**2)),
        few_directions=0.11 * real,
    )
    return forward, back


def projections(lost: float, energy: np.ndarray) -> Doubt:
    """Of a gradient that loses a share of its energy (P,) to BatchNorm's two projections; they take evenly."""
    return Doubt.of(few_samples=0.98 * lost, uneven_positions=0.13 * uneven(energy))


def maximum(state: "State", known: bool, overlapping: bool) -> tuple[Doubt, Doubt]:
    """Pixels of a window that differ or agree, and maxima of what is not a function of one Gaussian; gradients where
    windows overlap. A maximum passes over what a Dropout took."""
    apart, agree = uneven(state.signal.q), state.signal.same is not None
    odd = not (known and state.stream is None)
    forward = Doubt.of(
        uneven_positions=0.32 * apart,
        pixels_that_agree=0.14 * agree,
        not_gaussian=0.48 * odd,
        a_dropout=float(state.kept < 1),
    )
    return forward, Doubt.of(
        uneven_positions=1.02 * apart, not_gaussian=0.3 * odd, overlapping_windows=0.25 * overlapping
    )


def average(state: "State", q: np.ndarray, alone: np.ndarray) -> Doubt:
    """Forward, of real images, whose contrasts differ; and where pixels cancel, so that q is less than if each stood
    `alone`, uncorrelated with the others."""
    cancelled = max(float(alone.mean()) / max(float(q.mean()), 1e-300) - 1, 0.0)
    return Doubt.of(contrasts=0.24 * (state.signal.each is not None), cancelling_pixels=0.35 * cancelled)


def convolution(g: "Gradient", batch: int) -> Doubt:
    """Backward: of few samples whose pixels receive gradients that agree."""
    return Doubt.of(few_samples=0.13 * (g.same is not None) / batch)


def block_sum(channels: int, share: float, *, last: bool, drowned: bool) -> Doubt:
    """Of a sum that no activation follows (`last`): the next branch meets gates that the skip path opened. (Measured
    at width 3, one and two blocks: 7 and 14 %; at 4: 6 %.) Of a skip path that is neglected beside the branch, which
    has a share of the second moment."""
    return Doubt.of(gates_of_the_skip_path=0.6 * last / channels, drowned=drowned * 2 * math.sqrt(max(1 - share, 0.0)))
