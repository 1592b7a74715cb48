"""Stubs, solutions and the package that submissions see, cut by the syntax tree."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from minires.course import ORDER, load
from minires.course.building import public_arrays, public_files, solution_text, stub_text
from minires.course.cutting import Source, blank, operations, stripped_package
from minires.course.selfcheck import leaks


@pytest.mark.parametrize("name", ORDER)
def test_stub_and_solution_of_every_assignment(name):
    a = load(name)
    stub, solution = ast.parse(stub_text(a)), ast.parse(solution_text(a))
    for tree in (stub, solution):
        functions = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef)}
        assert {p.name for p in a.parts} <= set(functions)
        assert all(ast.get_docstring(functions[p.name]) == ast.get_docstring(p.cut.node) for p in a.parts)
    for node in stub.body:
        if isinstance(node, ast.FunctionDef):
            assert isinstance(node.body[-1], ast.Raise) and len(node.body) <= 2
    assert "Backward." not in stub_text(a), "the derivation of the module's docstring belongs to the solution"
    assert leaks(a) == []


def test_a_leak_is_seen(monkeypatch):
    from minires.course import selfcheck

    a = load("linear_softmax")
    given = public_files(a) | {
        "README.md": "try: dx = dy @ weight\nreturn dy @ weight, dy.T @ x, dy.sum(axis=0) if has_bias else None"
    }
    monkeypatch.setattr(selfcheck, "public_files", lambda a: given)
    assert len(selfcheck.leaks(a)) == 1


def test_operations_are_counted():
    assert operations("a = b") == 0 and operations("a = b + c[0]") == 2 and operations("f(x).g(y * 2)") == 3


def test_blanking_leaves_the_rest_of_a_module():
    text = "def f(x):\n    'doc'\n    return x + 1\n\n\nclass A:\n    def g(self):\n        return 2\n\n    z = 3\n"
    blanked = blank(text, ["f", "A.g", "nothing", "f"])
    names: dict = {}
    exec(compile(blanked, "blanked", "exec"), names)
    assert names["A"].z == 3 and names["f"].__doc__ == "doc"
    for call in (lambda: names["f"](1), lambda: names["A"]().g()):
        with pytest.raises(NotImplementedError):
            call()


def test_sources_that_are_none():
    for text in ("minires.ops.conv2d_forward", "m:", "m:a.b.c"):
        with pytest.raises(ValueError, match="no source"):
            Source.parse(text)
    with pytest.raises(ValueError, match="has no function"):
        _ = Source.parse("minires.ops.conv:nothing").node


def test_the_package_of_a_submission_has_stubs_and_no_second_version(tmp_path):
    a = load("conv")
    stripped_package(tmp_path, [p.cut for p in a.parts])
    code = (
        "import numpy as np, minires.nn, minires.optim, minires.data\n"
        "from minires.ops import conv2d_forward, linear_forward\n"
        "linear_forward(np.ones((2, 3)), np.ones((4, 3)))\n"
        "for name in ('fast', 'bench', 'gradcheck', 'course'):\n"
        "    try: __import__(f'minires.{name}')\n"
        "    except ImportError: continue\n"
        "    raise SystemExit(f'minires.{name} is there')\n"
        "try: conv2d_forward(np.ones((2, 3, 4, 4)), np.ones((1, 3, 3, 3)))\n"
        "except NotImplementedError: print('stub')\n"
    )
    command = [sys.executable, "-c", code]
    told = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True)
    assert told.stdout == "stub\n", told.stderr


def test_public_numbers_are_the_same_at_all_times():
    one, two = public_arrays(load("linear_softmax")), public_arrays(load("linear_softmax"))
    assert one.keys() == two.keys() and all((one[k] == two[k]).all() for k in one)
