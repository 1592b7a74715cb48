"""The instructor's safety net: an assignment is tried on the reference, on the bare stub and on typical mistakes.

    reference   full marks
    stub        0 points
    mistakes    each, planted in one function, loses points of that part and of no other, and is named

The reference and the stub go the way of a submission, in a process. The mistakes run here, for they are our own code:
those of gradcheck's catalogue as functions, those of the assignment itself as changes of the reference's text.
"""

from __future__ import annotations

import ast
import tempfile
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from minires.course.building import public_files, solution_text, stub_text
from minires.course.callers import LocalCaller
from minires.course.checks import GradientCheck, OpCheck
from minires.course.cutting import Source, bodies, operations
from minires.course.declaration import Assignment, Part
from minires.course.grading import PartReport, SubmissionReport, grade, local_report
from minires.gradcheck import CATALOGUE, Fault
from minires.gradcheck.faults.base import right_backward

RAISED = "the call raised an exception"
"""A forward that raises leaves no cache, so that its backward cannot be asked: no fault of the backward's."""

LONGEST_LEAK = 3
"""A statement of the reference with so many operations must not stand in what students get."""


@dataclass
class Trial:
    """One mistake, planted in one part."""

    fault: str
    part: str
    lost: float
    elsewhere: list[str]
    """Other parts that lost points."""
    named: bool
    told: str
    named_is_asked: bool = True
    """Whether the catalogue knows the fault, so that it has to be named."""

    @property
    def holds(self) -> bool:
        return self.lost > 0 and not self.elsewhere and (self.named or not self.named_is_asked)


@dataclass
class SelfCheck:
    """What the check of an assignment found."""

    assignment: str
    reference: SubmissionReport
    stub: SubmissionReport
    trials: list[Trial] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)
    """Statements of the solution that stand in the student's files."""

    @property
    def problems(self) -> list[str]:
        """Everything that does not hold, each a sentence."""
        found = []
        if self.reference.earned < self.reference.points:
            lost = [
                f"{p.name}, {c.title}: {c.told}" for p in self.reference.parts for c in p.checks if c.earned < c.points
            ]
            found.append(
                f"the reference scores {self.reference.earned:g} of {self.reference.points}: {'; '.join(lost)}"
            )
        if self.stub.earned:
            found.append(f"the bare stub scores {self.stub.earned:g} points; expected 0")
        for trial in self.trials:
            if not trial.lost:
                found.append(f"{trial.fault} in {trial.part} loses no points")
            if trial.elsewhere:
                found.append(f"{trial.fault} in {trial.part} also costs points of {', '.join(trial.elsewhere)}")
            if not trial.named and trial.named_is_asked:
                found.append(f"{trial.fault} in {trial.part} is not named; the student reads: {trial.told}")
        return found + [f"the student's files give away: {leak}" for leak in self.leaks]

    @property
    def holds(self) -> bool:
        return not self.problems


def check(
    a: Assignment,
    *,
    rung: str | None = None,
    trust: bool = False,
    progress: Callable[[str], object] = lambda name: None,
) -> SelfCheck:
    """Runs the whole self-check. Raises NoIsolation where the reference cannot be run as a submission."""
    with tempfile.TemporaryDirectory() as folder:
        reports = []
        for text in (solution_text(a), stub_text(a)):
            progress("the reference" if not reports else "the stub")
            file = Path(folder) / f"{a.name}.py"
            file.write_text(text, encoding="utf-8")
            reports.append(grade(a, file, level="fault", rung=rung, trust=trust))
    found = SelfCheck(a.name, *reports)
    for fault, part, functions, asked in mistakes(a):
        progress(fault)
        spoils = next((m.spoils for m in a.mistakes if m.name == fault), ())
        parts = [p for p in local_report(a, LocalCaller(functions)) if p.name not in spoils]
        found.trials.append(_trial(fault, part, asked, parts))
    found.leaks = leaks(a)
    return found


def _trial(fault: str, part: Part, asked: bool, parts: list[PartReport]) -> Trial:
    report = next(p for p in parts if p.name == part.name)
    failed = [c for c in report.checks if c.earned < c.points]
    names = {n for c in failed for n in (c.fault, *c.alike) if n}
    elsewhere = [
        p.name for p in parts if p.name != part.name and any(c.earned < c.points and c.told != RAISED for c in p.checks)
    ]
    told = failed[0].told if failed else ""
    return Trial(fault, part.name, round(report.points - report.earned, 2), elsewhere, fault in names, told, asked)


# --- mistakes ------------------------------------------------------------------------------------------------------


def mistakes(a: Assignment) -> Iterator[tuple[str, Part, Mapping[str, Callable], bool]]:
    """(name, part, all functions with this mistake in one, whether it has to be named) of everything to be tried."""
    reference = reference_functions(a)
    for part in a.parts:
        op, direction, functions = _op_of(part)
        for fault in faults_of_part(op, direction):
            yield fault.name, part, reference | dict(zip(functions, (fault.forward, fault.backward), strict=True)), True
    for mistake in a.mistakes:
        part = a.part(mistake.part)
        yield mistake.name, part, reference | {part.name: _changed(part, mistake.old, mistake.new)}, False


def reference_functions(a: Assignment) -> dict[str, Callable]:
    """The reference of every part, by the student's names."""
    return {part.name: part.cut.function for part in a.parts}


def faults_of_part(op: str | None, direction: str) -> list[Fault]:
    """The catalogue's faults that sit in the forward or in the backward of an op."""
    found = [f for f in CATALOGUE.values() if f.op == op]
    return [f for f in found if (f.backward is right_backward) == (direction == "forward")]


def _op_of(part: Part) -> tuple[str | None, str, tuple[str, str]]:
    for check in part.checks:
        if isinstance(check, OpCheck):
            return check.op, check.direction, check.functions
        if isinstance(check, GradientCheck):
            return check.op, "backward", check.functions
    return None, "", ("", "")


def _changed(part: Part, old: str, new: str) -> Callable:
    """The reference with a piece of its text replaced, as a function. It is our own code, from the declaration."""
    source: Source = part.cut
    text = source.text
    node = source.node
    lines = text.splitlines()
    body = "\n".join(lines[node.lineno - 1 : node.end_lineno])
    if body.count(old) != 1:
        raise ValueError(
            f"mistake in {part.name}: {old!r} occurs {body.count(old)} times in the reference; expected once"
        )
    changed = ast.parse(textwrap.dedent(body.replace(old, new)))
    names = dict(vars(source.loaded))
    exec(compile(changed, f"<{part.name}>", "exec"), names)
    return names[node.name]


def leaks(a: Assignment) -> list[str]:
    """Statements of three or more operations of the solution that stand in what the student gets."""
    given = "\n".join(public_files(a).values())
    plain = _plain(given)
    found = []
    for part in a.parts:
        for statement in bodies(part.cut):
            if operations(statement) >= LONGEST_LEAK and _plain(statement) in plain:
                found.append(statement)
    return found


def _plain(text: str) -> str:
    """Without spaces and brackets, which the same statement may have or not."""
    return "".join(c for c in text if not c.isspace() and c not in "()")
