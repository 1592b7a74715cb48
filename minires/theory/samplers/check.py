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
from typing import Any

import numpy as np

from minires import init
from minires.checks import generator, whole_shape
from minires.checks.wording import takes
from minires.theory.report import render
from minires.theory.samplers import weights
from minires.theory.samplers.mistakes import (
    Check,
    Draw,
    Shape,
    diagnose,
    factor_sentence,
    mode_of,
    orthogonal_identity,
    probes,
)
from minires.theory.stats import z_threshold

Sampler = Callable[[Shape, np.random.Generator], Any]

ENTRIES = 200_000  # drawn per shape: a variance is then known to 0.3 % (normal), 0.2 % (uniform)
HAAR_DRAWS = 400  # of an 8x8 matrix: a missing sign moves the mean corner by 16 standard deviations


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
    shape, rng = whole_shape(shape), generator(rng)
    law = init.by_name(law)
    if len(shape) < 2 or min(shape) < 1:
        raise ValueError(f"shape is {shape}; expected (out, in) or (out, in, kh, kw), none of them 0")
    if not takes(sampler, shape, rng):
        raise TypeError(f"sampler is {sampler!r:.60}; expected a function sampler(shape, rng) -> array")
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
    for probe in (shape, *probes(shape)):
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
    scale = stride**2 if stride > 1 and mode_of(law, [d.shape for d in draws]) == "fan_out" else 1
    checks = [check for d in draws for check in _moment_checks(d, law, scale, threshold)]
    if all(c.ok for c in checks):
        return InitializerReport(True, f"obeys {name}", tuple(checks), name)
    verdict = diagnose(draws, law, checks, stride, threshold)
    unnamed = "fan ignored" in verdict or "no known mistake" in verdict
    if unnamed and all(c.ok for c in checks if c.shape == draws[0].shape):
        verdict += f"; right for {'x'.join(map(str, draws[0].shape))} itself"
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
        identities = [orthogonal_identity(w, gain2, delta) for w in draw.w[:4]]
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
        if _one_signed(draws[0].w):
            sentence = (
                "orthogonal, but not uniform over rotations (Haar): a row or column has one sign, as if the matrix "
                "before QR had been drawn with a mean that is not 0; draw normal numbers"
            )
        elif not checks[-2].ok:
            sentence = "Q's sign not fixed: not uniform over rotations, multiply Q by the sign of R's diagonal"
        elif not checks[-1].ok:
            sentence = "orthogonal, but not uniform over rotations (Haar)"
    return InitializerReport(sentence is None, sentence or f"obeys {name}", tuple(checks), name)


def _one_signed(draws: np.ndarray) -> bool:
    """Whether the first row or column has one sign in every draw: QR keeps the direction of a mean."""
    flat = draws.reshape(len(draws), draws.shape[1], -1)
    for line in (flat[:, :, 0], flat[:, 0, :]):
        if line.shape[1] >= 8 and (np.abs(np.sign(line).sum(axis=1)) == line.shape[1]).all():
            return True
    return False


def _orthogonal_gain2(law: Any, shape: Shape) -> float:
    """gain^2 from the law's own variance, gain^2 / max(rows, columns) over all taps (delta: over k^2 taps more)."""
    rows, columns = _orthogonal_sides(law, shape)
    area = math.prod(shape[2:]) if type(law).__name__ == "DeltaOrthogonal" else 1
    return law.variance(shape) * max(rows, columns) * area


def _orthogonal_sides(law: Any, shape: Shape) -> tuple[int, int]:
    if type(law).__name__ == "DeltaOrthogonal":
        return shape[0], shape[1]
    return shape[0], math.prod(shape[1:])


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
    if orthogonal_identity(w, own, False).ok:
        return factor_sentence(own / gain2, "orthogonal, with another gain")
    for sentence, other in _other_flattenings(w):
        own = float(np.mean(np.square(other))) * max(other.shape)
        if orthogonal_identity(other, own, False).ok:
            return sentence
    if abs(weights.family_z(w, weights.NORMAL)) < 5 and w.size > 100:
        return "independent normal weights where orthogonal ones were meant"
    return "not orthogonal"


def _other_flattenings(w: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    if w.ndim == 4:
        yield "each kernel tap orthogonal on its own, not the whole filter", w[..., 0, 0]
        yield "orthogonal over the wrong axes, (C_out C_in, kh kw)", w.reshape(w.shape[0] * w.shape[1], -1)
        yield (
            "orthogonal over the wrong axes, (C_out kh, C_in kw)",
            w.swapaxes(1, 2).reshape(w.shape[0] * w.shape[2], -1),
        )
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
