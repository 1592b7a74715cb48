"""One submission, graded: its code in an isolated process, its arrays judged here, a report in the end, always.

No object of the submission is rebuilt here and none of its words is believed: the grader asks for calls, gets arrays,
and compares them. Each check is asked on its own; what crashes or hangs loses its own points, and the rest goes on.
"""

from __future__ import annotations

import builtins
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np

from minires.course import drivers, isolation, submissions
from minires.course.callers import LocalCaller, Missing, WatchedCaller
from minires.course.cutting import Source, stripped_package
from minires.course.declaration import LEVELS, Assignment, Caller, Check, Outcome, Part, load
from minires.course.submissions import Submission
from minires.gradcheck import worker
from minires.gradcheck.process import MB, Limits
from minires.gradcheck.runner import CallError, Stopped, Student

MEMORY_MB = 1536
PROCESSES = 5
"""A submission's limits: megabytes of one process, and how many processes and threads there may be."""


@dataclass
class CheckReport:
    """One check of one part."""

    title: str
    hidden: bool
    points: float
    earned: float
    told: str = ""
    """What the student is told, on the level that the instructor chose."""
    example: str = ""
    """Numbers; of public checks only."""
    fault: str | None = None
    alike: tuple[str, ...] = ()


@dataclass
class PartReport:
    """One part."""

    name: str
    points: int
    checks: list[CheckReport]

    @property
    def earned(self) -> float:
        """Points, rounded to hundredths."""
        return round(sum(check.earned for check in self.checks), 2)


@dataclass
class SubmissionReport:
    """All that is known about one submission."""

    assignment: str
    title: str
    id: str
    rung: str
    parts: list[PartReport]
    notes: list[str] = field(default_factory=list)
    problem: str | None = None
    """Why nothing could be graded."""
    seconds: float = 0.0
    printed: str = ""
    """The beginning of what the submission printed. Hidden inputs may stand in it: it is for the instructor alone."""

    @property
    def points(self) -> int:
        return sum(part.points for part in self.parts)

    @property
    def earned(self) -> float:
        return round(sum(part.earned for part in self.parts), 2)

    def as_dict(self) -> dict:
        """For JSON."""
        told = asdict(self) | {"earned": self.earned, "points": self.points}
        for part, report in zip(told["parts"], self.parts, strict=True):
            part["earned"] = report.earned
        return told

    @classmethod
    def from_dict(cls, told: dict) -> SubmissionReport:
        """From `as_dict`."""
        parts = [
            PartReport(p["name"], p["points"], [CheckReport(**{**c, "alike": tuple(c["alike"])}) for c in p["checks"]])
            for p in told["parts"]
        ]
        kept = {k: told[k] for k in ("assignment", "title", "id", "rung", "notes", "problem", "seconds", "printed")}
        return cls(parts=parts, **kept)


def grade(
    assignment: Assignment | str,
    path: Path | str,
    *,
    id: str | None = None,
    level: str = "where",
    rung: str | None = None,
    trust: bool = False,
    slot: int = 0,
    memory_mb: int = MEMORY_MB,
) -> SubmissionReport:
    """Grades the submission at `path`: a .py, .ipynb, .zip or a folder.

    id: the submission's, from which its hidden numbers come; by default the name of the file or folder. level: how much
    the feedback says, one of `LEVELS`. rung: "bubblewrap", "user" or "none"; by default the best there is.
    slot: another number for each submission that is graded at the same time. memory_mb: address space of its process.

    Raises NoIsolation where no rung can be used and `trust` is False, ValueError for an unknown assignment or level,
    FileNotFoundError where there is no submission. Whatever the submission does ends in a report.
    """
    assignment = load(assignment) if isinstance(assignment, str) else assignment
    if level not in LEVELS:
        raise ValueError(f"level is {level!r}; expected one of {', '.join(LEVELS)}")
    path = Path(path)
    if not path.exists() and not path.is_symlink():
        raise FileNotFoundError(f"there is no submission {path}")
    chosen = isolation.choose(rung, trust)
    submission = submissions.read(path, assignment)
    begun = time.perf_counter()
    report = _graded(assignment, submission, id or submission.id, level, chosen, slot, memory_mb)
    report.seconds = round(time.perf_counter() - begun, 2)
    return report


def _graded(
    a: Assignment, submission: Submission, id: str, level: str, rung: str, slot: int, memory_mb: int
) -> SubmissionReport:
    report = SubmissionReport(a.name, a.title, id, rung, [], list(submission.notes), submission.problem)
    if submission.problem:
        report.parts = [failed_part(part, submission.problem) for part in a.parts]
        return report
    with running(a, submission, rung, slot, memory_mb) as student:
        try:
            _ = student.functions
        except (CallError, Stopped) as error:
            report.problem = f"{a.name}.py cannot be loaded: {_named(error)}"
            report.parts = [failed_part(part, report.problem) for part in a.parts]
        else:
            caller = WatchedCaller(student)
            report.parts = [grade_part(a, part, caller, id, LEVELS.index(level)) for part in a.parts]
        student.close()
        report.printed = student.printed[:2000]
    return report


