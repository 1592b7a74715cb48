"""nbgrader 0.9.6: a course folder with the source notebook, its solutions and hidden tests.

Each part is a solution cell and a test cell with the part's points. Points for some of the checks are the value of
the cell, nbgrader's way of partial credit. nbgrader runs the student's functions in the kernel beside the tests.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from minires.course import cutting
from minires.course.declaration import Assignment, Part
from minires.course.platforms import declared, write_files
from minires.course.wheel import wheel, wheel_name

CONFIG = """c = get_config()  # noqa: F821
c.CourseDirectory.course_id = "{name}"
c.ClearSolutions.code_stub = {{"python": 'raise NotImplementedError("yours to write")'}}
# A .py beside a notebook is released as it stands and overwritten by the instructor's copy at autograding, which would
# grade the instructor's code for the student's. Files that students hand in are named here:
c.Autograde.exclude_overwriting = {{"{name}": ["*.py"]}}
"""

README = """# {title} for nbgrader

    pip install ./{wheel} nbgrader==0.9.6
    nbgrader generate_assignment {name} --create
    nbgrader autograde {name} --create

Hidden tests leave the released notebook, so their numbers are not seen. With them goes the file of an assignment of
your own: without it a student's test cells say that they run later, so hand out `student/test_{name}.py` as well.
nbgrader runs hidden tests in the kernel of the student's notebook: code that is meant to deceive can reach them there.
To grade the same notebooks in isolation:

    python -m minires course grade submitted/*/{name}
"""


def write(a: Assignment, out: Path) -> list[Path]:
    """The course folder: source/NAME/NAME.ipynb, nbgrader_config.py, the wheel."""
    files = {
        f"source/{a.name}/{a.name}.ipynb": notebook(a),
        "nbgrader_config.py": CONFIG.format(name=a.name),
        wheel_name(): wheel(),
        "README.md": README.format(title=a.title, wheel=wheel_name(), name=a.name),
    }
    return write_files(out, files)


def notebook(a: Assignment) -> str:
    """The source notebook, with solutions and hidden tests."""
    what, own = declared(a)
    shown = what if a.file else a.name  # public checks do not depend on the secret
    head = f"# {a.title}\n\n{a.introduction}\n\n{a.points} points."
    first = "from __future__ import annotations\n\nimport numpy as np\n\nfrom minires.course.notebook import points_of"
    cells = [_cell("markdown", head, "introduction"), _cell("code", first, "imports")]
    cells.append(_cell("code", helpers(a, own), "helpers", points=0))
    for part in a.parts:
        cells.append(_cell("code", solution(part), part.name, solution=True))
        cells.append(_cell("code", test(shown, what, part), f"test_{part.name}", points=part.points))
    told = {"metadata": _KERNEL, "nbformat": 4, "nbformat_minor": 5, "cells": cells}
    return json.dumps(told, indent=1) + "\n"


_KERNEL = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def helpers(a: Assignment, own: Mapping[str, str]) -> str:
    """What several of the reference's functions share, in a region that the released notebook does not have.

    So is the declaration of an assignment that is not minires' own: its secret, perhaps its solution, stand in it.
    """
    text = cutting.support([part.cut for part in a.parts], ("np",)).strip()
    for name, declaration in own.items():
        text += f"\nfrom minires.course.notebook import declare\ndeclare({name!r}, {declaration!r})"
    return f"# Nothing to do here.\n### BEGIN HIDDEN TESTS\n{text}\n### END HIDDEN TESTS"


def solution(part: Part) -> str:
    """The stub with the reference between nbgrader's marks."""
    end = "    raise NotImplementedError"
    head = cutting.stub(part.cut, part.name, part.hint).rpartition(end)[0]
    bare = cutting.stub(part.cut, part.name).rpartition(end)[0]
    body = cutting.solution(part.cut, part.name)[len(bare) :].rstrip()
    return f"{head}    ### BEGIN SOLUTION\n{body}\n    ### END SOLUTION"


def test(shown: str, what: str, part: Part) -> str:
    """The test cell: public checks for everybody, all of them at autograding."""
    public, every = (f'points_of("{name}", "{part.name}", globals()' for name in (shown, what))
    return f"{public})\n### BEGIN HIDDEN TESTS\n{every}, hidden=True)\n### END HIDDEN TESTS"


def _cell(kind: str, source: str, id: str, solution: bool = False, points: int | None = None) -> dict:
    about = {
        "grade": points is not None,
        "grade_id": id,
        "locked": not solution,
        "schema_version": 3,
        "solution": solution,
        "task": False,
    }
    if points is not None:
        about["points"] = points
    cell = {"cell_type": kind, "id": id.replace("_", "-")[:60], "metadata": {"nbgrader": about}, "source": source}
    return cell if kind == "markdown" else cell | {"execution_count": None, "outputs": []}
