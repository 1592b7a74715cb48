"""Name the mistake of a sampler: what departs, by which factor, and which slip of the pen makes that factor.

A law that is missed by a factor is usually missed by a *known* factor: fans swapped, a gain that was not squared, a
truncation that was not corrected. Each `Mistake` predicts the variance at every shape; the one that explains all of
them is named.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from minires.init import fans
from minires.init.distributions import truncated_moments
from minires.theory.samplers import weights

Shape = tuple[int, ...]

ALIKE = 0.01
"""Two mistakes whose variances agree within this are one to us."""


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
    z: float
    ok: bool


def probes(shape: Shape) -> tuple[Shape, Shape]:
    """Two shapes with other channel counts (10 and 24, 42 and 7), the second with another kernel too; depthwise ones
    for a depthwise convolution, whose filters see one channel."""
    if is_depthwise(shape):
        return (10, 1, *shape[2:]), (42, 1, *(5, 2, 3)[: len(shape) - 2])
    return (10, 24, *shape[2:]), (42, 7, *(5, 2, 3)[: len(shape) - 2])


def is_depthwise(shape: Shape) -> bool:
    """(C, 1, kh, kw): the weight of a convolution in as many groups as channels."""
    return len(shape) > 2 and shape[1] == 1 and shape[0] > 1


class Mistake(NamedTuple):
    """A sentence and the variance that this mistake gives each shape."""

    sentence: str
    variance: Callable[[Shape], float]


def mode_of(law: Any, shapes: Sequence[Shape]) -> str:
    """Which fan the law's variance is inversely proportional to, found from its values."""
    for mode, fan in _FANS.items():
        gains = [law.variance(shape) * fan(shape) for shape in shapes]
        if max(gains) <= min(gains) * (1 + 1e-9):
            return mode
    return "none"


_FANS: dict[str, Callable[[Shape], float]] = {
    "fan_in": lambda shape: fans(shape)[0],
    "fan_out": lambda shape: fans(shape)[1],
    "fan_avg": lambda shape: sum(fans(shape)) / 2,
}
_FAN_NAMES = {"fan_in": "fan_in", "fan_out": "fan_out", "fan_avg": "the mean of both fans"}


def _mistakes(law: Any, shapes: Sequence[Shape], stride: int, uniform: bool) -> Iterator[Mistake]:
    """The usual mistakes, the likelier first; where two give the same variance everywhere the first is named."""
    v = law.variance
    mode = mode_of(law, [*shapes, *probes(shapes[0])])
    if uniform:
        yield Mistake("uniform bound lacks its sqrt(3)", lambda s: v(s) / 3)
        yield Mistake("uniform bound sqrt(3) times too large", lambda s: 3 * v(s))
    if stride > 1 and mode == "fan_out":
        yield Mistake("stride ignored", v)
    if mode != "none" and all(is_depthwise(shape) for shape in shapes):
        yield from _depthwise_mistakes(mode, v(shapes[0]) * _FANS[mode](shapes[0]))
    if mode != "none":
        yield from _fan_mistakes(mode, v(shapes[0]) * _FANS[mode](shapes[0]))
    for n in (2, 3, 4) if mode == "fan_out" else ():  # a stride changes how many outputs an input reaches, no other fan
        yield Mistake(f"fan divided by the square of a stride of {n}", lambda s, n=n: n * n * v(s))
        yield Mistake(f"fan multiplied by the square of a stride of {n}", lambda s, n=n: v(s) / (n * n))
    for a in (2.0, 3.0, 1.0):
        lost = truncated_moments(a)[0]
        extra = "" if a == 2 else f" (cut at {a:g} standard deviations)"
        yield Mistake("truncation not corrected" + extra, lambda s, r=lost: r * v(s))
        yield Mistake("corrected for a truncation that is not there" + extra, lambda s, r=lost: v(s) / r)
    for n in (2, 4, 8, 16, 32, 64):
        yield Mistake(
            f"fan multiplied by a number of groups, {n}: a filter sees its group alone", lambda s, n=n: v(s) / n
        )
        yield Mistake(f"fan divided by a number of groups, {n}: the shape has it already", lambda s, n=n: v(s) * n)
    yield Mistake("square root missing, the variance was used as the standard deviation", lambda s: v(s) ** 2)
    yield Mistake("square root taken twice", lambda s: math.sqrt(v(s)))


def _depthwise_mistakes(mode: str, gain2: float) -> Iterator[Mistake]:
    """fan_in is the kernel's area, fan_out that times all channels (as PyTorch and Keras count)."""

    def area(s: Shape) -> int:
        return math.prod(s[2:])

    if mode == "fan_in":
        sentence = "fan_in of a depthwise convolution counts all channels, where a filter sees one"
        yield Mistake(sentence, lambda s: gain2 / (s[0] * area(s)))
    if mode == "fan_out":
        sentence = "fan_out of a depthwise convolution counts one channel, where the law counts all"
        yield Mistake(sentence, lambda s: gain2 / area(s))
    if mode == "fan_avg":
        yield Mistake("both fans of a depthwise convolution count one channel", lambda s: gain2 / area(s))


