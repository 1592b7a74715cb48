"""Who answers a check's calls: plain functions here, or a submission in its process under a watch."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from minires.course import drivers
from minires.gradcheck.process import printable
from minires.gradcheck.runner import Limits, Seeded, Stopped, Student

PATIENCE = 3
"""A function that was stopped so often is not called again."""


class Missing(Exception):
    """The submission does not define the function."""


class LocalCaller:
    """Plain functions of this process: the reference, or a planted fault. Never a student's."""

    def __init__(self, functions: Mapping[str, Callable]) -> None:
        self.functions = functions
        self.words: dict[str, list] = {}

    def call(self, function: str, *arguments: object, keep: bool = False, **options: object) -> object:
        """Calls it; "driver:NAME" is one of the drivers. `keep` makes no difference here."""
        arguments = tuple(np.random.default_rng(a.seed) if isinstance(a, Seeded) else a for a in arguments)
        if function.startswith("driver:"):
            return getattr(drivers, function.removeprefix("driver:"))(self.functions, *arguments, **options)
        if absent := self.absent(function):
            raise Missing(absent)
        with np.errstate(all="ignore"):
            return self.functions[function](*arguments, **options)

    def absent(self, function: str) -> str:
        """A sentence where there is no such function."""
        return "" if function in self.functions else f"{function} is not there"


class WatchedCaller:
    """A submission's process. Each time that a function has to be stopped, the next call of it gets less time."""

    def __init__(self, student: Student) -> None:
        self.student = student
        self.stops: dict[str, int] = {}
        self.words: dict[str, list] = {}

    def call(self, function: str, *arguments: object, keep: bool = False, **options: object) -> object:
        """As Student.call. Missing for a function that is not there, Stopped for one that was stopped too often."""
        asked = self._asked(function, arguments)
        stops = self.stops.get(asked, 0)
        if stops >= PATIENCE:
            raise Stopped(f"{asked} was stopped {stops} times before and is not run again")
        if not function.startswith("driver:") and (absent := self.absent(function)):
            raise Missing(absent)
        before = self.student.limits
        if stops:
            self.student.limits = _less(before, stops)
        try:
            return self.student.call(function, *arguments, keep=keep, **options)
        except Stopped:
            self.stops[asked] = stops + 1
            raise
        finally:
            self.student.limits = before

    def absent(self, function: str) -> str:
        """A sentence where the file defines no such function."""
        return (
            "" if function in self.student.functions else f"{function} is not in the file: was it renamed or deleted?"
        )

    def line(self, number: int | None) -> str:
        """This line of the file as it was handed in, whatever its process says; empty where there is none."""
        lines = self.student.file.read_text(encoding="utf-8", errors="replace").splitlines()
        return printable(lines[number - 1].strip()) if number and 0 < number <= len(lines) else ""

    @staticmethod
    def _asked(function: str, arguments: tuple[object, ...]) -> str:
        """What is blamed for a stop: a driver with the function that it is given, if there is one."""
        named = next((a for a in arguments if isinstance(a, str)), "")
        return f"{function} {named}".strip() if function.startswith("driver:") else function


def _less(limits: Limits, stops: int) -> Limits:
    from dataclasses import replace

    return replace(limits, call=max(limits.call / (4 * stops), 0.5))
