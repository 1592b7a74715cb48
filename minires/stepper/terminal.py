"""The moves of a page as plain text: for a terminal, for ssh, and for those who listen to a page."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from minires.stepper.document import Page, beyond, plain_text, shown, size_of
from minires.stepper.recorder import unwritten
from minires.stepper.story import Box, Move, Panel

WIDTH = 100
ROWS, COLUMNS = 12, 16
"""Characters in a line of prose at most; rows and columns of a table that are printed."""


def to_text(page: Page, width: int = WIDTH) -> Iterator[str]:
    """Each move of the first track as a few lines of text. In a table, [5] is read by the line and <5> is written.

    width: characters in a line of prose; source and tables are as wide as they are.
    """
    moves = page.tracks[0].moves
    for i, move in enumerate(moves, 1):
        yield "\n".join(_lines(page, move, f"{i}/{len(moves)}", width))


def _lines(page: Page, move: Move, count: str, width: int) -> Iterator[str]:
    record, statement = move.record, move.record.statement
    yield f"[{count}] {move.part}: {plain_text(move.title, page.records)}"
    callers = "".join(f"{function.name}, line {line} > " for function, line in record.callers)
    yield f"{record.function.file}, line {statement.first}, in {callers}{record.function.name}"
    for line in record.function.lines[statement.first - record.function.first :][
        : statement.last - statement.first + 1
    ]:
        yield f"    > {line.strip()}"
    yield ""
    for paragraph in plain_text(move.text, page.records).split("\n"):
        yield from textwrap.wrap(paragraph, width)
    if move.formula:
        yield f"    {move.formula}"
    for panel in (panel for group in move.groups for panel in group):
        yield ""
        yield f"  {panel.label or panel.name} ({size_of(panel.array())})"
        yield from (f"    {row}" for row in _table(panel))
    yield ""


def _table(panel: Panel) -> Iterator[str]:
    table = panel.table()
    hidden = unwritten(table) | beyond(panel.known, table.shape)
    texts = [
        ["." if hidden[r, c] else _marked(shown(table[r, c]), panel, r, c) for c in range(min(table.shape[1], COLUMNS))]
        for r in range(min(table.shape[0], ROWS))
    ]
    width = max(len(text) for row in texts for text in row)
    for row in texts:
        yield " ".join(f"{text:>{width}}" for text in row)
    if table.shape[0] > ROWS or table.shape[1] > COLUMNS:
        yield f"(the first {len(texts)} x {len(texts[0])} of {table.shape[0]} x {table.shape[1]})"


def _marked(text: str, panel: Panel, row: int, column: int) -> str:
    if any(_covers(box, row, column) for box in panel.write):
        return f"<{text}>"
    return f"[{text}]" if any(_covers(box, row, column) for box in panel.read) else f" {text} "


def _covers(box: Box, row: int, column: int) -> bool:
    first_row, first_column, rows, columns = box
    return first_row <= row < first_row + rows and first_column <= column < first_column + columns
