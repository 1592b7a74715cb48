"""Does somebody's initializer obey the law it claims, and if not, which mistake was made?

`check_initializer` draws weights for the shape in question and for shapes of the same kind with other channel counts,
so that mistakes which agree on one shape (fan_in against fan_out of a square layer) come apart. Then it asks, with
z-scores and a false-alarm rate of 1e-6 in all: is the mean 0, the mean square the law's variance, the kurtosis that of
the law's distribution, are entries independent, is the bound kept? A variance that is off is looked up in the table of
`mistakes`. Orthogonal weights, Dirac and constants are checked as identities.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from minires import init
from minires.checks import generator, whole_shape
from minires.checks.wording import takes
from minires.theory.report import empty_table, render
from minires.theory.samplers import weights
from minires.theory.samplers.mistakes import probes, variance_sentence
from minires.theory.samplers.orthogonal import check_orthogonal, is_orthogonal
from minires.theory.samplers.weights import Check, Draws, Sampler, Shape
from minires.theory.stats import z_threshold

ENTRIES = 200_000  # drawn per shape: a variance is then known to 0.3 % (normal), 0.2 % (uniform)


@dataclass(frozen=True)
class InitializerReport:
    """ok: every check passed.  verdict: one sentence.  checks: the rows of the table."""

    ok: bool
    verdict: str
    checks: tuple[Check, ...]

    def table(self) -> Any:
        """The report as a rich table."""
        table = empty_table(("check", "shape"), ("measured", "law", "z"), "")
        for c in self.checks:
            z = "" if math.isnan(c.z) else f"{c.z:+.2f}"
            numbers = f"{c.measured:.6g}", f"{c.expected:.6g}", z
            table.add_row(c.name, "x".join(map(str, c.shape)), *numbers, "ok" if c.ok else "departs")
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
    shape, rng, law = whole_shape(shape), generator(rng), init.by_name(law)
    if len(shape) < 2 or min(shape) < 1:
        raise ValueError(f"shape is {shape}; expected (out, in) or (out, in, kh, kw), none of them 0")
    if not takes(sampler, shape, rng):
        raise TypeError(f"sampler is {sampler!r:.60}; expected a function sampler(shape, rng) -> array")
    if law.variance(shape) == 0:
        fault, checks = _check_fixed(sampler, shape, law, rng)
    else:
        draws = list(_draws(sampler, shape, rng))
        first, second = draws[0][1][:2]
        if np.array_equal(first, second) and np.ptp(first) > 0:
            fault = "ignores its generator: every draw is the same"
            checks = [Check("two draws differ", shape, 0.0, 1.0, False)]
        elif isinstance(law, init.Orthogonal | init.DeltaOrthogonal):
            fault, checks = check_orthogonal(sampler, draws, law, rng)
        else:
            fault, checks = _check_independent(draws, law, stride)
    return InitializerReport(fault is None, fault or f"obeys {_law_name(law)}", tuple(checks))


def _law_name(law: Any) -> str:
    """HeNormal for HeNormal(), with the settings that are not the default ones otherwise."""
    settings = [f"{f.name}={value!r}" for f in fields(law) if (value := getattr(law, f.name)) != f.default]
    return type(law).__name__ + (f"({', '.join(settings)})" if settings else "")


def _draws(sampler: Sampler, shape: Shape, rng: np.random.Generator) -> Iterator[tuple[Shape, np.ndarray]]:
    """The shape asked for, then shapes of the same kind; those that the sampler refuses are left out."""
    for probe in (shape, *probes(shape)):
        count = max(2, -(-ENTRIES // math.prod(probe)))
        try:
            yield probe, np.stack([weights.draw(sampler, probe, rng) for _ in range(count)])
        except Exception:
            if probe == shape:
                raise


def _check_fixed(sampler: Sampler, shape: Shape, law: Any, rng: np.random.Generator) -> tuple[str | None, list[Check]]:
    """Zeros, a constant or Dirac: the weights are known, entry by entry."""
    expected = law.sample(shape, rng, np.float64)
    wrong = float(np.mean(~np.isclose(weights.draw(sampler, shape, rng), expected, rtol=1e-6, atol=0)))
    fault = f"{100 * wrong:.3g} % of the entries are not those of {_law_name(law)}" if wrong else None
    return fault, [Check("share of wrong entries", shape, wrong, 0.0, wrong == 0)]


def _check_independent(draws: Draws, law: Any, stride: int) -> tuple[str | None, list[Check]]:
    """What is wrong, or None, and the checks of the moments at every shape."""
    shape, w = draws[0]
    if not all(np.isfinite(w).all() for _, w in draws):
        raise ValueError("the sampler's weights are not all finite")
    if all(np.ptp(w) == 0 for _, w in draws):
        fault = f"constant {w.flat[0]:.4g}: every weight is the same"
        return fault, [Check("weights differ", shape, 0.0, 1.0, False)]
    threshold = z_threshold(6 * len(draws))
    scale = stride**2 if getattr(law, "mode", "") == "fan_out" else 1  # no other fan has a stride in it
    checks = [check for size, drawn in draws for check in _moment_checks(size, drawn, law, scale, threshold)]
    failed = {c.name for c in checks if not c.ok}
    if not failed:
        return None, checks
    fault = _diagnosis(draws, law, scale, failed, threshold)
    unnamed = "fan ignored" in fault or "no known mistake" in fault
    if unnamed and all(c.ok for c in checks if c.shape == shape):
        fault += f"; right for {'x'.join(map(str, shape))} itself"
    return fault, checks


def _moment_checks(shape: Shape, w: np.ndarray, law: Any, scale: float, threshold: float) -> Iterator[Check]:
    """Mean, mean square, kurtosis, bound and independence for one shape; z-scores use the law's distribution."""
    known, variance = weights.family(law, shape), scale * law.variance(shape)
    own = math.sqrt(max(float(w.var()), 1e-300))  # the mean is judged by the sample's own spread

    def check(label: str, measured: float, expected: float, sd: float) -> Check:
        return Check.by_z(label, shape, measured, expected, sd, threshold)

    yield check("mean", float(w.mean()), 0.0, own / math.sqrt(w.size))
    yield check("mean square", weights.mean_square(w), variance, variance * known.second_moment_sd(w.size))
    yield check("kurtosis", weights.empirical_kurtosis(w), known.m4, known.kurtosis_sd(w.size))
    filters = w.reshape(len(w), shape[0], -1)
    for label, axis in (("sums over a filter", 2), ("sums over filters", 1)):
        sums, terms = filters.sum(axis=axis), filters.shape[axis]
        kurtosis = 3 + (known.m4 - 3) / terms  # of a sum of that many entries
        ratio = float(np.mean(sums**2)) / (terms * own**2)
        yield check(label, ratio, 1.0, math.sqrt((kurtosis - 1) / sums.size + (known.m4 - 1) / w.size))
    if math.isfinite(known.bound):
        largest, limit = float(np.abs(w).max()), known.bound * math.sqrt(variance)
        yield Check("largest", shape, largest, limit, largest <= limit * (1 + 1e-6))


