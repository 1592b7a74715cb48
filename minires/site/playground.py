"""What runs in the playground: somebody's program, and the check of somebody's backward.

A `Session` lives in the Web Worker. It tells the page what happens in messages, each a dict that JSON can hold, with
the kind of message in "event":

    text     text, to=stdout | stderr       progress  done, of, text
    html     html, title                    figure    number, png (base64), text
    verdict  verdict, sentence, hint, line  error     text (the reader's lines only), line
    done     at the end, with stopped=True where it was interrupted
"""

from __future__ import annotations

import ast
import base64
import linecache
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import TextIOBase
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minires.gradcheck import FileReport

Send = Callable[[dict[str, Any]], object]

FILE = "your code"
"""What tracebacks call the reader's program."""

MOST_PRINTED = 200_000
"""Characters that one run may print; a loop that prints for ever must not fill the page."""

SECONDS_A_MESSAGE = 0.1
"""Text goes to the page at most this often."""


class Session:
    """One interpreter and its reader. `send` gets the messages."""

    current: Session | None = None
    """The one whose program runs."""

    def __init__(self, send: Send) -> None:
        self.send = send
        self.names: dict[str, Any] = {}

    def run(self, source: str, fresh: bool = True) -> None:
        """Runs a program as a notebook runs a cell: figures are shown, and the value of a last expression.

        fresh: with no names but its own; else with those that the last program left, as the next cell of a page.
        """
        with self._told(source):
            if fresh or not self.names:
                self.names = {"__name__": "__main__", "__builtins__": __builtins__}
            body, last = compiled(source)
            exec(body, self.names)
            if last is not None:
                self._show(eval(last, self.names))
            self._send_figures()

    def check(self, source: str, op: str) -> None:
        """Runs a program and checks its pair of functions against the op `op`, on the standard cases."""
        from minires.gradcheck.file_check import check_loaded
        from minires.gradcheck.in_process import InProcess

        with self._told(source):
            names: dict[str, Any] = {"__name__": "student"}
            exec(compiled(source)[0], names)
            try:
                self._send_report(check_loaded(InProcess(FILE, names), op, progress=self._send_progress))
            except ValueError as problem:  # no such functions, no such settings: a sentence says which
                self.send({"event": "error", "text": str(problem), "line": None})

    def _send_progress(self, case: str, done: int, of: int) -> None:
        self.send({"event": "progress", "done": done, "of": of, "text": case})

    def _send_report(self, report: FileReport) -> None:
        worst = report.first_failure
        found = worst.report if worst else None
        line = re.search(r"\(line (\d+):", worst.error) if worst and worst.error else None
        told = {"verdict": report.verdict, "sentence": report.diagnosis or "", "hint": (found and found.hint) or ""}
        self.send({"event": "verdict", **told, "line": int(line[1]) if line else None})
        self.send({"event": "html", "html": report._repr_html_(), "title": "the report"})

    def _show(self, value: Any) -> None:
        """The value of a last expression, as a notebook shows it."""
        if hasattr(value, "savefig"):
            from minires.site import figures

            figures.send_figure(value)
            figures.plt.close(value)
        elif hasattr(value, "_repr_html_"):
            self.send({"event": "html", "html": value._repr_html_(), "title": type(value).__name__})
        elif value is not None:
            print(repr(value))

    def _send_figures(self) -> None:
        if "matplotlib.pyplot" in sys.modules:
            from minires.site import figures

            figures.send_all()

    def send_figure(self, number: int, png: bytes, text: str) -> None:
        """What matplotlib's backend calls."""
        self.send({"event": "figure", "number": number, "png": base64.b64encode(png).decode(), "text": text})

    @contextmanager
    def _told(self, source: str) -> Iterator[None]:
        """What the program prints, shows and raises in this block goes to the page."""
        linecache.cache[FILE] = (len(source), None, source.splitlines(True), FILE)
        Session.current = self
        out, err = Printed(self.send, "stdout"), Printed(self.send, "stderr")
        stopped = False
        try:
            with redirect_stdout(out), redirect_stderr(err):
                yield
        except KeyboardInterrupt:
            stopped = True
        except SystemExit as end:
            if end.code not in (None, 0):
                err.write(f"the program ended with sys.exit({end.code!r})\n")
        except BaseException as error:
            out.flush()
            self.send({"event": "error", "text": own_traceback(error), "line": own_line(error)})
        finally:
            out.flush()
            err.flush()
            self.send({"event": "done", "stopped": stopped})


def compiled(source: str) -> tuple[Any, Any]:
    """(all but a last expression, the last expression or None), compiled. Raises SyntaxError."""
    tree = ast.parse(source, FILE)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    body = compile(tree, FILE, "exec")
    return body, None if last is None else compile(ast.Expression(last.value), FILE, "eval")


def own_traceback(error: BaseException) -> str:
    """The traceback, without the lines of anybody else's code; the sentence of the error is the last line."""
    told = traceback.TracebackException.from_exception(error, limit=None)
    chain: list[traceback.TracebackException | None] = [told]
    while chain:
        if (link := chain.pop()) is not None:
            link.stack = traceback.StackSummary.from_list([f for f in link.stack if f.filename == FILE])
            chain += [link.__cause__, link.__context__]
    return "".join(told.format()).rstrip()


def own_line(error: BaseException) -> int | None:
    """The line of the reader's program in which it happened."""
    if isinstance(error, SyntaxError) and error.filename == FILE:
        return error.lineno
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == FILE]
    return lines[-1] if lines else None


class Printed(TextIOBase):
    """A text stream whose contents go to the page, a moment's text in one message."""

    def __init__(self, send: Send, to: str) -> None:
        self.send, self.to = send, to
        self.waiting: list[str] = []
        self.left, self.last = MOST_PRINTED, 0.0

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self.left > 0 and text:
            self.waiting.append(text[: self.left])
            self.left -= len(text)
            if self.left <= 0:
                self.waiting.append(f"\n... more than {MOST_PRINTED:,} characters: the rest is not shown\n")
            if "\n" in text and time.monotonic() - self.last >= SECONDS_A_MESSAGE:
                self.flush()
        return len(text)

    def flush(self) -> None:
        if self.waiting:
            self.send({"event": "text", "to": self.to, "text": "".join(self.waiting)})
            self.waiting.clear()
            self.last = time.monotonic()