def _fan_mistakes(mode: str, gain2: float) -> Iterator[Mistake]:
    fan = _FANS[mode]

    def area(s: Shape) -> int:
        return math.prod(s[2:])

    if mode != "fan_avg":
        other = "fan_out" if mode == "fan_in" else "fan_in"
        yield Mistake("fans swapped", lambda s: gain2 / _FANS[other](s))
    for name in ("fan_in", "fan_out", "fan_avg"):
        if name != mode:
            sentence = f"{_FAN_NAMES[name]} where {_FAN_NAMES[mode]} was meant"
            yield Mistake(sentence, lambda s, f=_FANS[name]: gain2 / f(s))
    if mode == "fan_avg":
        half = 2 * gain2  # over the sum of the fans
        yield Mistake("kernel area forgotten in fan_out", lambda s: half / (fans(s)[0] + s[0]))
        yield Mistake("kernel area forgotten in fan_in", lambda s: half / (s[1] + fans(s)[1]))
        yield Mistake("bracket misplaced, sqrt(2/fan_in + fan_out)", lambda s: half / fans(s)[0] + fans(s)[1])
        yield Mistake("bracket misplaced, sqrt(2/fan_out + fan_in)", lambda s: half / fans(s)[1] + fans(s)[0])
        yield Mistake("sum of the fans where their mean was meant", lambda s: gain2 / (2 * fan(s)))
    root = "the root of the gain over the fan instead of the root of both"
    yield Mistake(f"bracket misplaced, {root}", lambda s: gain2 / fan(s) ** 2)
    if gain2 != 1:
        yield Mistake("gain used once instead of squared", lambda s: math.sqrt(gain2) / fan(s))
        yield Mistake(f"gain forgotten, 1/fan instead of {gain2:.4g}/fan", lambda s: 1 / fan(s))
        yield Mistake("gain squared twice", lambda s: gain2**2 / fan(s))
    yield Mistake("channels forgotten, only the kernel's area was counted", lambda s: gain2 / area(s))
    yield Mistake("kernel area forgotten, only the channels were counted", lambda s: area(s) * gain2 / fan(s))
    yield Mistake("one kernel axis forgotten", lambda s: (s[2] if len(s) > 2 else 1) * gain2 / fan(s))
    yield Mistake("PyTorch's default, kaiming_uniform with a = sqrt(5)", lambda s: 1 / (3 * fans(s)[0]))
    yield Mistake("Xavier's law, 2/(fan_in + fan_out)", lambda s: 2 / sum(fans(s)))
    yield Mistake("He's law, 2/fan_in", lambda s: 2 / fans(s)[0])
    if gain2 != 2:
        yield Mistake("He's gain of 2 where the law has another", lambda s: 2 / fan(s))
    yield Mistake("shape read as (kh, kw, in, out), Keras's order", lambda s: gain2 / _keras_fan(mode, s))


