"""What a prediction carries through a network: the law of a signal going forward, and of a gradient coming back.

A rule (`minires.theory.rules`) takes a layer and the `State` at its input and gives the `State` at its output and a
function that takes the `Gradient` at the output to the one at the input. Forward it follows, over positions i,

    q(i)      the second moment, averaged over channels
    K(i, i')  the covariance between two different samples of the batch (`minires.theory.laws.signal`)

the second because BatchNorm takes away what all samples share. Backward it follows the energy g(i), the mean square of
dL/dy per entry, in units of an upstream gradient that is independent of the network; behind an average pooling also
R(i, i'), its covariance within a sample. A residual sum that ends in a ReLU keeps more: the law of the stream h at each
position, and the gradient as a function of h (`minires.theory.laws.stream`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np

from minires.theory.laws.activations import NODES, RELU, WEIGHTS, Activation, activation_moments
from minires.theory.laws.patches import Patches
from minires.theory.laws.reflected_walk import Grid
from minires.theory.laws.signal import Signal
from minires.theory.laws.stream import Gamma, Stream
from minires.theory.laws.sums import Summands
from minires.theory.rules.allowances import Doubt

Floats = np.ndarray
Gate = Callable[[Floats], Floats]
_PAIRS = 64  # positions that stand for all where only a spread is wanted
# the fields of a State, and of a Gradient, that a layer leaves as they are unless its rule says otherwise
_LASTING = "shape", "grade", "doubt", "relvar", "scatter", "directions", "smooth", "isotropic", "pooled_variance"
_PASSED_ON = "same", "spread_out", "uneven", "grade", "doubt", "relvar"


@dataclass(frozen=True)
class State:
    """The signal at one place of the network.

    shape: without the batch axis, (C, H, W) or (features,).  signal: (q, K).
    form: "gaussian"; "function": `through` of a Gaussian `source`, entry by entry; "positive": never negative, and not
    0 at a share `positive` of the entries; "sum": of a skip path and a branch; "other".
    throughs: (share, gain^2, through) of groups of channels, where a BatchNorm makes them differ.
    members: the channels of each group, while they are the same ones as at the BatchNorm that made the groups.
    summands: of a sum, what comes along the skip path as a function of one Gaussian, and the branch; () if not known.
    stream: h of residual blocks.
    symmetric: changing the signs of a filter changes the sign of its channel, so half of the entries are above 0.
    grade: "EX", "MF" or "" behind a layer without a law.  doubt: how far the mean field may be off so far.
    relvar: relative variance of the mean of q between networks.
    groups: (share, signal) of channels that differ, as BatchNorm's gains and biases make them; () if all are alike.
    scale_noise: E[s/v] of a channel's scale v, random since it has few weights, s = E v; 1 but behind a convolution.
    kept: share of the entries that a Dropout left standing, 1 but behind one.
    scatter: variance, over pairs of samples, of their correlation: how few directions the batch spans.
    isotropic: the part of it that is there because a convolution reads few numbers at all, not because they agree.
    directions: shares of the batch's variance along the directions that it spans, see `laws.batchnorm`.
    smooth: share of it that the taps of a kernel have in common, 0 for white noise, 1 for images.
    pooled_variance: behind a pool, whose batch variance is uncertain.
    branch: of a sum, one over its inner width, and its mean in deviations; (0, 0) where the sum is Gaussian.
    dead: chance that a convolution behind a ReLU reads nothing but zeros, and ReLU'(0) = 0.
    batch: the actual batch, at the input.  patches: what a convolution of it reads, behind that convolution.
    """

    shape: tuple[int, ...]
    signal: Signal
    form: str = "other"
    source: Signal | None = None
    through: Activation | None = None
    throughs: tuple[tuple[float, float, Activation], ...] = ()
    members: tuple[Floats, ...] = ()
    summands: tuple[Summands, ...] = ()
    positive: float = 1.0
    symmetric: bool = False
    stream: Stream | None = None
    grade: str = "EX"
    doubt: Doubt = field(default_factory=Doubt)
    relvar: float = 0.0
    groups: tuple[tuple[float, Signal], ...] = ()
    scale_noise: float = 1.0
    kept: float = 1.0
    scatter: float = 0.0
    directions: Floats | None = None
    smooth: float = 1.0
    isotropic: float = 0.0
    pooled_variance: bool = False
    branch: tuple[float, float] = (0.0, 0.0)
    dead: float = 0.0
    batch: Floats | None = None
    patches: Patches | None = None

    def after(self, signal: Signal, **changes: Any) -> Self:
        """The state behind a layer: what was special about the signal is over, unless `changes` says otherwise."""
        return State(**{name: getattr(self, name) for name in _LASTING} | {"signal": signal} | changes)

    @property
    def parts(self) -> tuple[tuple[float, Signal], ...]:
        """Its groups of channels, all of them in one if they are alike."""
        return self.groups or ((1.0, self.signal),)

    def pooled(self, energy: Floats) -> Floats:
        """Mean over the groups of channels, (P,), of a gradient's energy that may be (groups, P)."""
        groups = self.groups or self.throughs
        return energy if energy.ndim == 1 else np.array([share for share, *_ in groups]) @ energy

    @property
    def functions(self) -> tuple[tuple[float, Activation], ...]:
        """(share, function) of the Gaussian source."""
        return tuple((share, through) for share, _, through in self.throughs) or ((1.0, self.through),)

    @property
    def rectified(self) -> bool:
        """A ReLU of its source, or of a function of it."""
        return all(function is not None and function.rectifies for _, function in self.functions)

    @property
    def one_relu(self) -> bool:
        """The ReLU of one Gaussian."""
        return self.form == "function" and self.stream is None and not self.throughs and self.through.slope == 0

    @property
    def never_negative(self) -> bool:
        """Behind a ReLU, or a pool, Dropout or mean of what is."""
        return self.form == "positive" or self.stream is not None or (self.form == "function" and self.rectified)

    @property
    def above(self) -> float:
        """P(h > 0) of what is never negative."""
        if self.stream is not None:
            return self.stream.positive()
        if self.form == "positive" or not self.rectified:
            return self.positive
        mean, variance = self.source.mean, self.source.q - self.source.mean**2
        if self.one_relu:
            return float(np.mean(activation_moments(RELU, variance, mean).slope2))
        z = mean + math.sqrt(max(float(variance.mean()), 0.0)) * NODES
        return float(sum(share * (WEIGHTS @ (function.value(z) > 0)) for share, function in self.functions))

    @property
    def image(self) -> tuple[int, int]:
        return self.shape[1:] if len(self.shape) == 3 else (1, 1)

    @property
    def channels(self) -> int:
        return self.shape[0]

    @property
    def positions(self) -> int:
        return math.prod(self.image)

    def light(self, keep: bool) -> Self:
        """As the way back keeps it: without covariances, which weigh 4 MB a layer on a 32x32 map, unless to be kept."""
        source = None if self.source is None else self.source.outline(keep)
        groups = tuple((share, part.outline(keep)) for share, part in self.groups)
        kept = replace(self, signal=self.signal.outline(keep), source=source, groups=groups, batch=None)
        kept.__dict__["correlation"] = self.correlation
        return kept

    @cached_property
    def correlation(self) -> Floats:
        """Correlation between samples for some positions, (p, p)."""
        picked = np.unique(np.linspace(0, self.positions - 1, min(_PAIRS, self.positions)).astype(int))
        q, span = self.signal.q[picked], self.signal.span
        rows = picked if span is None else span.index[picked]
        norm = np.sqrt(np.multiply.outer(q, q))
        return np.clip(self.signal.kernel[np.ix_(rows, rows)] / np.where(norm > 0, norm, 1), -1, 1)


