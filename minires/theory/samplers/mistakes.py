"""The usual mistakes of samplers as a table: a sentence, and the variance that the slip gives every shape.

A law that is missed by a factor is usually missed by a *known* factor: fans swapped, a gain that was not squared, a
truncation that was not corrected. The mistake whose variance fits the weights of all shapes is named.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from minires.init import fans
from minires.init.distributions import truncated_moments
from minires.theory.samplers import weights

Shape = tuple[int, ...]

ALIKE = 0.01
"""Two variances that agree within this are one to us."""


class Draw(NamedTuple):
    """Weights drawn for one shape: several draws along the first axis, float64."""

    shape: Shape
    w: np.ndarray


class Check(NamedTuple):
    """One question: a z-score where the answer is random, nan where it is an identity."""

    name: str
    shape: Shape
    measured: float
    expected: float
    ok: bool
    z: float = math.nan

    @classmethod
    def by_z(cls, name: str, shape: Shape, measured: float, expected: float, z: float, threshold: float) -> Check:
        return cls(name, shape, measured, expected, abs(z) <= threshold, z)


def probes(shape: Shape) -> tuple[Shape, Shape]:
    """Two shapes with other channel counts (10 and 24, 42 and 7), the second with another kernel too; depthwise ones
    for a depthwise convolution, whose filters see one channel."""
    inputs = (1, 1) if is_depthwise(shape) else (24, 7)
    return (10, inputs[0], *shape[2:]), (42, inputs[1], *(5, 2, 3)[: len(shape) - 2])


def is_depthwise(shape: Shape) -> bool:
    """(C, 1, kh, kw): the weight of a convolution in as many groups as channels."""
    return len(shape) > 2 and shape[1] == 1 and shape[0] > 1


def _in(shape: Shape) -> int:
    return fans(shape)[0]


def _out(shape: Shape) -> int:
    return fans(shape)[1]


def _area(shape: Shape) -> int:
    return math.prod(shape[2:])


IN, OUT, MEAN = "fan_in", "fan_out", "the mean of both fans"
FANS: dict[str, Callable[[Shape], float]] = {IN: _in, OUT: _out, MEAN: lambda shape: sum(fans(shape)) / 2}


class Claim:
    """What a law claims: variance(shape) = gain2 / fan(shape). nan where that does not apply.

    mode: which fan that is, "" for a law without one.  scale: what a stride that is counted makes of the variance.
    uniform: 1 where the weights drawn are uniform.
    """

    def __init__(self, law: Any, shapes: list[Shape], stride: int) -> None:
        self.variance, self.uniform = law.variance, math.nan
        self.depthwise = all(is_depthwise(shape) for shape in shapes)
        self.mode = next((mode for mode in FANS if self._goes_with(mode, [*shapes, *probes(shapes[0])])), "")
        self.fan = FANS.get(self.mode, lambda shape: math.nan)
        self.other = FANS.get({IN: OUT, OUT: IN}.get(self.mode, ""), lambda shape: math.nan)
        self.gain2 = law.variance(shapes[0]) * self.fan(shapes[0])
        self.scale = stride**2 if self.mode == OUT else 1

    def _goes_with(self, mode: str, shapes: list[Shape]) -> bool:
        gains = [self.variance(shape) * FANS[mode](shape) for shape in shapes]
        return max(gains) <= min(gains) * (1 + 1e-9)

    def of(self, mode: str, depthwise: bool = False) -> float:
        """gain2 of a law of this mode, for depthwise convolutions if so asked."""
        return self.gain2 if self.mode == mode and (self.depthwise or not depthwise) else math.nan


def _as_keras(s: Shape) -> Shape:
    """What (kh, kw, in, out) is for us."""
    return (s[-1], s[-2], *s[:-2])


MISTAKES: dict[str, Callable[[Claim, Shape], float]] = {
    "uniform bound lacks its sqrt(3)": lambda c, s: c.uniform * c.variance(s) / 3,
    "uniform bound sqrt(3) times too large": lambda c, s: c.uniform * c.variance(s) * 3,
    "stride ignored": lambda c, s: c.variance(s),
    "fan_in of a depthwise convolution counts all channels, where a filter sees one": (
        lambda c, s: c.of(IN, depthwise=True) / (s[0] * _area(s))
    ),
    "fan_out of a depthwise convolution counts one channel, where the law counts all": (
        lambda c, s: c.of(OUT, depthwise=True) / _area(s)
    ),
    "both fans of a depthwise convolution count one channel": lambda c, s: c.of(MEAN, depthwise=True) / _area(s),
    "fans swapped": lambda c, s: c.gain2 / c.other(s),
    "fan_in where {mode} was meant": lambda c, s: c.gain2 / _in(s),
    "fan_out where {mode} was meant": lambda c, s: c.gain2 / _out(s),
    "the mean of both fans where {mode} was meant": lambda c, s: c.gain2 / FANS[MEAN](s),
    "kernel area forgotten in fan_out": lambda c, s: 2 * c.of(MEAN) / (_in(s) + s[0]),
    "kernel area forgotten in fan_in": lambda c, s: 2 * c.of(MEAN) / (s[1] + _out(s)),
    "bracket misplaced, sqrt(2/fan_in + fan_out)": lambda c, s: 2 * c.of(MEAN) / _in(s) + _out(s),
    "bracket misplaced, sqrt(2/fan_out + fan_in)": lambda c, s: 2 * c.of(MEAN) / _out(s) + _in(s),
    "sum of the fans where their mean was meant": lambda c, s: c.of(MEAN) / (2 * c.fan(s)),
    "bracket misplaced, the root of the gain over the fan instead of the root of both": (
        lambda c, s: c.gain2 / c.fan(s) ** 2
    ),
    "gain used once instead of squared": lambda c, s: math.sqrt(c.gain2) / c.fan(s),
    "gain forgotten, 1/fan instead of {gain2:.4g}/fan": lambda c, s: 1 / c.fan(s),
    "gain squared twice": lambda c, s: c.gain2**2 / c.fan(s),
    "channels forgotten, only the kernel's area was counted": lambda c, s: c.gain2 / _area(s),
    "kernel area forgotten, only the channels were counted": lambda c, s: _area(s) * c.gain2 / c.fan(s),
    "one kernel axis forgotten": lambda c, s: math.prod(s[2:3]) * c.gain2 / c.fan(s),
    "PyTorch's default, kaiming_uniform with a = sqrt(5)": lambda c, s: 1 / (3 * _in(s)),
    "Xavier's law, 2/(fan_in + fan_out)": lambda c, s: 2 / (_in(s) + _out(s)),
    "He's law, 2/fan_in": lambda c, s: 2 / _in(s),
    "He's gain of 2 where the law has another": lambda c, s: 2 / c.fan(s),
    "shape read as (kh, kw, in, out), Keras's order": lambda c, s: c.gain2 / c.fan(_as_keras(s)),
    **{  # a stride changes how many outputs an input reaches, and so no other fan
        f"fan {what} by the square of a stride of {n}": lambda c, s, f=n**power: f * c.of(OUT) / c.fan(s)
        for n in (2, 3, 4)
        for what, power in (("divided", 2), ("multiplied", -2))
    },
    **{
        what + where: lambda c, s, cut=cut, power=power: truncated_moments(cut)[0] ** power * c.variance(s)
        for cut, where in ((2, ""), (3, " (cut at 3 standard deviations)"), (1, " (cut at 1 standard deviation)"))
        for what, power in (("truncation not corrected", 1), ("corrected for a truncation that is not there", -1))
    },
    **{
        f"fan {what[0]} by a number of groups, {n}: {what[1]}": lambda c, s, f=float(n) ** power: f * c.variance(s)
        for n in (2, 4, 8, 16, 32, 64)
        for what, power in (
            (("multiplied", "a filter sees its group alone"), -1),
            (("divided", "the shape has it already"), 1),
        )
    },
    "square root missing, the variance was used as the standard deviation": lambda c, s: c.variance(s) ** 2,
    "square root taken twice": lambda c, s: math.sqrt(c.variance(s)),
}
"""The likelier ones first: of those that fit equally well the first is named. nan: it does not apply to the claim."""


def variance_sentence(draws: list[Draw], claim: Claim, family: weights.Family, threshold: float) -> str:
    """Name the mistake that explains the variance at every shape; the plain factor where none does."""
    claim.uniform = 1.0 if family is weights.UNIFORM else math.nan
    found = _explanation(draws, claim, family, threshold)
    got = {d.shape: MISTAKES[found](claim, d.shape) if found else weights.mean_square(d.w) for d in draws}
    ratios = {shape: variance / claim.variance(shape) / claim.scale for shape, variance in got.items()}
    shape, at = draws[0].shape, ""
    if abs(ratios[shape] - 1) < ALIKE:  # this shape cannot show the mistake, a probe did
        shape = max(ratios, key=lambda s: abs(math.log(ratios[s])))
        at = f" (at shape {'x'.join(map(str, shape))})"
    sentence = found or _constant_variance(draws, family, threshold) or "a factor that no known mistake explains"
    return factor_sentence(ratios[shape], sentence.format(mode=claim.mode, gain2=claim.gain2)) + at


def factor_sentence(ratio: float, sentence: str) -> str:
    """The sentence, and by which factor the variance is off."""
    if ratio >= 1.3:
        return f"{sentence}: {ratio:.3g} times too large"
    if ratio <= 1 / 1.3 and "truncat" not in sentence:
        return f"{sentence}: {1 / ratio:.3g} times too small"
    return f"variance {ratio:.3f} of the law: {sentence}"


def _explanation(draws: list[Draw], claim: Claim, family: weights.Family, threshold: float) -> str:
    """The first of the mistakes that fit every shape about as well as the best one does."""
    lawful = np.array([claim.variance(d.shape) * claim.scale for d in draws])
    found = np.array([weights.mean_square(d.w) for d in draws])
    spread = np.array([family.second_moment_sd(d.w.size) for d in draws])
    fits = {}
    for sentence, variance in MISTAKES.items():
        expected = np.array([variance(claim, d.shape) for d in draws])
        misfit = float(np.max(np.abs(found / expected - 1) / spread))
        if misfit <= threshold and np.any(np.abs(expected / lawful - 1) >= ALIKE):
            fits[sentence] = misfit
    best = min(fits.values(), default=0.0)
    return next((sentence for sentence, misfit in fits.items() if misfit <= best + 1), "")


def _constant_variance(draws: list[Draw], family: weights.Family, threshold: float) -> str:
    """Does the variance ignore the shape?"""
    squares = [weights.mean_square(d.w) for d in draws]
    spread = family.second_moment_sd(min(d.w.size for d in draws))
    if len(draws) < 2 or max(squares) / min(squares) - 1 > 2 * threshold * spread:
        return ""
    return f"fan ignored: standard deviation {math.sqrt(squares[0]):.3g} whatever the shape"