def _keras_fan(mode: str, shape: Shape) -> float:
    area = math.prod(shape[:-2])
    fan_in, fan_out = shape[-2] * area, shape[-1] * area
    return {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[mode]


def diagnose(draws: list[Draw], law: Any, checks: list[Check], stride: int, threshold: float) -> str:
    """One sentence for everything that failed: dependence, mean, variance, distribution, bound."""
    failed = {c.name for c in checks if not c.ok}
    dependence = _dependence(draws, failed)
    if dependence:
        return dependence
    if "mean" in failed:
        return _mean_sentence(draws)
    known, measured = weights.family(law, draws[0].shape), _measured_family(draws, threshold)
    parts = []
    if "mean square" in failed:
        parts.append(_variance_sentence(draws, law, measured or known, stride, threshold))
    if "kurtosis" in failed and not (parts and "truncation" in parts[0]):
        parts.append(_family_sentence(draws, known, measured))
    return "; ".join(parts) or "exceeds the bound of its law"


def _measured_family(draws: list[Draw], threshold: float) -> weights.Family | None:
    """The family whose kurtosis every sample has; a normal cut at 3 is told from a whole one by its bound too."""
    for candidate in sorted(weights.FAMILIES, key=lambda f: abs(weights.family_z(draws[0].w, f))):
        if all(abs(weights.family_z(d.w, candidate)) <= threshold for d in draws):
            return candidate
    return None


def _dependence(draws: list[Draw], failed: set[str]) -> str | None:
    """Entries that repeat or are orthogonal, or whose sums do not have the variance of independent terms."""
    w = draws[0].w[0].reshape(draws[0].shape[0], -1)
    if len(w) > 1 and np.allclose(w, w[0], rtol=1e-6, atol=0):
        return "all filters are copies of one another"
    if w.shape[1] > 1 and np.allclose(w, w[:, :1], rtol=1e-6, atol=0):
        return "all weights of a filter are the same"
    own = weights.mean_square(w) * max(w.shape)
    if min(w.shape) > 1 and orthogonal_identity(w, own, False).ok:
        return "orthogonal where independent weights were meant"
    if "mean" not in failed and failed & {"sums over a filter", "sums over filters"}:
        return "entries are not independent: their sums do not have the variance of independent terms"
    return None


def _mean_sentence(draws: list[Draw]) -> str:
    w = draws[0].w
    mean, sd = float(w.mean()), float(w.std())
    one_sided = ", one-sided: every weight has the same sign" if w.min() >= 0 or w.max() <= 0 else ""
    return f"mean {mean:.4g}, {abs(mean) / sd:.2g} standard deviations off 0: not centered{one_sided}"


def _family_sentence(draws: list[Draw], known: weights.Family, measured: weights.Family | None) -> str:
    if measured is not None:
        return f"{measured.name} where {known.name} was meant"
    kurtosis = weights.empirical_kurtosis(draws[0].w)
    return f"kurtosis {kurtosis:.3f} where {known.name} has {known.m4:.3f}"


def _variance_sentence(draws: list[Draw], law: Any, family: weights.Family, stride: int, threshold: float) -> str:
    """Name the mistake that explains the variance at every shape; the plain factor where none does."""
    found = _explanation(draws, law, family, stride, threshold)
    scale = stride**2 if stride > 1 and mode_of(law, [d.shape for d in draws]) == "fan_out" else 1
    got = {d.shape: found.variance(d.shape) if found else weights.mean_square(d.w) for d in draws}
    ratios = {shape: variance / law.variance(shape) / scale for shape, variance in got.items()}
    shape = draws[0].shape
    if abs(ratios[shape] - 1) < ALIKE:  # this shape cannot show the mistake, a probe did
        shape = max(ratios, key=lambda s: abs(math.log(ratios[s])))
    at = "" if shape == draws[0].shape else f" (at shape {'x'.join(map(str, shape))})"
    if found:
        return factor_sentence(ratios[shape], found.sentence) + at
    fixed = _constant_variance(draws, family, threshold)
    return factor_sentence(ratios[shape], fixed or "a factor that no known mistake explains") + at


def factor_sentence(ratio: float, sentence: str) -> str:
    if ratio >= 1.3:
        return f"{sentence}: {ratio:.3g} times too large"
    if ratio <= 1 / 1.3 and "truncat" not in sentence:
        return f"{sentence}: {1 / ratio:.3g} times too small"
    return f"variance {ratio:.3f} of the law: {sentence}"


def _explanation(draws: list[Draw], law: Any, family: weights.Family, stride: int, threshold: float) -> Mistake | None:
    """The first of the mistakes that fit every shape about as well as the best one does."""
    fits = []
    for mistake in _mistakes(law, [d.shape for d in draws], stride, family is weights.UNIFORM):
        misfit = max(
            abs(weights.mean_square(d.w) / mistake.variance(d.shape) - 1) / family.second_moment_sd(d.w.size)
            for d in draws
        )
        if misfit <= threshold:
            fits.append((misfit, mistake))
    if not fits:
        return None
    best = min(misfit for misfit, _ in fits)
    return next(mistake for misfit, mistake in fits if misfit <= best + 1)


def _constant_variance(draws: list[Draw], family: weights.Family, threshold: float) -> str | None:
    """Does the variance ignore the shape?"""
    if len(draws) < 2:
        return None
    squares = [weights.mean_square(d.w) for d in draws]
    spread = family.second_moment_sd(min(d.w.size for d in draws))
    if max(squares) / min(squares) - 1 > 2 * threshold * spread:
        return None
    return f"fan ignored: standard deviation {math.sqrt(squares[0]):.3g} whatever the shape"


def orthogonal_identity(w: np.ndarray, gain2: float, delta: bool) -> weights.Identity:
    single = w.astype(np.float32)  # somebody else's weights may have been float32: judge by that rounding
    if delta:
        center = tuple(k // 2 for k in w.shape[2:])
        found = weights.orthogonality(single[(..., *center)], math.sqrt(gain2))
        rest = single.copy()
        rest[(..., *center)] = 0
        return weights.Identity(max(found.error, float(np.abs(rest).max())), found.tolerance)
    return weights.orthogonality(single, math.sqrt(gain2))
