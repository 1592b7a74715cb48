"""Run a call as under a debugger, and keep what every executed line left in its variables.

`sys.settrace` calls us before each line of the files that are watched. What the variables hold then is what the line
before it left behind. Arrays are copied, so a record stays true when a later line changes an array in place.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from importlib import import_module
from types import FrameType, ModuleType
from typing import Any, NamedTuple

import numpy as np

from minires.stepper.source import Function, Statement, function_at, statements

LARGEST = 65536
"""Numbers in an array that is still copied."""

BLANK = {
    np.dtype(np.float64): np.array(0x7FF8_0000_B1A9_C001, np.uint64).view(np.float64)[()],
    np.dtype(np.float32): np.array(0x7FC1_B1A9, np.uint32).view(np.float32)[()],
}
"""A NaN of its own for numbers that nobody has written yet. No computation gives it."""

Variables = dict[str, Any]


class Record(NamedTuple):
    """One statement that ran: where it stands, and its function's variables before and after."""

    index: int
    path: str
    function: Function
    statement: Statement
    line: int
    visit: int
    """How often this statement had run before, since the recording began."""
    frame: int
    """Number of the call it belongs to."""
    callers: tuple[tuple[Function, int], ...]
    """The functions that were waiting for it, outermost first, each with the line at which it waited."""
    before: Variables
    after: Variables

    def changed(self) -> tuple[str, ...]:
        """Names of the variables that it made or changed."""
        return tuple(name for name, value in self.after.items() if self.before.get(name, _MISSING) is not value)


_MISSING = object()


class _Frame:
    """A call that is running: what it has left behind so far, and the statement that is under way."""

    def __init__(self, frame: FrameType, number: int, variables: Variables) -> None:
        self.path, self.number = frame.f_code.co_filename, number
        self.function = function_at(self.path, frame.f_code.co_firstlineno)
        self.variables = variables
        self.statement: Statement | None = None
        self.line = 0


class Recorder:
    """Records the lines of all functions of some modules or packages (dotted names), in the order in which they end.

    Only the thread that calls `run` is watched. Whatever trace function was set before (a debugger's, a coverage
    tool's) is set again afterwards.
    """

    def __init__(self, modules: Iterable[str]) -> None:
        self._paths = tuple(watched_path(import_module(module)) for module in modules)
        self._running: list[_Frame] = []
        self._visits: Counter[tuple[str, int]] = Counter()
        self._frames = 0
        self.records: list[Record] = []

    def run(self, call: Callable[[], Any]) -> Any:
        """What `call()` returns; its lines are added to `records`."""
        previous = sys.gettrace()
        sys.settrace(self._enter)
        try:
            return call()
        finally:
            sys.settrace(previous)
            self._running.clear()

    def _enter(self, frame: FrameType, event: str, argument: object) -> Callable | None:
        code = frame.f_code
        if (
            not code.co_filename.startswith(self._paths)
            or code.co_name.startswith("<")
            or code.co_flags & inspect.CO_GENERATOR
        ):
            return None
        self._running.append(_Frame(frame, self._frames, kept(frame.f_locals, {})))
        self._frames += 1
        return self._step

    def _step(self, frame: FrameType, event: str, argument: object) -> Callable:
        running = self._running[-1]
        if event == "line":
            statement = statements(running.path).get(frame.f_lineno)
            if statement is not running.statement or statement is None:
                self._blank(frame, running)
                self._finish(running, kept(frame.f_locals, running.variables))
                running.statement, running.line = statement, frame.f_lineno
        elif event == "return":
            variables = kept(frame.f_locals, running.variables)
            returned = kept(named_results(running.statement, argument), variables)
            variables |= {name: value for name, value in returned.items() if name not in variables}
            self._finish(running, variables)
            self._running.pop()
        return self._step

    @staticmethod
    def _blank(frame: FrameType, running: _Frame) -> None:
        """Fill an array that the statement under way made by `empty` with BLANK: until then it holds any bits."""
        statement = running.statement
        if statement is not None and any(name.endswith((".empty", ".empty_like")) for name in statement.reads):
            for name in statement.writes:
                array = frame.f_locals.get(name)
                if isinstance(array, np.ndarray) and array.dtype in BLANK:
                    array[...] = BLANK[array.dtype]

    def _finish(self, running: _Frame, variables: Variables) -> None:
        """The statement under way has ended: keep it."""
        statement = running.statement
        if statement is not None:
            place = running.path, statement.first
            callers = tuple((waiting.function, waiting.line) for waiting in self._running[:-1])
            self.records.append(
                Record(
                    len(self.records),
                    running.path,
                    running.function,
                    statement,
                    statement.first,
                    self._visits[place],
                    running.number,
                    callers,
                    running.variables,
                    variables,
                )
            )
            self._visits[place] += 1
        running.variables = variables


