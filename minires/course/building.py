"""An assignment's folders: what students get, and what stays with the instructor.

    OUT/student/      NAME.py (stubs), README.md, test_NAME.py and .npz (the public checks), NAME.ipynb if asked
    OUT/instructor/   solution/NAME.py, checks.md (every check, hidden ones too), answer_key.md (typical faults)

Nothing in the student's folder is written by hand: the stubs are cut from the engine, the public numbers come from the
same checks that the grader runs.
"""

from __future__ import annotations

import io
import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from minires.course import cutting
from minires.course.checks import STANDARD, CallCheck, OpCheck
from minires.course.declaration import Assignment, Part
from minires.files import atomic_write, atomic_write_text
from minires.gradcheck import CATALOGUE
from minires.gradcheck.definitions import DEFINITIONS, run_backward, run_forward

FILE_HEAD = '''"""{title}: {points} points.

{introduction}

Write the functions below in this file, and hand in this file. Test as often as you like: python -m pytest -q
"""

from __future__ import annotations

import numpy as np
'''


NAMES = {"Array": "np.ndarray", "Pair": "int | tuple[int, int]", "Shape": "tuple[int, ...]"}
"""What a student needs to know of the names in the engine's signatures."""


def stub_text(a: Assignment) -> str:
    """The file that students fill in."""
    cut = [(part.points, cutting.stub(part.cut, part.name, part.hint)) for part in a.parts]
    parts = [f"# {points} {'point' if points == 1 else 'points'}\n{text}" for points, text in cut]
    named = [f"{name} = {means}\n" for name, means in NAMES.items() if re.search(rf"\b{name}\b", "".join(parts))]
    return "\n\n".join(["\n".join([_head(a), "".join(named)]) if named else _head(a), *parts])


def _head(a: Assignment) -> str:
    introduction = textwrap.fill(a.introduction, 100)
    return FILE_HEAD.format(title=a.title, points=a.points, introduction=introduction)


def solution_text(a: Assignment) -> str:
    """The same file with the engine's own bodies, and the helpers they need."""
    sources = [part.cut for part in a.parts]
    support = cutting.support(sources, ("np",)).replace("import numpy as np\n", "")
    return "\n\n".join([_head(a) + support, *(cutting.solution(part.cut, part.name) for part in a.parts)])


def public_files(a: Assignment) -> dict[str, str]:
    """The texts in the student's folder, by their names."""
    return {f"{a.name}.py": stub_text(a), "README.md": readme(a), f"test_{a.name}.py": public_tests(a)}


def build(a: Assignment, out: Path, notebook: bool = False) -> list[Path]:
    """Writes both folders below `out` and returns the files. OSError where they cannot be written."""
    student, instructor = out / "student", out / "instructor"
    (instructor / "solution").mkdir(parents=True, exist_ok=True)
    student.mkdir(parents=True, exist_ok=True)
    texts = {student / name: text for name, text in public_files(a).items()}
    texts[instructor / "solution" / f"{a.name}.py"] = solution_text(a)
    texts[instructor / "checks.md"] = list_of_checks(a)
    texts[instructor / "answer_key.md"] = answer_key(a)
    if notebook:
        texts[student / f"{a.name}.ipynb"] = as_notebook(stub_text(a))
    for path, text in texts.items():
        atomic_write_text(path, text)
    cases = student / f"test_{a.name}.npz"
    blob = io.BytesIO()
    np.savez_compressed(blob, **public_arrays(a))
    atomic_write(cases, lambda file: file.write(blob.getvalue()))
    return [*texts, cases]


# --- the student's folder ------------------------------------------------------------------------------------------


