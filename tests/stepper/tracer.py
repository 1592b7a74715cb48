"""A second, independent way to the numbers: a small tracer that asks for named values at given lines while an op runs.

It shares nothing with `minires.stepper`: statements are line ranges, names are evaluated in the running frame.
"""

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

import minires

ROOT = Path(minires.__file__).resolve().parents[1]


class Tracer:
    """Watches statements, {file: {(first, last), ...}}, and keeps what is wanted of each, visit by visit.

    names[file, first] are pairs ("before" or "after", name), all files as absolute paths.

    values[file, first][visit][when, name] is a copy of what `name` was "before" or "after" the statement.
    """

    def __init__(self, wanted, names):
        self.ranges = {str(ROOT / file): sorted(ranges, key=lambda r: r[1] - r[0]) for file, ranges in wanted.items()}
        self.names = names
        self.values = defaultdict(list)
        self.under_way = {}

    def run(self, call):
        before = sys.gettrace()
        sys.settrace(self._enter)
        try:
            call()
        finally:
            sys.settrace(before)
        return self

    def _enter(self, frame, event, argument):
        code = frame.f_code
        if code.co_filename in self.ranges and not code.co_name.startswith("<"):
            return self._line
        return None

    def _line(self, frame, event, argument):
        file = frame.f_code.co_filename
        if event == "line":
            inside = next((r for r in self.ranges[file] if r[0] <= frame.f_lineno <= r[1]), None)
            old, _ = self.under_way.get(frame, (None, None))
            if inside != old:
                self._finish(frame)
                self.under_way[frame] = inside, self._ask(frame, inside, "before")
        elif event == "return":
            self._finish(frame, argument)
        return self._line

    def _finish(self, frame, returned=None):
        statement, found = self.under_way.pop(frame, (None, None))
        if statement is not None:
            found |= self._ask(frame, statement, "after", returned)
            self.values[frame.f_code.co_filename, statement[0]].append(found)

    def _ask(self, frame, statement, when, returned=None):
        if statement is None:
            return {}
        found = {}
        for wanted_when, name in self.names.get((frame.f_code.co_filename, statement[0]), ()):
            if wanted_when == when:
                try:
                    found[when, name] = np.array(self._value(frame, name, returned))
                except (NameError, AttributeError, IndexError, TypeError, ValueError):
                    continue  # not bound on this visit, or no array: whoever claims it will miss it
        return found

    @staticmethod
    def _value(frame, name, returned):
        for part in returned if isinstance(returned, tuple) else ():
            if hasattr(part, "_fields") and name.startswith(type(part).__name__ + "."):
                return getattr(part, name.rpartition(".")[2])
        return eval(name, frame.f_globals, frame.f_locals)


def same_print(text, value):
    """Whether a printed number is this value to the printed digits: whole numbers whole, others to three digits."""
    texts = {"NaN": float("nan"), "∞": float("inf"), "−∞": -float("inf")}
    printed = texts[text] if text in texts else float(text.replace("−", "-"))
    value = float(value)
    if np.isnan(value) or np.isinf(value):
        return np.array_equal(printed, value, equal_nan=True)
    return printed == value if value == int(value) and abs(value) < 1e6 else printed == float(f"{value:.3g}")


def cells(array, axes):
    """{(row, column): index} of the table that shows an array: "r" axes down, "c" axes along, the others fixed."""
    parts = axes.split(",") if axes else []
    found = {}
    for index in np.ndindex(array.shape):
        if all(part in "rc" or int(part) == i for part, i in zip(parts, index, strict=True)):
            place = []
            for letter in "rc":
                flat = 0
                for part, i, size in zip(parts, index, array.shape, strict=True):
                    if part == letter:
                        flat = flat * size + i
                place.append(flat)
            found[tuple(place)] = index
    return found
