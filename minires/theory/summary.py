"""A prediction as a person asks for it: in one sentence, and by the rows that stand for the blocks."""

import math

from minires.theory.forecast import STATIONS, read
from minires.theory.report import Quantity, Row, SignalReport

BLOCKS = ("BasicBlock", "Bottleneck", "PreActBlock")
STEADY = 1.5  # a signal whose rms changes by less than this factor from end to end keeps its size


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
    changes = (
        _change("signal", rows[0].forward, rows[-1].forward, start, f"last {place}"),
        _change("gradient", rows[-1].gradient_out, rows[0].gradient_out, f"last {place}", start),
    )
    return f"{verdict}: {'; '.join(filter(None, changes))}" if any(changes) else verdict


def _change(what: str, before: Quantity, after: Quantity, start: str, end: str) -> str:
    factor = after.rms / before.rms if before.rms > 0 else math.nan
    if not 0 < factor < math.inf:
        return ""
    if 1 / STEADY < factor < STEADY:
        return f"the {what} keeps its size"
    grows, size = ("grows", factor) if factor > 1 else ("shrinks", 1 / factor)
    return f"the {what} {grows} {size:.2g} times from the {start} to the {end}"
