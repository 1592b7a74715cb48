"""A prediction as a person asks for it: one sentence a network, then a row a block, several initializers side by side.

Numbers are root mean squares, as a plot shows them: of a block's output, and of the gradient there in units of the
gradient at the network's output.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from minires.theory.compare import ComparisonReport
from minires.theory.forecast import STATIONS, read
from minires.theory.report import Quantity, Row, SignalReport

BLOCKS = ("BasicBlock", "Bottleneck", "PreActBlock")
STEADY = 1.5
"""A signal whose rms changes by less than this factor from end to end counts as steady."""


def blocks(report: SignalReport) -> list[Row]:
    """The rows that stand for the network: what the first block gets, the blocks, the head; or its activations."""
    rows = list(report)
    inside = [row for row in rows if row.kind in BLOCKS]
    if not inside:
        return [row for row in rows if row.kind in STATIONS] or rows
    first = rows.index(next(row for row in rows if row.path.startswith(f"{inside[0].path}.")))
    heads = [row for row in rows[rows.index(inside[-1]) :] if row.kind == "Linear"]
    return [*rows[max(first - 1, 0) : first], *inside, *heads]


def sentence(report: SignalReport) -> str:
    """ "steady: the signal keeps its size; the gradient grows 9.1 times from the last block to the stem"."""
    verdict = read(report).verdict
    rows = [row for row in blocks(report) if row.kind != "Linear"]
    if verdict.startswith("no forecast") or len(rows) < 2:
        return verdict
    place = "block" if rows[-1].kind in BLOCKS else "layer"
    start = "stem" if rows[0].kind not in BLOCKS and place == "block" else f"first {place}"
    signal = _change("signal", rows[-1].forward.rms / _positive(rows[0].forward.rms), start, f"last {place}")
    gradient = rows[0].gradient_out.rms / _positive(rows[-1].gradient_out.rms)
    parts = [part for part in (signal, _change("gradient", gradient, f"last {place}", start)) if part]
    return f"{verdict}: {'; '.join(parts)}" if parts else verdict


def _change(what: str, factor: float, start: str, end: str) -> str:
    if not 0 < factor < math.inf:
        return ""
    if 1 / STEADY < factor < STEADY:
        return f"the {what} keeps its size"
    grows, size = ("grows", factor) if factor > 1 else ("shrinks", 1 / factor)
    return f"the {what} {grows} {size:.2g} times from the {start} to the {end}"


def _positive(value: float) -> float:
    return value if value > 0 else math.nan


def table(reports: Mapping[str, SignalReport], compared: Mapping[str, ComparisonReport] | None = None) -> Any:
    """A row a block; for each name the rms of the signal and of the gradient, and measured/law where there is one."""
    from rich.table import Table

    result = Table(title="rms of the signal and of the gradient, block by block", title_justify="left")
    result.add_column("block", no_wrap=True)
    for name in reports:
        result.add_column(f"{name}\nsignal", justify="right", no_wrap=True)
        result.add_column("\ngradient", justify="right", no_wrap=True)
    rows = {name: {row.path: row for row in blocks(report)} for name, report in reports.items()}
    for path in next(iter(rows.values())):
        cells = []
        for name in reports:
            for quantity in ("forward", "gradient_out"):
                law = getattr(rows[name][path], quantity)
                cells.append(_cell(law) + _measured((compared or {}).get(name), path, quantity))
        result.add_row(path, *cells)
    return result


def _cell(law: Quantity) -> str:
    return "-" if math.isnan(law.rms) else f"{law.rms:.3g}{'' if law.grade else ' ?'}"


def _measured(report: ComparisonReport | None, path: str, quantity: str) -> str:
    """x1.02: the measured rms over the law's."""
    for c in report.comparisons if report else ():
        if (c.path, c.quantity) == (path, quantity):
            return f" ×{math.sqrt(max(1 + c.deviation, 0)):.2f}{'' if c.ok else ' !'}"
    return ""


LEGEND = (
    "law: exact, an expectation that holds at any width; approximate, right for many channels and a large batch and to "
    "within a stated allowance; none, where the law may be off by a factor of two or there is none. ±: from one "
    "network to the next."
)
"""What the words in the table of all layers mean."""
