"""A whole class: many submissions side by side, a table, a page for each student and one for the instructor.

OUT/grades.csv            one line a submission, under the platform's id
OUT/class.html            histogram, faults, checks, near-identical submissions
OUT/reports/ID.html       what the student gets
OUT/reports/ID.json       the same as data; a submission that has not changed since is not graded again
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path

import minires
from minires.course import isolation, submissions
from minires.course.building import solution_text
from minires.course.declaration import Assignment, load
from minires.course.grading import SubmissionReport, failed_part, grade
from minires.course.pages import class_page, points, student_page
from minires.course.similarity import fingerprint, near_copies
from minires.files import atomic_write_text
from minires.gradcheck.process import printable
from minires.workers import Failure, each_result

ENGINE = "(the engine's own code)"
"""How class.html calls the reference among near-identical files."""

PLATFORM_IDS = (
    r"submission_(\d+)",  # Gradescope's export: submission_123456/
    r"_(\d+)_assignsubmission",  # Moodle: Ada Lovelace_1234567_assignsubmission_file
    r"^[^_]+?(?:_LATE)?_(\d+)_\d+_",  # Canvas: lovelaceada_4711_0815_conv.py
)


def platform_id(path: Path) -> str:
    """The id under which the platform knows a submission, where its name tells; else the name."""
    name = path.name
    for pattern in PLATFORM_IDS:
        if found := re.search(pattern, name):
            return found[1]
    return re.sub(r"[^\w.@+-]+", "_", path.stem if path.is_file() else name)


def find(paths: list[Path]) -> dict[str, Path]:
    """Submissions by their ids. A folder of files or folders is a class; ids that meet get a number."""
    listed: list[Path] = []
    for path in paths:
        listed += _class_of(path)
    found: dict[str, Path] = {}
    for path in listed:
        wanted, number = platform_id(path), 2
        id = wanted
        while id in found:
            id, number = f"{wanted}-{number}", number + 1
        found[id] = path
    return found


def passed_over(paths: list[Path]) -> list[Path]:
    """Files beside the submissions of a class that are taken for none, such as a .docx."""
    classes = [path for path in paths if path.is_dir() and not path.is_symlink() and _class_of(path) != [path]]
    return [p for path in classes for p in _inside(path) if p.is_file() and p not in _class_of(path)]


def _class_of(path: Path) -> list[Path]:
    """The submissions at a path: itself, or what a folder of a class holds."""
    if not path.is_dir() or path.is_symlink():
        return [path]
    kept = [p for p in _inside(path) if p.is_dir() or p.is_symlink() or p.suffix in (".py", ".ipynb", ".zip")]
    return [p for p in kept if p.name != "__pycache__"] or [path]


def _inside(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if not p.name.startswith("."))


def grade_class(
    a: Assignment,
    found: dict[str, Path],
    out: Path,
    *,
    jobs: int = 1,
    level: str = "where",
    rung: str | None = None,
    trust: bool = False,
    progress: Callable[[SubmissionReport, bool], object] = lambda report, fresh: None,
    executor: Executor | None = None,
) -> list[SubmissionReport]:
    """Grades what has changed, `jobs` at a time, writes all files below `out` and returns every report.

    progress(report, fresh) is called after each; fresh: it was graded now. executor: the ranks of an MPI job, in
    place of `jobs` processes here. Raises NoIsolation as `grade` does.
    """
    chosen = isolation.choose(rung, trust)
    folder = out / "reports"
    folder.mkdir(parents=True, exist_ok=True)
    key = _assignment_key(a)
    reports: dict[str, SubmissionReport] = {}
    waiting: dict[str, tuple[Path, str]] = {}
    for id, path in found.items():
        stamp = f"{key} {level} {chosen} {_content_key(a, path)}"
        kept = _stored(folder / f"{id}.json", stamp)
        if kept is None:
            waiting[id] = (path, stamp)
        else:
            reports[id] = kept
            progress(kept, False)
    for report, finished in _graded(a, waiting, jobs, level, chosen, executor):
        reports[report.id] = report
        told = {"stamp": waiting[report.id][1], "report": report.as_dict()}
        atomic_write_text(folder / f"{report.id}.html", student_page(report))
        if finished:
            atomic_write_text(folder / f"{report.id}.json", json.dumps(told, indent=1))
        progress(report, True)
    ordered = [reports[id] for id in sorted(reports)]
    atomic_write_text(out / "grades.csv", grades_csv(ordered, found))
    atomic_write_text(out / "class.html", class_page(ordered, _copies(a, found)))
    return ordered


def _graded(
    a: Assignment, waiting: dict[str, tuple[Path, str]], jobs: int, level: str, rung: str, executor: Executor | None
) -> Iterator[tuple[SubmissionReport, bool]]:
    """The reports as they are finished; False: the grader failed, not the submission, which loses nothing for good."""
    tasks = [(a.file or a.name, str(path), id, level, rung, a.secret) for id, (path, _) in waiting.items()]
    for task, report in each_result(_one, tasks, max(1, min(jobs, len(tasks))), executor):
        if isinstance(report, Failure):
            problem = f"the grader failed here ({report.reason}); grade it again"
            parts = [failed_part(part, problem) for part in a.parts]
            yield SubmissionReport(a.name, a.title, task[2], rung, parts, problem=problem), False
        else:
            yield report, True


def _one(task: tuple[str, str, str, str, str, str]) -> SubmissionReport:
    what, path, id, level, rung, secret = task
    a = replace(load(what), secret=secret)
    return grade(a, Path(path), id=id, level=level, rung=rung, trust=rung == "none")


# --- what has been graded already ----------------------------------------------------------------------------------


def _assignment_key(a: Assignment) -> str:
    """Changes with the assignment, the reference and the version."""
    text = solution_text(a) + repr(
        [(p.name, p.points, [(c.name, c.weight, c.hidden) for c in p.checks]) for p in a.parts]
    )
    declared = Path(a.file).read_text(encoding="utf-8") if a.file else ""
    return hashlib.sha256(f"{minires.__version__}\0{a.secret}\0{text}\0{declared}".encode()).hexdigest()[:24]


def _content_key(a: Assignment, path: Path) -> str:
    read = submissions.read(path, a)
    told = json.dumps([sorted(read.texts.items()), read.problem])
    return hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()[:24]


def _stored(path: Path, stamp: str) -> SubmissionReport | None:
    """The report of an earlier run, if nothing has changed."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return SubmissionReport.from_dict(told["report"]) if told["stamp"] == stamp else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


# --- tables --------------------------------------------------------------------------------------------------------


def grades_csv(reports: list[SubmissionReport], found: dict[str, Path]) -> str:
    """One line a submission: id, points of every part, the sum, and what went wrong as a whole."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    parts = [p.name for p in reports[0].parts] if reports else []
    writer.writerow(["id", "file", "points", "of", *parts, "problem", "isolation", "seconds"])
    for r in reports:
        cells = [_plain(r.id), _plain(found[r.id].name), points(r.earned), r.points]
        writer.writerow([*cells, *(points(p.earned) for p in r.parts), _plain(r.problem or ""), r.rung, r.seconds])
    return file.getvalue()


def _plain(text: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    text = printable(text)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t") else text


def _copies(a: Assignment, found: dict[str, Path]) -> list[tuple[float, str, str]]:
    prints = {ENGINE: fingerprint(solution_text(a))}
    for id, path in found.items():
        text = submissions.read(path, a).texts.get(a.name)
        if text:
            prints[id] = fingerprint(text)
    return near_copies(prints)
