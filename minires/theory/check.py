"""Does somebody's initializer obey the law it claims, and if not, which mistake was made?

`check_initializer` draws weights for the shape in question and for shapes of the same kind with other channel counts,
so that mistakes which agree on one shape (fan_in against fan_out of a square layer) come apart. It then asks, each
with a z-score and a family-wise false-alarm rate of 1e-6: is the mean 0, the mean square the law's variance, the
kurtosis that of the law's distribution, are entries independent, is the bound kept?

A law that is missed by a factor is usually missed by a *known* factor: fans swapped, a gain that was not squared, a
truncation that was not corrected. Each `Mistake` below predicts the variance at every shape; the mistake that
explains all of them is named. Orthogonal and delta-orthogonal weights, Dirac and constants are checked as identities.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np

from minires.init import fans
from minires.init.distributions import truncated_moments
from minires.theory import weights
from minires.theory.report import render
from minires.theory.stats import z_threshold

Shape = tuple[int, ...]
Sampler = Callable[[Shape, np.random.Generator], Any]

ENTRIES = 200_000  # drawn per shape: a variance is then known to 0.3 % (normal), 0.2 % (uniform)
HAAR_DRAWS = 400  # of an 8x8 matrix: a missing sign moves the mean corner by 16 standard deviations
ALIKE = 0.01  # two mistakes whose variances agree within this are one to us


class Check(NamedTuple):
    """One question: a z-score where the answer is random, nan where it is an identity."""

    name: str
    shape: Shape
    measured: float
    expected: float
    z: float
    ok: bool


@dataclass(frozen=True)
class InitializerReport:
    """ok: every check passed.  verdict: one sentence.  checks: the rows of the table.  z: {(check, shape): z-score}."""

    ok: bool
    verdict: str
    checks: tuple[Check, ...]
    law: str

    @property
    def z(self) -> dict[tuple[str, Shape], float]:
        return {(c.name, c.shape): c.z for c in self.checks if not math.isnan(c.z)}

    def table(self) -> Any:
        """The report as a rich table."""
        from rich.table import Table

        table = Table()
        table.add_column("check")
        table.add_column("shape")
        for name in ("measured", "law", "z"):
            table.add_column(name, justify="right")
        table.add_column("")
        for c in self.checks:
            z = "" if math.isnan(c.z) else f"{c.z:+.2f}"
            shape = "x".join(map(str, c.shape))
            table.add_row(c.name, shape, f"{c.measured:.6g}", f"{c.expected:.6g}", z, "ok" if c.ok else "departs")
        return table

    def __str__(self) -> str:
        return f"{self.verdict}\n{render(self.table(), width=110)}"


class Draw(NamedTuple):
    """Weights drawn for one shape: several draws along the first axis, float64."""

    shape: Shape
    w: np.ndarray


def check_initializer(
    sampler: Sampler, shape: Sequence[int], law: Any, *, stride: int = 1, rng: int | np.random.Generator = 0
) -> InitializerReport:
    """Check ``sampler(shape, rng) -> array`` (anybody's) against ``law``, an initializer of minires.

    Args:
        shape: of the weight, (C_out, C_in, kh, kw) or (out, in); the sampler is asked for similar shapes too.
        stride: of the convolution, for samplers that claim to count it: a law in fan_out mode then means the outputs
            that really touch an input, fan_out / stride^2. The laws of PyTorch, Keras and minires ignore the stride.
        rng: seed or generator.

    Raises ValueError if the sampler's array has another shape than it was asked for, or is not finite.
    """
    shape = tuple(int(s) for s in shape)
    rng = np.random.default_rng(rng)
    name = _law_name(law)
    if law.variance(shape) == 0 or type(law).__name__ in ("Constant", "Dirac"):
        return _check_fixed(sampler, shape, law, name, rng)
    draws = list(_draws(sampler, shape, rng))
    if _ignores_generator(draws[0]):
        check = Check("two draws differ", shape, 0.0, 1.0, math.nan, False)
        return InitializerReport(False, "ignores its generator: every draw is the same", (check,), name)
    if "Orthogonal" in type(law).__name__:
        return _check_orthogonal(sampler, draws, law, name, rng)
    return _check_independent(draws, law, name, stride)


# ---- drawing


def _draws(sampler: Sampler, shape: Shape, rng: np.random.Generator) -> Iterator[Draw]:
    """The shape asked for, then shapes of the same kind; those that the sampler refuses are left out."""
    for probe in (shape, *_probes(shape)):
        count = max(2, -(-ENTRIES // math.prod(probe)))
        try:
            drawn = [np.asarray(sampler(probe, rng), dtype=float) for _ in range(count)]
        except Exception:
            if probe == shape:
                raise
            continue
        if drawn[0].shape == probe:
            yield Draw(probe, np.stack(drawn))
        elif probe == shape:
            raise ValueError(f"asked for shape {shape}, the sampler gave {drawn[0].shape}")


def _probes(shape: Shape) -> tuple[Shape, Shape]:
    """Two shapes with other channel counts (10 and 24, 42 and 7), the second with another kernel too."""
    return (10, 24, *shape[2:]), (42, 7, *(5, 2, 3)[: len(shape) - 2])


def _ignores_generator(draw: Draw) -> bool:
    return bool(np.array_equal(draw.w[0], draw.w[1]) and np.ptp(draw.w[0]) > 0)


# ---- independent entries


def _check_independent(draws: list[Draw], law: Any, name: str, stride: int) -> InitializerReport:
    threshold = z_threshold(6 * len(draws))
    if not all(np.isfinite(d.w).all() for d in draws):
        raise ValueError("the sampler's weights are not all finite")
    if all(np.ptp(d.w) == 0 for d in draws):
        check = Check("weights differ", draws[0].shape, 0.0, 1.0, math.nan, False)
        return InitializerReport(False, f"constant {draws[0].w.flat[0]:.4g}: every weight is the same", (check,), name)
    scale = stride**2 if stride > 1 and _mode(law, [d.shape for d in draws]) == "fan_out" else 1
    checks = [check for d in draws for check in _moment_checks(d, law, scale, threshold)]
    if all(c.ok for c in checks):
        return InitializerReport(True, f"obeys {name}", tuple(checks), name)
    verdict = _diagnose(draws, law, checks, stride, threshold)
    return InitializerReport(False, verdict, tuple(checks), name)


def _moment_checks(draw: Draw, law: Any, scale: float, threshold: float) -> Iterator[Check]:
    """Mean, mean square, kurtosis, bound and independence for one shape; z-scores use the law's distribution."""
    shape, w = draw
    known, variance = weights.family(law, shape), scale * law.variance(shape)
    own = math.sqrt(max(float(w.var()), 1e-300))  # the mean is judged by the sample's own spread

    def check(label: str, measured: float, expected: float, sd: float) -> Check:
        z = (measured - expected) / sd
        return Check(label, shape, measured, expected, z, abs(z) <= threshold)

    yield check("mean", float(w.mean()), 0.0, own / math.sqrt(w.size))
    yield check("mean square", weights.mean_square(w), variance, variance * known.second_moment_sd(w.size))
    yield check("kurtosis", weights.empirical_kurtosis(w), known.m4, known.kurtosis_sd(w.size))
    for label, sums, terms in (("sums over a filter", *_sums(w, 2)), ("sums over filters", *_sums(w, 1))):
        kurtosis = 3 + (known.m4 - 3) / terms  # of a sum of that many entries
        ratio = float(np.mean(sums**2)) / (terms * own**2)
        yield check(label, ratio, 1.0, math.sqrt((kurtosis - 1) / sums.size + (known.m4 - 1) / w.size))
    if math.isfinite(known.bound):
        largest, limit = float(np.abs(w).max()), known.bound * math.sqrt(variance)
        yield Check("largest", shape, largest, limit, math.nan, largest <= limit * (1 + 1e-6))


def _sums(w: np.ndarray, axis: int) -> tuple[np.ndarray, int]:
    """Sums of (draws, C_out, fan_in) over the fan (axis 2) or the filters (axis 1), and how many terms each has."""
    flat = w.reshape(w.shape[0], w.shape[1], -1)
    return flat.sum(axis=axis), flat.shape[axis]


# ---- naming the mistake


class Mistake(NamedTuple):
    """A sentence and the variance that this mistake gives each shape."""

    sentence: str
    variance: Callable[[Shape], float]


def _mode(law: Any, shapes: Sequence[Shape]) -> str:
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
    mode = _mode(law, [*shapes, *_probes(shapes[0])])
    if uniform:
        yield Mistake("uniform bound lacks its sqrt(3)", lambda s: v(s) / 3)
        yield Mistake("uniform bound sqrt(3) times too large", lambda s: 3 * v(s))
    if stride > 1 and mode == "fan_out":
        yield Mistake("stride ignored", v)
    if mode != "none":
        yield from _fan_mistakes(mode, v(shapes[0]) * _FANS[mode](shapes[0]))
    for n in (2, 3, 4):
        yield Mistake(f"fan divided by the square of a stride of {n}", lambda s, n=n: n * n * v(s))
        yield Mistake(f"fan multiplied by the square of a stride of {n}", lambda s, n=n: v(s) / (n * n))
    for a in (2.0, 3.0, 1.0):
        lost = truncated_moments(a)[0]
        extra = "" if a == 2 else f" (cut at {a:g} standard deviations)"
        yield Mistake("truncation not corrected" + extra, lambda s, r=lost: r * v(s))
        yield Mistake("corrected for a truncation that is not there" + extra, lambda s, r=lost: v(s) / r)
    yield Mistake("square root missing, the variance was used as the standard deviation", lambda s: v(s) ** 2)
    yield Mistake("square root taken twice", lambda s: math.sqrt(v(s)))


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
        yield Mistake("sum of the fans where their mean was meant", lambda s: gain2 / (2 * fan(s)))
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


def _diagnose(draws: list[Draw], law: Any, checks: list[Check], stride: int, threshold: float) -> str:
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
    if min(w.shape) > 1 and _orthogonal_identity(w, own, False).ok:
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
    scale = stride**2 if stride > 1 and _mode(law, [d.shape for d in draws]) == "fan_out" else 1
    got = {d.shape: found.variance(d.shape) if found else weights.mean_square(d.w) for d in draws}
    ratios = {shape: variance / law.variance(shape) / scale for shape, variance in got.items()}
    shape = draws[0].shape
    if abs(ratios[shape] - 1) < ALIKE:  # this shape cannot show the mistake, a probe did
        shape = max(ratios, key=lambda s: abs(math.log(ratios[s])))
    at = "" if shape == draws[0].shape else f" (at shape {'x'.join(map(str, shape))})"
    if found:
        return _factor_sentence(ratios[shape], found.sentence) + at
    fixed = _constant_variance(draws, family, threshold)
    return _factor_sentence(ratios[shape], fixed or "a factor that no known mistake explains") + at


def _factor_sentence(ratio: float, sentence: str) -> str:
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


# ---- identities


def _check_fixed(sampler: Sampler, shape: Shape, law: Any, name: str, rng: np.random.Generator) -> InitializerReport:
    """Zeros, a constant or Dirac: the weights are known, entry by entry."""
    drawn = np.asarray(sampler(shape, rng), dtype=float)
    if drawn.shape != shape:
        raise ValueError(f"asked for shape {shape}, the sampler gave {drawn.shape}")
    expected = law.sample(shape, rng, np.float64)
    wrong = float(np.mean(~np.isclose(drawn, expected, rtol=1e-6, atol=0)))
    check = Check("share of wrong entries", shape, wrong, 0.0, math.nan, wrong == 0)
    verdict = f"obeys {name}" if wrong == 0 else f"{100 * wrong:.3g} % of the entries are not those of {name}"
    return InitializerReport(wrong == 0, verdict, (check,), name)


def _check_orthogonal(
    sampler: Sampler, draws: list[Draw], law: Any, name: str, rng: np.random.Generator
) -> InitializerReport:
    """Orthogonality in every draw, then Haar's measure from many draws of a small matrix."""
    delta = type(law).__name__ == "DeltaOrthogonal"
    checks, sentence = [], None
    for draw in draws if not delta else draws[:1]:
        gain2 = _orthogonal_gain2(law, draw.shape)
        identities = [_orthogonal_identity(w, gain2, delta) for w in draw.w[:4]]
        worst = max(identities, key=lambda identity: identity.error / identity.tolerance)
        checks.append(Check("W Wᵀ = gain² I", draw.shape, worst.error, worst.tolerance, math.nan, worst.ok))
        if not worst.ok:
            sentence = sentence or _not_orthogonal(draw.w[0], gain2, delta)
    if sentence is None:
        z = _haar(sampler, law, draws[0].shape, rng)
        threshold = z_threshold(2)
        labels = ("mean of W[0, 0]", "mean of W[0, 0]⁴")
        checks += [
            Check(n, s, measured, expected, z_score, abs(z_score) <= threshold)
            for n, (s, measured, expected, z_score) in zip(labels, z, strict=True)
        ]
        if not checks[-2].ok:
            sentence = "Q's sign not fixed: not uniform over rotations, multiply Q by the sign of R's diagonal"
        elif not checks[-1].ok:
            sentence = "orthogonal, but not uniform over rotations (Haar)"
    return InitializerReport(sentence is None, sentence or f"obeys {name}", tuple(checks), name)


def _orthogonal_gain2(law: Any, shape: Shape) -> float:
    """gain^2 from the law's own variance, gain^2 / max(rows, columns) over all taps (delta: over k^2 taps more)."""
    rows, columns = _orthogonal_sides(law, shape)
    area = math.prod(shape[2:]) if type(law).__name__ == "DeltaOrthogonal" else 1
    return law.variance(shape) * max(rows, columns) * area


def _orthogonal_sides(law: Any, shape: Shape) -> tuple[int, int]:
    if type(law).__name__ == "DeltaOrthogonal":
        return shape[0], shape[1]
    return shape[0], math.prod(shape[1:])


def _orthogonal_identity(w: np.ndarray, gain2: float, delta: bool) -> weights.Identity:
    single = w.astype(np.float32)  # somebody else's weights may have been float32: judge by that rounding
    if delta:
        center = tuple(k // 2 for k in w.shape[2:])
        found = weights.orthogonality(single[(..., *center)], math.sqrt(gain2))
        rest = single.copy()
        rest[(..., *center)] = 0
        return weights.Identity(max(found.error, float(np.abs(rest).max())), found.tolerance)
    return weights.orthogonality(single, math.sqrt(gain2))


def _not_orthogonal(w: np.ndarray, gain2: float, delta: bool) -> str:
    """What the matrix is instead: orthogonal with another gain, along other axes, or plain random numbers."""
    if delta:
        center = tuple(k // 2 for k in w.shape[2:])
        return (
            "weights away from the kernel's center"
            if np.abs(w).sum() > np.abs(w[(..., *center)]).sum() * (1 + 1e-6)
            else "the center tap is not orthogonal"
        )
    matrix = w.reshape(len(w), -1)
    own = float(np.mean(np.square(matrix))) * max(matrix.shape)
    if _orthogonal_identity(w, own, False).ok:
        return _factor_sentence(own / gain2, "orthogonal, with another gain")
    for sentence, other in _other_flattenings(w):
        own = float(np.mean(np.square(other))) * max(other.shape)
        if _orthogonal_identity(other, own, False).ok:
            return sentence
    if abs(weights.family_z(w, weights.NORMAL)) < 5 and w.size > 100:
        return "independent normal weights where orthogonal ones were meant"
    return "not orthogonal"


def _other_flattenings(w: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    if w.ndim == 4:
        yield "each kernel tap orthogonal on its own, not the whole filter", w[..., 0, 0]
        yield (
            "orthogonal with the axes in another order, (C_in, C_out kh kw)",
            w.swapaxes(0, 1).reshape(w.shape[1], -1),
        )


def _haar(
    sampler: Sampler, law: Any, shape: Shape, rng: np.random.Generator
) -> tuple[tuple[Shape, float, float, float], ...]:
    """Mean and fourth moment of a corner weight over many draws of an 8x8 matrix (of ``shape`` if that is refused)."""
    small = (8, 8, *(1 for _ in shape[2:]))
    center = tuple(0 for _ in shape[2:])
    try:
        refused = np.shape(sampler(small, rng)) != small
    except Exception:
        refused = True
    if refused:
        small, center = shape, tuple(k // 2 for k in shape[2:])
    index = (0, 0, *center)
    gain = math.sqrt(_orthogonal_gain2(law, small))
    corner = np.array([float(np.asarray(sampler(small, rng))[index]) for _ in range(HAAR_DRAWS)]) / gain
    n = max(_orthogonal_sides(law, small))
    first, fourth = weights.haar_z(corner, n)
    return (small, float(corner.mean()), 0.0, first), (small, float(np.mean(corner**4)), 3 / (n * (n + 2)), fourth)


def _law_name(law: Any) -> str:
    """HeNormal for HeNormal(), with the settings that are not the default ones otherwise."""
    settings = [f"{f.name}={value!r}" for f in fields(law) if (value := getattr(law, f.name)) != f.default]
    return type(law).__name__ + (f"({', '.join(settings)})" if settings else "")