def readme(a: Assignment) -> str:
    """The assignment in words: what to write, for how many points, how to test."""
    rows = "\n".join(f"| `{p.name}` | {p.points} | {_asked(p)} |" for p in a.parts)
    return f"""# {a.title}

{textwrap.fill(a.introduction, 118)}

Fill in the functions of `{a.name}.py` and hand in that file. {a.points} points in all:

| function | points | checks |
| --- | --- | --- |
{rows}

Points are given for each check on its own, so half of a function earns part of its points. Hidden checks use other
numbers, sizes and settings, different ones for each of you.

Test what you have with `python -m pytest -q` in this folder. It needs numpy and pytest; some tests need minires as well
and are skipped without it. A failing test shows the first number that is wrong, yours and the right one.
{_advice(a)}"""


def _advice(a: Assignment) -> str:
    """How to ask the gradient check, where the assignment has an op that it knows."""
    ops = sorted({c.op for p in a.parts for c in p.checks if isinstance(c, OpCheck) and c.op in STANDARD})
    if not ops:
        return ""
    command = f"    python -m minires gradcheck {a.name}.py --like {ops[0]}"
    return f"\nWith minires installed, this says in words what is wrong with a forward and a backward:\n\n{command}\n"


def _asked(part: Part) -> str:
    public = sum(not c.hidden for c in part.checks)
    return f"{public} public, {len(part.checks) - public} hidden"


PUBLIC_TESTS = '''"""The public checks of "{title}". Run them with: python -m pytest -q"""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
SPEC = importlib.util.spec_from_file_location("{name}", HERE / "{name}.py")  # a folder may have the same name
yours = sys.modules["{name}"] = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(yours)

ARRAYS = np.load(HERE / "test_{name}.npz")
CASES = json.loads(str(ARRAYS["cases"]))


OTHERS = {others}


@pytest.mark.parametrize("part, number", OTHERS)
def test_with_minires(part, number):
    notebook = pytest.importorskip("minires.course.notebook", reason="this test needs minires")
    notebook.assert_check("{name}", part, number, vars(yours))


@pytest.mark.parametrize("case", CASES, ids=[case["title"] for case in CASES])
def test_{name}(case):
    arguments = [value(code) for code in case["arguments"]]
    options = {{name: value(code) for name, code in case["options"].items()}}
    result = getattr(yours, case["function"])(*arguments, **options)
    if case["backward"]:
        assert isinstance(result, (tuple, list)) and len(result) == 2, "forward has to return (y, cache)"
        result = getattr(yours, case["backward"])(value(case["dy"]), result[1])
    elif case["forward"]:
        assert isinstance(result, (tuple, list)) and len(result) == 2, "forward has to return (y, cache)"
        result = result[0]
    results = list(result) if isinstance(result, (tuple, list)) else [result]
    assert len(results) >= len(case["right"]), f"{{len(results)}} results; expected {{', '.join(case['names'])}}"
    for name, mine, code in zip(case["names"], results, case["right"]):
        compare(name, mine, value(code))


def value(code):
    if isinstance(code, dict):
        return ARRAYS[code["array"]].copy()[()]
    return tuple(code) if isinstance(code, list) else code


def compare(name, mine, right):
    assert mine is not None, f"{{name}} is None: is there a return?"
    mine, right = np.asarray(mine), np.asarray(right)
    assert mine.shape == right.shape, f"{{name}} has shape {{mine.shape}}; expected {{right.shape}}"
    with np.errstate(invalid="ignore"):
        wrong = ~(np.abs(mine - right) <= 1e-9 * max(np.abs(right).max(initial=0), 1e-300)) & (mine != right)
    if wrong.any():
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        first = f"{{name}}{{list(at) or ''}} is {{mine[at]:.6g}}; right is {{right[at]:.6g}}"
        pytest.fail(f"{{name}} is wrong in {{wrong.sum()}} of {{wrong.size}} entries; {{first}}", pytrace=False)
'''


def public_tests(a: Assignment) -> str:
    """The public checks as a file for pytest; its numbers are in an .npz beside it."""
    others = [
        (part.name, number)
        for part in a.parts
        for number, check in enumerate(part.checks)
        if not check.hidden and not isinstance(check, OpCheck | CallCheck) and not a.file
    ]
    return PUBLIC_TESTS.format(title=a.title, name=a.name, others=others)