def named_results(statement: Statement | None, returned: Any) -> dict[str, Any]:
    """What a return gave, by the source text of each part; a NamedTuple by the name of its class."""
    results = statement.results if statement is not None else ()
    parts = (returned,) if len(results) == 1 else returned if isinstance(returned, tuple) else ()
    if len(parts) != len(results):  # a starred part: no names to give
        return {}
    pairs = zip(results, parts, strict=True)
    return {type(part).__name__ if hasattr(part, "_fields") else name: part for name, part in pairs}


def unwritten(array: np.ndarray) -> np.ndarray:
    """Where an array made by `empty` has not been written yet."""
    if array.dtype not in BLANK:
        return np.zeros(array.shape, bool)
    bits = np.dtype(f"u{array.dtype.itemsize}")
    return np.ascontiguousarray(array).view(bits) == BLANK[array.dtype].view(bits)


def watched_path(module: ModuleType) -> str:
    """The file of a module; of a package its folder."""
    path = inspect.getsourcefile(module)
    return os.path.dirname(path) + os.sep if hasattr(module, "__path__") else path


def kept(found: dict[str, Any], previous: Variables) -> Variables:
    """What a page can show of some variables: arrays (copied), numbers, short texts, and what objects hold of these.

    An array that has not changed since `previous` stays the same object.
    """
    values: Variables = {}
    for name, value in found.items():
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            inside = {f"{name}.{attribute}": inner for attribute, inner in value._asdict().items()}
        elif name == "self" or (hasattr(value, "value") and hasattr(value, "grad")):
            inside = {f"{name}.{attribute}": inner for attribute, inner in vars(value).items()}
        else:
            inside = {name: value}
        for inner_name, inner in inside.items():
            _keep(values, inner_name, inner, previous)
    return values


def _keep(values: Variables, name: str, value: Any, previous: Variables) -> None:
    if isinstance(value, np.ndarray | np.generic):
        if 0 < value.size <= LARGEST and value.dtype.kind in "fiub":
            values[name] = _copied(np.asarray(value), previous.get(name))
    elif value is None or isinstance(value, bool | int | float) or (isinstance(value, str) and 0 < len(value) < 40):
        same = name in previous and type(previous[name]) is type(value) and previous[name] == value
        values[name] = previous[name] if same else value
    elif isinstance(value, tuple) and type(value) is tuple and value and all(isinstance(v, int) for v in value):
        same = type(previous.get(name)) is tuple and previous[name] == value  # an array would compare entry by entry
        values[name] = previous[name] if same else value
    elif isinstance(value, list) and value and all(isinstance(v, np.ndarray) for v in value):
        for i, inner in enumerate(value):
            _keep(values, f"{name}[{i}]", inner, previous)


def _copied(array: np.ndarray, previous: Any) -> np.ndarray:
    same = (
        isinstance(previous, np.ndarray)
        and previous.shape == array.shape
        and previous.dtype == array.dtype
        and np.array_equal(previous, array, equal_nan=array.dtype.kind == "f")
    )
    return previous if same else np.array(array)
