"""Lay a prediction beside a measurement: a verdict per row, and the name of the first layer that departs.

For R networks with mean y, standard deviation s between them and law p:

    exact laws [EX]        |y - p| <= t * s/sqrt(R)
    mean-field laws [MF]   |y/p - 1| <= allowance + t * s/(p sqrt(R))

t is Student's quantile for R - 1 degrees of freedom at 1e-6 over the number of comparisons: where all laws hold, one
report of a million raises a false alarm. With few networks (R < 16) that quantile is useless; then t is the normal
quantile, and s at least the predicted spread. Both limits are 16 eps wider, for rounding to float32.

The forward pass is judged from the input up, the gradients from the output down, since that is how a fault spreads: a
layer that departs forward is named before any gradient is looked at.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from minires.theory.report import QUANTITIES, TITLES, Quantity, Row, SignalReport, empty_table, render
from minires.theory.stats import t_threshold, z_threshold

FEW = 16
ROUNDING = 16 * float(np.finfo(np.float32).eps)
WORDS = {
    "forward": "mean square of the output",
    "batch_variance": "batch variance of the output",
    "gradient_in": "gradient at the input",
    "gradient_out": "gradient at the output",
    "weight_gradient": "weight gradient",
}


class Comparison(NamedTuple):
    """One number against its law. deviation: measured/predicted - 1. limit: what it may be. z: in standard errors."""

    path: str
    kind: str
    quantity: str
    predicted: float
    measured: float
    grade: str
    z: float
    deviation: float
    limit: float

    @property
    def ok(self) -> bool:
        return bool(abs(self.deviation) <= self.limit)


@dataclass(frozen=True)
class ComparisonReport:
    """comparisons: in the order of judgement.  rows: (predicted, measured)."""

    comparisons: tuple[Comparison, ...]
    rows: tuple[tuple[Row, Row], ...]
    networks: int

    @property
    def unlawful(self) -> tuple[str, ...]:
        """Paths of rows that have no law."""
        return tuple(row.path for row, _ in self.rows if row.note)

    @property
    def ok(self) -> bool:
        """Whether every number with a law obeys it."""
        return all(c.ok for c in self.comparisons)

    @property
    def first_departure(self) -> str | None:
        """Path of the first layer that departs."""
        return next((c.path for c in self.comparisons if not c.ok), None)

    @property
    def verdict(self) -> str:
        """One sentence."""
        if self.ok:
            return f"all {len(self.comparisons)} numbers obey their laws ({self.networks} networks)"
        c = next(c for c in self.comparisons if not c.ok)
        name = f"{c.path} ({c.kind})" if c.path else c.kind
        factor = c.measured / c.predicted if c.predicted else math.inf
        return (
            f"{name} is the first layer that departs: {WORDS[c.quantity]} is {factor:.3g} times the law "
            f"({c.measured:.4g} against {c.predicted:.4g}, deviation {100 * c.deviation:+.1f} %, "
            f"allowed {100 * c.limit:.1f} %)"
        )

    def row_verdict(self, path: str) -> str:
        """agrees, departs, or no law."""
        judged = [c.ok for c in self.comparisons if c.path == path]
        if path in self.unlawful or not judged:
            return "no law"
        return "agrees" if all(judged) else "departs"

    def table(self) -> Any:
        """One line a row: law and measured/law for each quantity, with z in brackets where the law is exact."""
        table = empty_table(("layer", "kind"), [f"{name}\nlaw, ratio (z)" for name in TITLES], "verdict")
        found = {(c.path, c.quantity): c for c in self.comparisons}
        for row, _ in self.rows:
            cells = [_cell(found.get((row.path, name))) for name in QUANTITIES]
            table.add_row(row.path, row.kind, *cells, row.note or self.row_verdict(row.path))
        return table

    def __str__(self) -> str:
        return f"{self.verdict}\n{render(self.table(), width=180)}"


def _cell(c: Comparison | None) -> str:
    if c is None:
        return "-"
    z = f" ({c.z:+.1f})" if c.grade != "MF" and math.isfinite(c.z) else ""
    return f"{c.predicted:.4g}, {1 + c.deviation:.3f}{z}{'' if c.ok else ' !'}"


def compare(predicted: SignalReport, measured: SignalReport) -> ComparisonReport:
    """Verdict on every number that both reports have and that has a law.

    Raises ValueError if the reports are not of one input shape, or not a prediction and a measurement.
    """
    for name, report in (("predicted", predicted), ("measured", measured)):
        if not isinstance(report, SignalReport):
            raise TypeError(f"{name} is {report!r:.60}; expected a report, as from predict(...) and measure(...)")
    if (predicted.origin, measured.origin) != ("predicted", "measured"):
        raise ValueError(f"expected a prediction and a measurement, got {predicted.origin} and {measured.origin}")
    if predicted.input_shape != measured.input_shape:
        raise ValueError(f"input shapes differ: {predicted.input_shape} and {measured.input_shape}")
    found = {row.path: row for row in measured}
    pairs = tuple((row, found[row.path]) for row in predicted if row.path in found)
    order = [
        (row, name)
        for row, name in _order([row for row, _ in pairs])
        if getattr(row, name).grade and not math.isnan(getattr(found[row.path], name).mean)
    ]
    comparisons = (_comparison(row, name, measured.samples[row.path, name], len(order)) for row, name in order)
    return ComparisonReport(tuple(comparisons), pairs, measured.networks)


def _order(rows: list[Row]) -> Iterator[tuple[Row, str]]:
    """(row, quantity) as they are judged; a block's gradient at its input comes after all gradients inside it."""
    for row in rows:
        yield row, "forward"
        yield row, "batch_variance"
    pending: list[Row] = []
    for row in reversed(rows):
        while pending and not row.path.startswith(f"{pending[-1].path}."):
            yield pending.pop(), "gradient_in"
        yield row, "gradient_out"
        yield row, "weight_gradient"
        pending.append(row)
    for row in reversed(pending):
        yield row, "gradient_in"


def _comparison(row: Row, name: str, values: list[float], checks: int) -> Comparison:
    law: Quantity = getattr(row, name)
    mean, n = float(np.mean(values)), len(values)
    if law.mean == 0:
        deviation, z, limit = 0.0 if mean == 0 else math.inf, 0.0, 0.0
    else:
        deviation = mean / law.mean - 1
        spread = float(np.std(values, ddof=1)) / law.mean if n > 1 else 0.0
        few = n < FEW
        error = float(np.nanmax([spread, law.spread]) if few else spread) / math.sqrt(n)
        z = deviation / error if error else math.nan
        limit = law.allowance + (z_threshold(checks) if few else t_threshold(n, checks)) * error + ROUNDING
    return Comparison(row.path, row.kind, name, law.mean, mean, law.grade, z, deviation, limit)