@dataclass(frozen=True)
class Gradient:
    """The gradient at one place of the network.

    energy: mean square per entry at each position, (P,), or (groups, P).  gamma: the same as a function of h.
    same: R, covariance between positions of one sample, (P, P); None if there is none.
    spread_out: not correlated between positions, which the exact laws need.
    uneven: went through gates that let samples of little contrast through more than others.
    along: E[xh f]/E[f], xh the normalized value and f what the activation above multiplied the gradient with.
    gate: what the entries' own functions above multiplied the energy with, as a function of their Gaussian source.
    on: share of the energy that sits where the activation is positive, where that is not one half.
    standing: energy of the entries that a Dropout left, (P,), where the activation above it knows.
    centered: share of the energy that came out of a BatchNorm, whose sum over each channel is zero.
    scale_noise: that of the State behind the convolution it is about to enter, where a BatchNorm divided by v.
    beyond: the grade behind the convolution that it is about to enter, which takes a small v away again.
    aligned: E[u^2 f]/E f, u the value in deviations and f as above: 1 where large values get through like small ones.
    unseen: share of a weight gradient that BatchNorm's second projection takes, see `minires.theory.laws.patches`.
    weight: mean square of dL/dweight of the layer just passed.  weight_relvar: its relative variance between networks.
    """

    energy: Floats
    gamma: Gamma | None = None
    same: Floats | None = None
    along: float = 0.0
    gate: Gate | None = None
    on: Floats | None = None
    standing: Floats | None = None
    centered: float = 0.0
    scale_noise: float = 1.0
    aligned: float = 1.0
    unseen: float = 0.0
    spread_out: bool = True
    uneven: bool = False
    grade: str = "EX"
    beyond: str = ""
    doubt: Doubt = field(default_factory=Doubt)
    relvar: float = 0.0
    weight: float = math.nan
    weight_relvar: float = math.nan
    weight_doubt: Doubt = field(default_factory=Doubt)

    def passed(self, energy: Floats, **changes: Any) -> Self:
        """Behind a layer: what the layers above knew of the gradient is over, unless `changes` says otherwise."""
        return Gradient(**{name: getattr(self, name) for name in _PASSED_ON} | {"energy": energy} | changes)


class Setting(NamedTuple):
    """What the rules need besides the layer.

    batch: N. weight, bias: initializers; None: the model's own. grid: for streams, or None; rescale: keep them within
    it. keep: largest map whose covariances are kept for the way back.
    """

    batch: int
    weight: Any
    bias: Any
    grid: Grid | None
    rescale: bool
    keep: int


class NoLaw(Exception):
    """The layer has no law here; the text says why."""


Backward = Callable[[Gradient], Gradient]


def worse(*grades: str) -> str:
    """The weakest of the grades."""
    return min(grades, key=("", "MF", "EX", "ID").index)


def with_diagonal(covariance: Floats | None, diagonal: Floats) -> Floats | None:
    """The covariance with this diagonal, in place."""
    if covariance is not None:
        np.fill_diagonal(covariance, diagonal)
    return covariance


def pooled_signal(groups: tuple[tuple[float, Signal], ...]) -> Signal:
    """The mean over groups of channels; its mean is what all of them have in common."""
    parts = [signal.scaled(share)._replace(mean=0.0) for share, signal in groups]
    return sum(parts[1:], parts[0])._replace(mean=sum(share * signal.mean for share, signal in groups))
