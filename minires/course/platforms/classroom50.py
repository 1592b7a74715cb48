"""Classroom 50: a bundle whose autograder.py writes result.json, schema classroom50/result/v1.

Scores are integers, one test for each part. A wrong submission is no failure of the grader, so the exit code is 0
unless the grader itself is broken. The bundle can be read by students. What is in it, declaration and seeds, is no
secret: hidden checks are only unseen in the feedback. Grading happens in the student's own repository.
"""

from __future__ import annotations

import datetime
import json
import os
import sys
from pathlib import Path

from minires.course.declaration import Assignment, load
from minires.course.grading import SubmissionReport, grade
from minires.course.platforms import declared, write_files
from minires.course.wheel import wheel, wheel_name
from minires.files import atomic_write_text

SCHEMA = "classroom50/result/v1"

AUTOGRADER = '''#!/usr/bin/env python3
"""Grades the repository in the current folder with minires' own wheel and writes result.json."""

import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
with tempfile.TemporaryDirectory() as folder:
    python = Path(folder) / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", str(python.parents[1])], check=True)
    subprocess.run([str(python), "-m", "pip", "install", "-q", str(HERE / "{wheel}")], check=True)
    what = HERE / "{what}" if "{what}".endswith(".py") else "{what}"
    command = [str(python), "-m", "minires.course.platforms.classroom50", str(what)]
    sys.exit(subprocess.run(command).returncode)
'''

README = """# {title} for Classroom 50

Put these files into `CLASSROOM/autograders/ASSIGNMENT/`. The runner calls `autograder.py` in the student's repository.

Not secret: students can read this bundle, so also the declaration, with functions of your own if there are any in it,
and the seeds of the hidden checks. The reference is minires itself and public in any case. The grader needs bubblewrap
or root to isolate a submission; on GitHub's runners `sudo apt-get install bubblewrap` in the runtime block gives it.
Without it, `MINIRES_TRUST=1` runs the submission with limits only, in the student's own runner.
"""


def write(a: Assignment, out: Path) -> list[Path]:
    """The bundle as a folder."""
    what, own = declared(a)
    text = AUTOGRADER.format(wheel=wheel_name(), what=what)
    files = {"autograder.py": text, wheel_name(): wheel(), "README.md": README.format(title=a.title), **own}
    return write_files(out, files, ("autograder.py",))


def result(report: SubmissionReport, environment: dict[str, str]) -> dict:
    """result.json: integer points, rounded down, so that nobody gets what was not earned."""
    tests = [
        {"test-name": p.name, "passed": p.earned == p.points, "score": int(p.earned), "max-score": p.points}
        for p in report.parts
    ]
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    commit = environment.get("COMMIT_URL", "")
    return {
        "schema": SCHEMA,
        "classroom": environment.get("CLASSROOM", ""),
        "assignment": environment.get("ASSIGNMENT", report.assignment),
        "submission": environment.get("SUBMISSION_TAG", ""),
        "commit": commit,
        "release": environment.get("RELEASE_URL", ""),
        "review": environment.get("REVIEW_URL") or commit,
        "datetime": now,
        "score": sum(t["score"] for t in tests),
        "max-score": report.points,
        "tests": tests,
    }


def main(arguments: list[str]) -> int:
    """Grades the current folder; 1 if the grader itself is broken."""
    trust = os.environ.get("MINIRES_TRUST") == "1"
    try:
        who = os.environ.get("GITHUB_REPOSITORY", "repository")
        report = grade(load(arguments[0]), Path.cwd(), id=who, trust=trust)
    except Exception as error:
        print(f"::error::the grader is broken: {error}", file=sys.stderr)
        return 1
    atomic_write_text(Path("result.json"), json.dumps(result(report, dict(os.environ)), indent=2))
    for part in report.parts:
        for check in part.checks:
            if check.told:
                print(f"{part.name}, {check.title}: {check.told} {check.example}".rstrip())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
