"""Plain pytest: a folder in which `pytest` grades a submission, a test for each part, in an isolated process."""

from __future__ import annotations

from pathlib import Path

from minires.course.declaration import Assignment
from minires.course.platforms import declared, write_files
from minires.course.wheel import wheel, wheel_name

TESTS = '''"""Grades {name}.py in this folder, or SUBMISSION=path.

    pip install ./{wheel}
    python -m pytest -q test_grade.py
"""

import functools
import os
from pathlib import Path

import pytest

from minires import course

HERE = Path(__file__).parent
ASSIGNMENT = course.load({what})


@functools.cache
def report():
    path = Path(os.environ.get("SUBMISSION", HERE / "{name}.py"))
    return course.grade(ASSIGNMENT, path, trust=os.environ.get("TRUST") == "1")


@pytest.mark.parametrize("number", range(len(ASSIGNMENT.parts)), ids=[part.name for part in ASSIGNMENT.parts])
def test_part(number):
    part = report().parts[number]
    lost = [f"{{c.title}}: {{c.told}} {{c.example}}" for c in part.checks if c.earned < c.points]
    assert not lost, f"{{part.earned:g}} of {{part.points}} points\\n" + "\\n".join(lost)
'''


def write(a: Assignment, out: Path) -> list[Path]:
    """test_grade.py, the wheel, and the declaration where it is the instructor's own."""
    what, own = declared(a)
    shown = f'HERE / "{what}"' if own else f'"{what}"'
    text = TESTS.format(name=a.name, wheel=wheel_name(), what=shown)
    return write_files(out, {"test_grade.py": text, wheel_name(): wheel(), **own})
