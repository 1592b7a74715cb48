"""What is printed, and where it arrives: in terminals wide and narrow, in pipes, in old encodings, or nowhere any more.

A command prints with `print` and rich as usual. `forgiving_output` stands around it, so that a reader who leaves, a
full disk under the output, a closed stdout or an encoding without "²" costs no computation and ends in no traceback.
`fitted` gives a table the room that a terminal has: text is folded, never cut off.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn
    from rich.table import Column, Table

PIPE_WIDTH = 140
"""Columns of what goes into a file or a pipe, where $COLUMNS says nothing else."""

NARROW = 72
"""Below so many columns a table shows its essentials alone."""

ASCII = {"²": "^2", "±": "+-", "÷": "/", "·": "*", "→": "->", "≈": "~", "≤": "<=", "≥": ">=", "√": "sqrt"}
ASCII |= dict.fromkeys("\u2013\u2014\u2212━─", "-") | {"\u00d7": "x", "\u2019": "'", "…": "...", "│": "|"}
"""How minires' own characters are written in old encodings; what else these have no sign for becomes an escape."""


class Output:
    """A stream that never raises: what cannot be encoded is written in ASCII, what cannot be written is dropped.

    `problem` is the error after which nothing was written any more, or None.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream
        self.problem: OSError | ValueError | None = None

    def write(self, text: str) -> int:
        self._attempt(lambda: self.stream.write(self._encodable(text)))
        return len(text)

    def flush(self) -> None:
        self._attempt(lambda: self.stream.flush())

    def isatty(self) -> bool:
        return self.stream is not None and self.stream.isatty()

    def __getattr__(self, name: str) -> Any:
        if self.stream is None:
            raise AttributeError(name)
        return getattr(self.stream, name)

    def _attempt(self, action: Any) -> None:
        if self.stream is None or self.problem is not None:
            return
        try:
            action()
        except (OSError, ValueError) as error:  # a ValueError says that the stream is closed
            self.problem = error

    def _encodable(self, text: str) -> str:
        encoding = getattr(self.stream, "encoding", None) or "utf-8"
        if not encoding.lower().startswith("utf"):
            text = "".join(ASCII.get(c, c) for c in text)
        try:
            text.encode(encoding)
        except UnicodeEncodeError:
            text = text.encode("ascii", "backslashreplace").decode()
        return text


@contextmanager
def forgiving_output() -> Iterator[Output]:
    """Within the block stdout and stderr are `Output`s; gives the first of them."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = Output(before[0]), Output(before[1])
    try:
        yield sys.stdout
    finally:
        for output, stream in zip((sys.stdout, sys.stderr), before, strict=True):
            output.flush()
            if output.problem is not None:
                _let_go(stream)
        sys.stdout, sys.stderr = before


def _let_go(stream: TextIO) -> None:
    """Let the interpreter's last flush of a stream that cannot be written go nowhere, instead of into a traceback."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def console(stderr: bool = False) -> Console:
    """rich's console on stdout, in which "[...]" is text: file names may have brackets.

    As wide as the terminal; into files and pipes as $COLUMNS says, or 140 columns.
    """
    from rich.console import Console

    found = Console(stderr=stderr, markup=False)
    if not found.is_terminal and "COLUMNS" not in os.environ:
        found.width = PIPE_WIDTH
    return found


def is_live(screen: Console) -> bool:
    """Whether a line there can be overwritten: it is a terminal, and not a dumb one."""
    return screen.is_terminal and not screen.is_dumb_terminal


def live_display(*columns: ProgressColumn, screen: Console | None = None) -> Progress:
    """rich's live line on `screen` (stderr), gone when the work is done; nothing where it could not be overwritten.

    A thread redraws a live line: a file, a pipe and a browser have no use for the line, and may not have the thread.
    """
    from rich.console import Console
    from rich.progress import Progress

    screen = screen or console(stderr=True)
    if is_live(screen):
        return Progress(*columns, console=screen, transient=True)
    return Progress(*columns, console=Console(quiet=True), disable=True)  # rich 13.0 ends even this with an empty line


def fitted(table: Table, width: int, essentials: Collection[str] = ()) -> Table:
    """`table` for a screen of `width` columns: where it is too wide, without frames and with its text folded.

    essentials: the titles of the columns that a screen narrower than `NARROW` shows; none: all of them.
    """
    from rich import box

    if width < NARROW and essentials:
        table.columns = [column for column in table.columns if str(column.header) in essentials]
    if natural_width(table) > width:
        table.box, table.padding, table.pad_edge, table.show_edge = box.SIMPLE_HEAD, (0, 1, 0, 0), False, False
        if natural_width(table) > width:
            table.padding = 0  # one space between columns, not two
        for column in table.columns:
            column.no_wrap, column.overflow, column.min_width = False, "fold", None
        table.columns[0].no_wrap = natural_width(table.columns[0]) < width / 3  # a name in one piece is easier to find
    return table


def natural_width(part: Table | Column) -> int:
    """The columns of a screen that a table takes when nothing is folded; or a column's cells alone."""
    from rich.console import Console, Group
    from rich.table import Table

    part = part if isinstance(part, Table) else Group(*part.cells)
    return Console(width=10_000, markup=False).measure(part).maximum