def _diagnosis(draws: Draws, law: Any, scale: float, failed: set[str], threshold: float) -> str:
    """One sentence for everything that failed: dependence, mean, variance, distribution, bound."""
    shape, w = draws[0]
    if dependence := _dependence(w[0].reshape(len(w[0]), -1), failed):
        return dependence
    if "mean" in failed:
        off, one_sided = abs(float(w.mean())) / float(w.std()), w.min() >= 0 or w.max() <= 0
        sentence = f"mean {float(w.mean()):.4g}, {off:.2g} standard deviations off 0: not centered"
        return sentence + (", one-sided: every weight has the same sign" if one_sided else "")
    known, measured = weights.family(law, shape), _measured_family(draws, threshold)
    parts = []
    if "mean square" in failed:
        parts.append(variance_sentence(draws, law, scale, measured or known, threshold))
    if "kurtosis" in failed and not (parts and "truncation" in parts[0]):
        found = f"{measured.name} where {known.name} was meant" if measured else ""
        parts.append(found or f"kurtosis {weights.empirical_kurtosis(w):.3f} where {known.name} has {known.m4:.3f}")
    return "; ".join(parts) or "exceeds the bound of its law"


def _dependence(w: np.ndarray, failed: set[str]) -> str | None:
    """Entries (C_out, fan_in) that repeat or are orthogonal, or whose sums lack the variance of independent terms."""
    if len(w) > 1 and np.allclose(w, w[0], rtol=1e-6, atol=0):
        return "all filters are copies of one another"
    if w.shape[1] > 1 and np.allclose(w, w[:, :1], rtol=1e-6, atol=0):
        return "all weights of a filter are the same"
    if min(w.shape) > 1 and is_orthogonal(w):
        return "orthogonal where independent weights were meant"
    if "mean" not in failed and failed & {"sums over a filter", "sums over filters"}:
        return "entries are not independent: their sums do not have the variance of independent terms"
    return None


def _measured_family(draws: Draws, threshold: float) -> weights.Family | None:
    """The family whose kurtosis every sample has."""
    nearest = sorted(weights.FAMILIES, key=lambda f: abs(weights.kurtosis_z(draws[0][1], f)))
    return next((f for f in nearest if all(abs(weights.kurtosis_z(w, f)) <= threshold for _, w in draws)), None)
