"""Gradescope: a zip with setup.sh and run_autograder; results.json in the end, whatever the submission does.

The grader runs as root in Gradescope's container. The submission runs as another user, in namespaces where the
container allows them. Hidden checks are shown after the grades are published: titles and reasons, never numbers.
Source: Gradescope, "Autograder Specifications" (files, results.json, visibility).
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from minires.course.declaration import Assignment, load
from minires.course.grading import SubmissionReport, grade
from minires.course.isolation import NoIsolation
from minires.course.platforms import declared, write_files
from minires.course.wheel import wheel, wheel_name, zip_of
from minires.files import atomic_write_text

ROOT = "/autograder"
MEMORY_MB = 640
"""Address space of a submission: Gradescope's smallest container has 768 MB."""

SETUP = """#!/usr/bin/env bash
# Runs once, when Gradescope builds the image: a Python of at least 3.11, bubblewrap, and minires' own wheel.
set -euo pipefail
here="${{AUTOGRADER_ROOT:-/autograder}}"
if command -v apt-get > /dev/null; then
    apt-get update -q || true
    apt-get install -y -q bubblewrap || true
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null \\
        && apt-get install -y -q python3-venv || apt-get install -y -q python3.11 python3.11-venv || true
fi
for python in "${{PYTHON:-python3}}" python3.13 python3.12 python3.11; do
    if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; then break; fi
done
"$python" -m venv "$here/venv"
"$here/venv/bin/pip" install -q "$here/source/{wheel}"
chmod -R go= "$here/source" "$here"/venv/lib/python3*/site-packages/minires || true  # where the solution is
"""

RUN = """#!/usr/bin/env bash
# Runs for every submission: grades {root}/submission, writes {root}/results/results.json.
here="${{AUTOGRADER_ROOT:-/autograder}}"
cd "$here/source"
exec "$here/venv/bin/python" -m minires.course.platforms.gradescope {what} "$here"
"""


def write(a: Assignment, out: Path) -> list[Path]:
    """autograder.zip, to be uploaded as it is."""
    what, own = declared(a)
    files = {
        "setup.sh": SETUP.format(wheel=wheel_name()).encode(),
        "run_autograder": RUN.format(root=ROOT, what=what).encode(),
        wheel_name(): wheel(),
        **{name: text.encode() for name, text in own.items()},
    }
    return write_files(out, {"autograder.zip": zip_of(files, ("setup.sh", "run_autograder"))})


def results(report: SubmissionReport) -> dict:
    """results.json of a report: a test for each check."""
    tests = []
    for part in report.parts:
        for check in part.checks:
            passed = check.earned >= check.points
            tests.append(
                {
                    "name": f"{part.name}: {check.title}",
                    "score": round(check.earned, 4),
                    "max_score": round(check.points, 4),
                    "status": "passed" if passed else "failed",
                    "output": "" if passed else "\n".join(filter(None, (check.told, check.example))),
                    "visibility": "after_published" if check.hidden else "visible",
                }
            )
    told = [report.problem or "", *report.notes]
    return {
        "score": report.earned,
        "output": "\n".join(filter(None, told)),
        "stdout_visibility": "hidden",
        "visibility": "visible",
        "execution_time": round(report.seconds),
        "extra_data": {"isolation": report.rung},
        "tests": tests,
    }


def broken(reason: str) -> dict:
    """results.json where the grader itself could not work: no score is claimed, the reason is for the instructor."""
    return {"score": 0, "output": f"The grader could not run: {reason}. Tell your instructor.", "tests": []}


def main(arguments: list[str]) -> int:
    """Grades the submission below a root laid out as Gradescope's; always leaves a results.json."""
    what, root = arguments[0], Path(arguments[1] if len(arguments) > 1 else ROOT)
    (root / "results").mkdir(parents=True, exist_ok=True)
    try:
        report = grade(
            load(what),
            root / "submission",
            id=_id(root),
            level=os.environ.get("MINIRES_FEEDBACK", "where"),
            memory_mb=MEMORY_MB,
        )
        told = results(report)
    except (NoIsolation, ValueError, OSError) as error:
        told = broken(str(error))
    atomic_write_text(root / "results" / "results.json", json.dumps(told, indent=1))
    return 0


def _id(root: Path) -> str:
    """The students' ids: the same person gets the same numbers at every attempt."""
    try:
        told = json.loads((root / "submission_metadata.json").read_text(encoding="utf-8"))
        return ",".join(sorted(str(user["id"]) for user in told["users"])) or str(told["id"])
    except (OSError, ValueError, KeyError, TypeError):
        return "submission"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
