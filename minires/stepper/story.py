"""A recording told as moves: for each line that matters, what to show beside it and what to say about it.

A page's author writes `Tale` functions: given the record of one executed line they yield its moves. Numbers never
enter a text or a picture as such. They are named (`story.number(record, "y", 0, 3)`, `Panel(record, "y")`), and looked
up in the recording when the page is made, so that a page can only show what the op computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minires.stepper.recorder import Record

Box = tuple[int, int, int, int]
"""Cells of a panel: first row, first column, rows, columns."""


class StoryError(RuntimeError):
    """The code and what a page says about it have come apart: a line or a variable it shows is no longer there."""


@dataclass(frozen=True)
class Panel:
    """A table of numbers: one plane of an array, as it stood after (or before) a line.

    `view` says for each axis of the array what becomes of it: "r" (down the rows), "c" (along the columns) or an index.
    "0,r,r,c" shows the first item, its axes 1 and 2 one within the other as rows. None takes
    the last two axes that have more than one entry.
    `known` hides what the line has not reached yet in this move: ("column", 3) shows the first three columns,
    ("row", n) rows, ("cell", n) cells in reading order.
    """

    record: Record
    name: str
    label: str = ""
    view: str | None = None
    read: Sequence[Box] = ()
    write: Sequence[Box] = ()
    known: tuple[str, int] | None = None
    before: bool = False
    key: str = ""
    """What arrows and animation call it; its name where empty."""

    def table(self) -> np.ndarray:
        """The two-dimensional part of the array that is shown."""
        array, parts = self.array(), [part for part in self.axes().split(",") if part]
        fixed = array[tuple(slice(None) if part in "rc" else int(part) for part in parts)]
        kept = [part for part in parts if part in "rc"]
        rows = [i for i, part in enumerate(kept) if part == "r"]
        columns = [i for i, part in enumerate(kept) if part == "c"]
        height = math.prod(fixed.shape[i] for i in rows)
        return fixed.transpose(rows + columns).reshape(height, -1)

    def array(self) -> np.ndarray:
        """The whole array. StoryError if the recording has none of this name."""
        return np.asarray(look_up(self.record, self.name, self.before))

    def axes(self) -> str:
        """The view, spelled out."""
        if self.view is not None:
            return self.view
        shape = self.array().shape
        long = [axis for axis, size in enumerate(shape) if size > 1] or list(range(len(shape)))
        letters = dict(zip(reversed(long), "cr", strict=False))
        return ",".join(letters.get(axis, "0") for axis in range(len(shape)))


@dataclass(frozen=True)
class Arrow:
    """From the marked cells of one panel to those of another; `label` is text and may hold numbers."""

    start: str
    end: str
    label: str = ""
    style: str = "plain"
    """"plain", "back" for gradients, or "sum" where several meet."""


@dataclass(frozen=True)
class Move:
    """One step of a page."""

    record: Record
    part: str
    """"forward" or "backward", or another stretch of the timeline."""
    title: str
    text: str
    formula: str = ""
    groups: Sequence[Sequence[Panel]] = ()
    """The picture, from left to right; the panels of a group stand under each other."""
    arrows: Sequence[Arrow] = ()
    path: Sequence[tuple[float, float]] = ()
    """Points that are passed in a plane, the last one being where we are."""
    bowl: tuple[float, float] = (1.0, 1.0)
    """The plane is the loss (bowl[0]·x² + bowl[1]·y²)/2, seen from above."""
    zoom: str = ""
    """Name of the track that shows the inside of what this move shows."""


Tale = Callable[["Story", Record], Iterator[Move]]


def look_up(record: Record, name: str, before: bool = False) -> Any:
    """A variable's value after (or before) a line. StoryError where the line's function has no such variable."""
    values = record.before if before else record.after
    if name not in values:
        where = f"{record.function.file}:{record.line}, in {record.function.name}"
        raise StoryError(f"{where}: no variable {name!r} to show; there are {', '.join(values) or 'none'}")
    return values[name]


def number(record: Record, name: str, *index: int, before: bool = False) -> str:
    """A number of the recording, to be put into a text."""
    value = np.asarray(look_up(record, name, before))
    if len(index) != value.ndim or any(not 0 <= i < size for i, size in zip(index, value.shape, strict=True)):
        raise StoryError(f"{name}{list(index)}: expected indices within the shape {value.shape}")
    return f"{{{{{record.index}|{name}|{','.join(map(str, index))}|{'before' if before else 'after'}}}}}"


def term(record: Record, name: str, *index: int, before: bool = False) -> str:
    """A number inside a sum or a product: in parentheses if it is below zero."""
    text = number(record, name, *index, before=before)
    return f"({text})" if np.asarray(look_up(record, name, before))[index] < 0 else text


@dataclass
class Story:
    """The records of a run, and the moves that tell them.

    tales: (function, variable) -> the tale of the lines of that function that write the variable; ("return" for a
    return). A third name and more ask for lines that also read these; of several tales the one that asks most is told.
    """

    records: Sequence[Record]
    tales: Mapping[tuple[str, ...], Tale]
    backward: Callable[[str], bool] = lambda function: "backward" in function or function == "col2im"
    told: set[tuple[str, ...]] = field(default_factory=set)

    def moves(self) -> list[Move]:
        """All moves. StoryError if a tale found no line to tell."""
        moves = [move for record in self.records for move in self._of(record)]
        missing = [key for key in self.tales if key not in self.told]
        if missing:
            wanted = "; ".join(
                f"in {f} one that writes {w}" + "".join(f", reads {r}" for r in rest) for f, w, *rest in missing
            )
            raise StoryError(f"lines that a page shows did not run: {wanted}")
        return moves

    def _of(self, record: Record) -> Iterator[Move]:
        fitting = [key for key in self.tales if self._fits(key, record)]
        if fitting:
            key = max(fitting, key=len)
            self.told.add(key)
            yield from self.tales[key](self, record)

    @staticmethod
    def _fits(key: tuple[str, ...], record: Record) -> bool:
        function, written, *read = key
        statement = record.statement
        return record.function.name == function and written in statement.writes and set(read) <= set(statement.reads)

    def part(self, record: Record) -> str:
        """Which pass a line belongs to: of the outermost function that says so."""
        names = [function.name for function, _ in record.callers] + [record.function.name]
        return "backward" if any(map(self.backward, names)) else "forward"

    def inside(self, record: Record) -> list[Record]:
        """What ran in the calls that a line made."""
        earlier = (other.index for other in reversed(self.records[: record.index]) if other.frame == record.frame)
        first = next(earlier, None)
        if first is None:  # the first line of its call
            depth = len(record.callers)
            earlier = (r.index for r in reversed(self.records[: record.index]) if len(r.callers) <= depth)
            first = next(earlier, -1)
        return list(self.records[first + 1 : record.index])

    def last(self, function: str, name: str, until: Record | None = None) -> Record:
        """The last record (before `until`) of a function that has the variable. StoryError if there is none."""
        for record in reversed(self.records[: None if until is None else until.index + 1]):
            if record.function.name == function and name in record.after:
                return record
        raise StoryError(f"{function} has left no variable {name!r} to show")

    def move(
        self, record: Record, title: str, text: str, *groups: Sequence[Panel], part: str = "", **more: Any
    ) -> Move:
        """A move of this line; `part` is the pass it belongs to, unless something else is said."""
        return Move(record, part or self.part(record), title, text, groups=groups, **more)