def public_arrays(a: Assignment) -> dict[str, np.ndarray]:
    """Inputs and right results of the public checks, and under "cases" what belongs together, as JSON."""
    arrays: dict[str, np.ndarray] = {}

    def kept(value: object) -> object:
        if isinstance(value, np.ndarray | np.generic):
            name = f"a{len(arrays)}"
            arrays[name] = np.asarray(value)
            return {"array": name}
        return list(value) if isinstance(value, tuple) else value

    cases = []
    for part in a.parts:
        for check in part.checks:
            if not check.hidden:
                cases += _public_case(part, check, kept)
    return {"cases": np.array(json.dumps(cases)), **arrays}


def _public_case(part: Part, check: object, kept: object) -> Iterator[dict]:
    title = f"{part.name}, {check.title}"
    if isinstance(check, OpCheck):
        case = check.draw(0)
        y, cache = run_forward(check.op, case.inputs, case.options)
        back = check.direction == "backward"
        dy = np.random.default_rng(1).standard_normal(np.shape(y)) if np.ndim(y) else 1.0
        right = run_backward(check.op, dy, cache)[: len(case.inputs)] if back else (y,)
        names = [f"d{n}" for n in DEFINITIONS[check.op].inputs][: len(right)] if back else ["y"]
        yield {
            "title": title,
            "function": check.functions[0],
            "backward": check.functions[1] if back else None,
            "forward": True,
            "arguments": [kept(v) for v in case.inputs],
            "options": {k: kept(v) for k, v in case.options.items()},
            "dy": kept(np.asarray(dy)),
            "right": [kept(v) for v in right],
            "names": names,
        }
    elif isinstance(check, CallCheck):
        arguments, options = check.arguments(np.random.default_rng(0))
        right = check.reference(*arguments, **options)
        right = right if isinstance(right, tuple | list) else [right]
        yield {
            "title": title,
            "function": check.function,
            "backward": None,
            "forward": False,
            "arguments": [kept(v) for v in arguments],
            "options": {k: kept(v) for k, v in options.items()},
            "dy": None,
            "right": [kept(v) for v in right],
            "names": [f"{check.function}[{i}]" for i in range(len(right))] if len(right) > 1 else [check.function],
        }


def as_notebook(text: str) -> str:
    """A Python file as a notebook, a cell for each function. Needs jupytext."""
    import jupytext

    cells = text.replace("\n\n\n", "\n\n\n# %%\n")
    return jupytext.writes(jupytext.reads("# %%\n" + cells, fmt="py:percent"), fmt="ipynb")


# --- the instructor's folder ---------------------------------------------------------------------------------------


def list_of_checks(a: Assignment) -> str:
    """Every check with its points, hidden ones too."""
    lines = [f"# Checks of {a.title} ({a.points} points)\n", "| part | check | points | |", "| --- | --- | --- | --- |"]
    for part in a.parts:
        total = sum(c.weight for c in part.checks)
        for c in part.checks:
            seen = "hidden" if c.hidden else "public"
            lines.append(f"| `{part.name}` | {c.title} | {part.points * c.weight / total:.2f} | {seen} |")
    return "\n".join(lines) + "\n"


def answer_key(a: Assignment) -> str:
    """The typical faults of every part, and what a student reads about each."""
    from minires.course.selfcheck import _op_of, faults_of_part

    lines = [f"# Typical faults in {a.title}\n"]
    for part in a.parts:
        op, direction, _ = _op_of(part)
        faults = faults_of_part(op, direction)
        own = [m.name for m in a.mistakes if m.part == part.name]
        if faults or own:
            lines += [f"\n## `{part.name}`\n"]
            lines += [f"- **{f.name}**: {CATALOGUE[f.name].sentence} *Hint: {f.hint}*" for f in faults]
            lines += [f"- {name}" for name in own]
    return "\n".join(lines) + "\n"
