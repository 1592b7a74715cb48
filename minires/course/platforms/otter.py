"""Otter 7.0.0: exception-based test files, a test case for each check, and the autograder zip for `otter run`.

The zip is made by `otter generate` where otter-grader is installed; else its command is in the README. Otter runs the
student's functions in the process of the tests.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from minires.course.declaration import Assignment, Part
from minires.course.platforms import declared, write_files
from minires.course.wheel import wheel, wheel_name

TEST = """from minires.course.notebook import assert_check
from otter.test_files import test_case

OK_FORMAT = False

name = "{name}"
points = {points}
"""

CASE = """

@test_case(points={points}, hidden={hidden}, name={title!r})
def test_{number}(env):
    assert_check({what!r}, {part!r}, {number}, env)
"""

README = """# {title} for Otter

    pip install ./{wheel} otter-grader==7.0.0
    otter generate -t tests -o autograder.zip -c otter_config.json -r requirements.txt {own}
    otter run {name}.py -a autograder.zip

Otter runs a submission in the process of its tests: code that is meant to deceive can reach them there.
`python -m minires course grade {name}.py` grades the same file in isolation. On Gradescope the image needs minires' own
wheel; the package made with `--for gradescope` has it and isolates submissions.
"""


def write(a: Assignment, out: Path) -> list[Path]:
    """tests/, otter_config.json, requirements.txt, the wheel, and autograder.zip where Otter is installed."""
    what, own = declared(a)
    files = {
        **{f"tests/{part.name}.py": tests(what, part) for part in a.parts},
        "otter_config.json": json.dumps({"show_hidden": False, "show_all_public": True}, indent=1),
        "requirements.txt": "numpy\n",
        wheel_name(): wheel(),
        "README.md": README.format(title=a.title, wheel=wheel_name(), name=a.name, own=" ".join(own)),
        **own,
    }
    written = write_files(out, files)
    if find_spec("otter") is not None:
        command = [sys.executable, "-m", "otter", "generate", "-t", "tests", "-o", "autograder.zip"]
        command += ["-c", "otter_config.json", "-r", "requirements.txt", "--no-environment", *own]
        shutil.rmtree(out / "autograder.zip", ignore_errors=True)
        subprocess.run(command, cwd=out, check=True, capture_output=True)
        written.append(out / "autograder.zip")
    return written


def tests(what: str, part: Part) -> str:
    """The test file of a part."""
    total = sum(check.weight for check in part.checks)
    cases = [
        CASE.format(
            points=round(part.points * check.weight / total, 6),
            hidden=check.hidden,
            title=check.title,
            number=number,
            what=what,
            part=part.name,
        )
        for number, check in enumerate(part.checks)
    ]
    return TEST.format(name=part.name, points=part.points) + "".join(cases)