@contextmanager
def running(
    a: Assignment,
    submission: Submission,
    rung: str,
    slot: int = 0,
    memory_mb: int = MEMORY_MB,
    call_seconds: float | None = None,
    total_seconds: float | None = None,
) -> Iterator[Student]:
    """The submission's file, staged, isolated, ready to be called. The seconds are the assignment's by default."""
    with isolation.staged() as stage, isolation.isolated(rung, stage, slot) as isolated:
        shutil.copytree(_package(a), stage, dirs_exist_ok=True)
        files = stage / "submission"
        files.mkdir()
        for name, text in submission.texts.items():
            (files / f"{name}.py").write_text(text, encoding="utf-8", errors="surrogatepass")
        _readable(stage)
        before = [isolated.inside(files / f"{name}.py") for name in a.needs if name in submission.texts]
        slower = busy()
        seconds = (20.0, call_seconds or a.call_seconds, total_seconds or a.total_seconds)
        limits = Limits(*(slower * s for s in seconds), memory_mb * MB, 16 * MB, printed=4 * MB)
        if rung != "none":
            limits = replace(limits, processes=PROCESSES)
        if rung == "user":
            limits = replace(limits, files=1)  # nothing there bounds the bytes of many files
        with Student(
            files / f"{a.name}.py",
            limits,
            path=[isolated.inside(stage)],
            wrap=isolated.wrap,
            environment=_ENVIRONMENT,
            seen_as=isolated.inside(files / f"{a.name}.py"),
            worker=isolated.inside(stage / "worker.py"),
            driver=isolated.inside(stage / "drivers.py"),
            before=before,
        ) as student:
            yield student


def busy() -> float:
    """How many times longer everything takes because the machine has other work: a slow grader shall cost no points."""
    if not hasattr(os, "getloadavg"):
        return 1.0
    return min(max(os.getloadavg()[0] / (os.cpu_count() or 1), 1.0), 5.0)


_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "MPLCONFIGDIR": "/tmp"}
"""Nothing of the grader's own environment reaches a submission: tokens may stand in it. An `import matplotlib.pyplot`
that was left in wants a folder whose modes let it write; where it may not after all, it goes on without one."""


def _readable(stage: Path) -> None:
    for path in stage.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


@cache
def _packages() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="minires-course-")


_made: dict[str, Path] = {}


def _package(a: Assignment) -> Path:
    """A folder with the minires that the submission sees, and what runs it; made once."""
    key = f"{a.name} {a.file}"
    if key not in _made:
        folder = Path(_packages().name) / str(len(_made))
        folder.mkdir()
        stripped_package(folder, [*(part.cut for part in a.parts), *map(Source.parse, a.blanks)])
        shutil.copy(worker.__file__, folder / "worker.py")
        shutil.copy(drivers.__file__, folder / "drivers.py")
        _made[key] = folder
    return _made[key]


# --- parts and checks ----------------------------------------------------------------------------------------------


def grade_part(a: Assignment, part: Part, caller: Caller, id: str, level: int) -> PartReport:
    """Every check of a part, each on its own."""
    total = sum(check.weight for check in part.checks)
    done = []
    caller.words = {}
    absent = caller.absent(part.name)  # a driver would run the engine's own in its place
    for check in part.checks:
        points = part.points * check.weight / total
        outcome = _lost(absent) if absent else run_check(check, caller, a.seed(id, part.name, check.name))
        fraction = min(max(outcome.fraction, 0.0), 1.0)
        told = "" if outcome.passed else outcome.told[level]
        example = outcome.shown if level and not check.hidden and not outcome.passed else ""
        done.append(
            CheckReport(
                check.title, check.hidden, points, points * fraction, told, example, outcome.fault, outcome.alike
            )
        )
    return PartReport(part.name, part.points, done)


def run_check(check: Check, caller: Caller, seed: int) -> Outcome:
    """The outcome of one check, whatever the submission does."""
    try:
        return check.run(caller, seed)
    except Missing as error:
        return _lost(str(error))
    except Stopped as error:
        return _lost(error.reason if check.hidden else str(error))
    except CallError as error:
        if type(error).__name__ == "NotImplementedError":
            return _lost("not written yet")
        return _lost(_unseen(error, caller) if check.hidden else _named(error))
    except NotImplementedError:
        return _lost("not written yet")
    except (ValueError, TypeError, ArithmeticError, LookupError, AttributeError, MemoryError, RuntimeError) as error:
        return _lost("the call raised an exception" if isinstance(caller, LocalCaller) else _unjudged(error))


def _unjudged(error: Exception) -> str:
    return f"what came back could not be judged ({type(error).__name__})"


def _lost(reason: str) -> Outcome:
    return Outcome(0.0, (reason if reason == "not written yet" else "wrong or not running", reason, reason))


def _named(error: Exception) -> str:
    return str(error) if isinstance(error, Stopped) else f"{type(error).__name__}: {error}"


def _unseen(error: CallError, caller: WatchedCaller) -> str:
    """An exception on hidden inputs: its kind and line. Its text, or a name of its own, may quote them."""
    kind, line = type(error).__name__, caller.line(error.line)
    where = f" in line {error.line}: {line}" if line else ""
    return f"{kind if hasattr(builtins, kind) or hasattr(np.exceptions, kind) else 'an exception'}{where}"


def failed_part(part: Part, reason: str) -> PartReport:
    """A part that could not even be asked."""
    total = sum(check.weight for check in part.checks)
    checks = [CheckReport(c.title, c.hidden, part.points * c.weight / total, 0.0, reason) for c in part.checks]
    return PartReport(part.name, part.points, checks)


def local_report(a: Assignment, caller: Caller, id: str = "local", level: str = "fault") -> list[PartReport]:
    """The parts judged on functions of this process: the reference, or a planted fault."""
    return [grade_part(a, part, caller, id, LEVELS.index(level)) for part in a.parts]
