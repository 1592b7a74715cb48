"""Checks inside a notebook's own process, for platforms that grade that way (nbgrader, Otter).

The functions run in the kernel beside the checks. What a student's code does there, the platform has to contain. A
function that only hands on minires' own is refused. Where a choice is left, `course grade` grades the same notebook in
isolation.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import minires
from minires.course.callers import LocalCaller
from minires.course.declaration import LEVELS, Assignment, load
from minires.course.grading import CheckReport, PartReport, grade_part

HOME = str(Path(minires.__file__).parent)


def points_of(
    what: str, part: str, names: Mapping[str, object], hidden: bool = False, level: str = "where"
) -> float | None:
    """For the last line of an nbgrader test cell: None for all points, else what was earned, with the reasons printed.

    names: globals() of the notebook. hidden: count the hidden checks as well; without, only the public ones are told.
    """
    if not hidden and what.endswith(".py") and what not in _declarations and not Path(what).exists():
        print("these tests run when the notebook is graded")
        return None
    report = part_report(what, part, names, level)
    lost = [c for c in report.checks if c.earned < c.points and (hidden or not c.hidden)]
    if not lost:
        return None
    print("\n".join(reason(c) for c in lost))
    return report.earned


def assert_check(what: str, part: str, number: int, names: Mapping[str, object], level: str = "where") -> None:
    """For one test case of Otter or pytest: AssertionError with the reason if check `number` of a part loses points."""
    a = _loaded(what)
    asked = a.part(part)
    only = replace(asked, checks=[asked.checks[number]])
    (check,) = grade_part(a, only, _caller(a, names), "notebook", LEVELS.index(level)).checks
    assert check.earned >= check.points, reason(check)


def reason(check: CheckReport) -> str:
    """A lost check in one line."""
    return f"{check.title}: {check.told} {check.example}".rstrip()


def part_report(what: str, part: str, names: Mapping[str, object], level: str = "where") -> PartReport:
    """The part judged on the functions of a notebook."""
    a = _loaded(what)
    return grade_part(a, a.part(part), _caller(a, names), "notebook", LEVELS.index(level))


_declarations: dict[str, str] = {}


def declare(name: str, text: str) -> None:
    """Makes a declaration known under its file's name, for the cells that follow: no file of it is handed out."""
    _declarations[name] = text


@cache
def _loaded(what: str) -> Assignment:
    if what not in _declarations:
        return load(what)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / what
        path.write_text(_declarations[what], encoding="utf-8")
        return load(path)


def _caller(a: Assignment, names: Mapping[str, object]) -> LocalCaller:
    """The notebook's own functions; those that are minires' are left out."""
    return LocalCaller({p.name: names[p.name] for p in a.parts if _own(names.get(p.name))})


def _own(function: Callable | None) -> bool:
    code = getattr(function, "__code__", None)
    return code is not None and not code.co_filename.startswith(HOME)
