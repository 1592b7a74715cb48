"""What a prediction carries through a network: the law of a signal going forward, and of a gradient coming back.

A rule (`minires.theory.rules`) takes a layer and the `State` at its input and gives the `State` at its output and a
function that takes the `Gradient` at the output to the one at the input. Forward it follows, over positions i,

    q(i)      the second moment, averaged over channels
    K(i, i')  the covariance between two different samples of the batch (`minires.theory.laws.signal`)

the second because BatchNorm takes away what all samples share. Backward it follows the energy g(i), the mean square of
dL/dy per entry, in units of an upstream gradient that is independent of the network. A residual sum that ends in a
ReLU keeps more: the law of the stream h at each position, and the gradient as a function of h
(`minires.theory.laws.stream`).

What is neglected, and what it costs [MF]: channels are many (1/C) and values per channel are many (1/m); neighbouring
pixels of one sample are correlated only by what all samples share, which is right for white-noise input.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from minires.theory.laws.reflected_walk import Grid
from minires.theory.laws.rescaled_stream import Scaled
from minires.theory.laws.signal import Signal
from minires.theory.laws.stream import Gamma

Floats = np.ndarray
_PAIRS = 64  # positions that stand for all where only a spread is wanted


@dataclass(frozen=True)
class State:
    """The signal at one place of the network.

    shape: without the batch axis, (C, H, W) or (features,).  signal: (q, K).
    form: "gaussian" (mean zero), "rectified" (the ReLU of `source`) or "other".  stream: h of residual blocks.
    grade: "EX", "MF" or "" behind a layer without a law.  allowance: relative bias the mean field is allowed so far.
    relvar: relative variance of the mean of q between networks.
    pointwise: the last convolution had a single tap, so that 1/C and 1/m corrections do not average out.
    groups: (share, signal) of channels that differ, since shortcut A gives some of them no past; () if all are alike.
    scale_noise: E[s/v] of a channel's scale v, random since it has few weights, s = E v; 1 but behind a convolution.
    normalized: out of a BatchNorm (and an activation), so that the batch variance is not short of the law's by 1/m.
    """

    shape: tuple[int, ...]
    signal: Signal
    form: str = "other"
    source: Signal | None = None
    stream: Scaled | None = None
    grade: str = "EX"
    allowance: float = 0.0
    relvar: float = 0.0
    pointwise: bool = True
    groups: tuple[tuple[float, Signal], ...] = ()
    scale_noise: float = 1.0
    normalized: bool = False

    def after(self, signal: Signal, **changes: Any) -> State:
        """The state behind a layer: what was special about the signal's form is over unless `changes` says so."""
        plain = {"form": "other", "source": None, "stream": None, "groups": (), "scale_noise": 1.0, "normalized": False}
        return replace(self, signal=signal, **{**plain, **changes})

    @property
    def parts(self) -> tuple[tuple[float, Signal], ...]:
        """Its groups of channels, all of them in one if they are alike."""
        return self.groups or ((1.0, self.signal),)

    def pooled(self, energy: Floats) -> Floats:
        """Mean over the groups of channels, (P,), of a gradient's energy that may be (groups, P)."""
        return energy if energy.ndim == 1 else np.array([share for share, _ in self.parts]) @ energy

    @property
    def image(self) -> tuple[int, int]:
        return self.shape[1:] if len(self.shape) == 3 else (1, 1)

    @property
    def channels(self) -> int:
        return self.shape[0]

    @property
    def positions(self) -> int:
        return math.prod(self.image)

    def batch_variance(self, batch: int) -> float:
        """Biased variance over (N, H, W) within a channel, N samples; same-sample pairs weigh 1/(N P)."""
        return self.signal.variance * (1 if self.normalized else 1 - 1 / (batch * self.positions))

    @cached_property
    def light(self) -> State:
        """Without covariances, as the way back keeps it: those of a 32x32 map weigh 4 MB a layer."""
        source = None if self.source is None else self.source.outline()
        groups = tuple((share, part.outline()) for share, part in self.groups)
        kept = replace(self, signal=self.signal.outline(), source=source, groups=groups)
        kept.__dict__["correlation"] = self.correlation
        return kept

    @cached_property
    def correlation(self) -> Floats:
        """Correlation between samples for some positions, (p, p)."""
        picked = np.unique(np.linspace(0, self.positions - 1, min(_PAIRS, self.positions)).astype(int))
        q = self.signal.q[picked]
        norm = np.sqrt(np.multiply.outer(q, q))
        return np.clip(self.signal.kernel[np.ix_(picked, picked)] / np.where(norm > 0, norm, 1), -1, 1)


@dataclass(frozen=True)
class Gradient:
    """The gradient at one place of the network.

    energy: mean square per entry at each position, (P,), or (groups, P).  gamma: the same as a function of h.
    on: share of the energy that sits where the activation is positive, where that is not one half.
    centered: share of the energy that came out of a BatchNorm, whose sum over each channel is zero.
    scale_noise: that of the State behind the convolution it is about to enter, where a BatchNorm divided by v.
    spread_out: not correlated between positions (average pooling makes it so), which the exact laws need.
    """

    energy: Floats
    gamma: Gamma | None = None
    on: Floats | None = None
    centered: float = 0.0
    scale_noise: float = 1.0
    spread_out: bool = True
    grade: str = "EX"
    allowance: float = 0.0
    relvar: float = 0.0
    weight: float = math.nan
    """Mean square of dL/dweight of the layer just passed, and its relative variance between networks."""
    weight_relvar: float = math.nan


class Setting(NamedTuple):
    """What the rules need besides the layer.

    batch: N. weight, bias: initializers. grid: for streams, or None; rescale: keep them within it. floor: relative bias
    that mean field is allowed in any case.
    """

    batch: int
    weight: Any
    bias: Any
    grid: Grid | None
    rescale: bool
    floor: float


class NoLaw(Exception):
    """The layer has no law here; the text says why."""


Backward = Callable[[Gradient], Gradient]
PASSED = {"gamma": None, "centered": 0.0, "scale_noise": 1.0}
"""What a gradient loses on its way through a layer that is neither convolution nor BatchNorm nor activation."""


def worse(*grades: str) -> str:
    """The weakest of the grades."""
    return min(grades, key=("", "MF", "EX", "ID").index)


def mean_field_cost(state: State, batch: int) -> float:
    """Relative bias that one mean-field layer may add: 0.6/C + 0.75/m, m values per channel.

    Only behind convolutions of a single tap; over the taps of a larger kernel these corrections cancel and what stays
    is the floor of `floor`.
    """
    return 0.6 / state.channels + 0.75 / (batch * state.positions) if state.pointwise else 0.0


def kept_positions(image: tuple[int, int], stride: int) -> np.ndarray:
    """Flat indices of every stride-th pixel."""
    return np.arange(image[0] * image[1]).reshape(image)[::stride, ::stride].ravel()
