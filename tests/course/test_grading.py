"""Grading: points for each check with its reason, variants, feedback by level, a class, and the self-check."""

from __future__ import annotations

import csv
import dataclasses
import inspect
import json
import math
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import minires
from minires.cli import main
from minires.course import check, grade, isolation, load
from minires.course.building import build, solution_text
from minires.course.callers import LocalCaller
from minires.course.classroom import find, grade_class, platform_id
from minires.course.declaration import Assignment, Mistake, Part
from minires.course.grading import local_report
from minires.course.platforms import package
from minires.course.selfcheck import reference_functions
from minires.course.similarity import alike, fingerprint

LINEAR = load("linear_softmax")
GOOD = solution_text(LINEAR)
MEAN = GOOD.replace("dy.sum(axis=0) if has_bias", "dy.mean(axis=0) if has_bias")
TRUST = {"trust": True} if isolation.available() == ("none",) else {}


def _file(folder, text, name="linear_softmax.py"):
    folder.mkdir(exist_ok=True, parents=True)
    (folder / name).write_text(text)
    return folder / name


def test_points_and_reasons_of_half_a_solution(tmp_path):
    report = grade(LINEAR, _file(tmp_path, MEAN), level="fault", **TRUST)
    earned = {p.name: p.earned for p in report.parts}
    assert earned["linear_forward"] == 2 and earned["softmax_cross_entropy_backward"] == 3
    assert 0 < earned["linear_backward"] < 4, "dx and dweight are right"
    lost = [c for c in report.parts[1].checks if c.earned < c.points]
    assert lost and all(c.fault == "linear:dbias-mean" for c in lost if c.fault)
    assert "mean of dy" in lost[0].told
    assert any("right is" in c.example for c in lost) and not any(c.example for c in lost if c.hidden)


def test_levels_of_feedback(tmp_path):
    said = {}
    for level in ("verdict", "where", "fault"):
        report = grade(LINEAR, _file(tmp_path, MEAN), level=level, **TRUST)
        said[level] = " ".join(c.told for p in report.parts for c in p.checks)
    assert "dbias" not in said["verdict"] and "wrong:" in said["verdict"]
    assert "dbias" in said["where"] and "mean of dy" not in said["where"]
    with pytest.raises(ValueError, match="expected one of verdict, where, fault"):
        grade(LINEAR, tmp_path / "linear_softmax.py", level="everything")


def test_the_same_submission_gets_the_same_grade_and_another_id_other_numbers(tmp_path):
    path = _file(tmp_path, MEAN)
    one, two = (grade(LINEAR, path, **TRUST).as_dict() for _ in range(2))
    assert one | {"seconds": 0} == two | {"seconds": 0}
    assert LINEAR.seed("ada", "linear_forward", "a") != LINEAR.seed("bob", "linear_forward", "a")


def test_hidden_answers_of_somebody_else_do_not_help():
    """A function that only knows the public answers loses the hidden points."""
    part = LINEAR.part("linear_forward")
    public = [c.draw(0) for c in part.checks if not c.hidden]
    reference = reference_functions(LINEAR)

    def golden(x, weight, bias=None):
        for case in public:
            if np.array_equal(case.inputs[0], x):
                return reference["linear_forward"](x, weight, bias)
        return np.zeros((len(x), len(weight))), None

    report = local_report(LINEAR, LocalCaller(reference | {"linear_forward": golden}), "eve")[0]
    assert {c.hidden for c in report.checks if c.earned == 0} == {True}
    assert all(c.earned == 0 for c in report.checks if c.hidden)


@pytest.mark.parametrize("name", ["sgd", "gradient_check"])
def test_the_self_check_of_short_assignments_holds(name):
    found = check(load(name), **TRUST)
    assert found.holds, found.problems
    assert found.reference.earned == load(name).points and found.stub.earned == 0


def test_the_self_check_sees_what_is_wrong():
    sgd = load("sgd")
    blind = dataclasses.replace(sgd.parts[0], checks=sgd.parts[0].checks[:1])
    found = check(dataclasses.replace(sgd, parts=(blind,)), **TRUST)
    assert any("loses no points" in problem for problem in found.problems)
    with pytest.raises(ValueError, match="occurs 0 times"):
        check(dataclasses.replace(sgd, mistakes=(Mistake("none", "sgd_step", "not there", "x"),)), **TRUST)


def test_declarations_that_are_none(tmp_path):
    part = LINEAR.parts[0]
    with pytest.raises(ValueError, match="points is 0"):
        Part(part.source, 0, part.checks)
    with pytest.raises(ValueError, match="each with its own name"):
        Assignment("a", "", "", (part, part))
    with pytest.raises(ValueError, match="a name that a Python file can have"):
        Assignment("a b", "", "", (part,))
    for text, told in (("x = 1", "defines no ASSIGNMENT"), ("1 / 0", "ZeroDivisionError")):
        path = _file(tmp_path, text, "mine.py")
        with pytest.raises(ValueError, match=told):
            load(path)
    with pytest.raises(ValueError, match="there is no assignment 'com'"):
        load("com")


def test_the_students_folder_runs_under_plain_pytest(tmp_path):
    build(LINEAR, tmp_path)
    folder = tmp_path / "student"
    assert {p.name for p in folder.iterdir()} == {
        "linear_softmax.py",
        "README.md",
        "test_linear_softmax.py",
        "test_linear_softmax.npz",
    }
    code = textwrap.dedent("""
        import sys, pytest
        sys.path.insert(0, ".")
        sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "."]))
    """)
    for text, passed in ((MEAN, False), (GOOD, True)):
        _file(folder, text)
        home = {"PYTHONPATH": str(Path(minires.__file__).parents[1])}  # the solution uses minires; a student need not
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=folder, env=os.environ | home, capture_output=True, text=True
        )
        assert (done.returncode == 0) == passed, done.stdout
        if text == MEAN:
            assert "dbias is wrong in 3 of 3 entries" in done.stdout


def test_the_students_file_is_found_below_a_folder_of_its_name(tmp_path):
    """As in minires' own checkout, whose pytest takes a folder `linear_softmax` for a package of that name."""
    build(LINEAR, tmp_path / "linear_softmax")
    (tmp_path / "pyproject.toml").write_text('[tool.pytest.ini_options]\naddopts = "--import-mode=importlib"\n')
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    for place in (tmp_path / "linear_softmax" / "student", tmp_path):
        done = subprocess.run(command, cwd=place, capture_output=True, text=True)
        assert "NotImplementedError" in done.stdout and "AttributeError" not in done.stdout, done.stdout


def test_a_class(tmp_path):
    folder = tmp_path / "class"
    _file(folder, GOOD, "ada.py")
    _file(folder, MEAN, "bob.py")
    _file(folder, MEAN.replace("has_bias", "with_bias"), "eve.py")
    _file(folder / "Tom Stub_4711_assignsubmission_file", "def f(:", "linear_softmax.py")
    _file(folder, "", "=cmd.py")
    found, fresh = find([folder]), []
    assert set(found) == {"ada", "bob", "eve", "4711", "_cmd"}
    settings = {"jobs": 2, **TRUST}
    reports = grade_class(LINEAR, found, tmp_path / "out", progress=lambda r, new: fresh.append(new), **settings)
    assert {r.id: r.earned for r in reports}["ada"] == 12 and all(fresh)
    rows = {row["id"]: row for row in csv.DictReader((tmp_path / "out" / "grades.csv").open())}
    assert rows["ada"]["points"] == "12" and rows["4711"]["points"] == "0" and "SyntaxError" in rows["4711"]["problem"]
    page = (tmp_path / "out" / "class.html").read_text()
    assert "linear:dbias-mean" in page and "<td>bob, eve</td>" in page
    assert "the engine&#x27;s own code" in page or "engine" in page
    assert (tmp_path / "out" / "reports" / "bob.html").read_text().count("hidden") > 3
    # Nothing has changed: nothing is graded again. One has: only that one is.
    fresh.clear()
    again = grade_class(LINEAR, found, tmp_path / "out", progress=lambda r, new: fresh.append(new), **settings)
    assert not any(fresh) and [r.as_dict() for r in again] == [r.as_dict() for r in reports]
    _file(folder, GOOD, "bob.py")
    fresh.clear()
    again = grade_class(
        LINEAR, found, tmp_path / "out", progress=lambda r, new: fresh.append(r.id if new else ""), **settings
    )
    assert sorted(fresh)[-1:] == ["bob"] and sum(map(bool, fresh)) == 1
    assert {r.id: r.earned for r in again}["bob"] == 12


def test_ids_of_platforms(tmp_path):
    for name, id in (
        ("submission_123456", "123456"),
        ("lovelaceada_4711_0815_conv.py", "4711"),
        ("lovelaceada_LATE_4711_0815_conv.py", "4711"),
        ("Ada Lovelace_1234567_assignsubmission_file", "1234567"),
        ("ada.py", "ada"),
    ):
        path = tmp_path / name
        path.write_text("") if name.endswith(".py") else path.mkdir()
        assert platform_id(path) == id


def test_likeness_sees_through_names_and_layout():
    other = GOOD.replace("weight", "w").replace("    ", "\t")
    other = "# mine\n" + other.replace("\n\n", "\n\n\n")
    assert alike(fingerprint(GOOD), fingerprint(other)) > 0.95
    assert alike(fingerprint(GOOD), fingerprint(solution_text(load("conv")))) < 0.3
    assert fingerprint("def f(:") == frozenset() and alike(frozenset(), frozenset()) == 0


def test_commands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    trust = ["--trust"] if TRUST else []
    assert main(["course", "list"]) == 0 and "batchnorm" in capsys.readouterr().out
    assert main(["course", "new", "pooling"]) == 0
    assert len((tmp_path / "pooling.py").read_text().splitlines()) < 40
    assert main(["course", "new", "pooling"]) == 2
    assert main(["course", "build", "pooling.py", "--out", "built", *trust]) == 0
    assert "10 of 10" in capsys.readouterr().out
    assert main(["course", "release", "pooling.py"]) == 0
    assert "def avg_pool2d_backward" in (tmp_path / "pooling_solution.py").read_text()
    _file(tmp_path / "handed_in", solution_text(load("pooling.py")), "pooling.py")
    assert main(["course", "grade", "handed_in/pooling.py", "-a", "pooling.py", *trust]) == 0
    assert "pooling: 10 of 10" in capsys.readouterr().out
    told = json.loads((tmp_path / "grades" / "reports" / "pooling.json").read_text())
    assert told["report"]["earned"] == 10
    assert main(["course", "grade", "nobody.py"]) == 2
    assert main(["course", "build", "convolution", "--out", "x"]) == 2
    assert "there is no assignment" in capsys.readouterr().err


def test_without_isolation_nothing_runs_unless_trusted(tmp_path, monkeypatch):
    monkeypatch.setattr(isolation, "available", lambda: ("none",))
    path = _file(tmp_path, GOOD)
    with pytest.raises(isolation.NoIsolation, match="--trust"):
        grade(LINEAR, path)
    report = grade(LINEAR, path, trust=True)
    assert report.earned == 12 and report.rung == "none"


def test_the_class_that_ships_with_the_tests():
    """The README's table of five: made-up submissions, written without the engine; graded here as plain functions."""
    conv, folder = load("conv"), Path(__file__).parent / "class_of_five"
    earned = {}
    for name in ("ada", "bob", "eve"):
        functions: dict = {}
        exec(compile((folder / f"{name}.py").read_text(), name, "exec"), functions)
        parts = [p for p in conv.parts if "loops" not in p.name]
        report = local_report(dataclasses.replace(conv, parts=parts), LocalCaller(functions), name)
        earned[name] = sum(p.earned for p in report)
    assert earned["ada"] == 10 and earned["bob"] == earned["eve"] == 5
    prints = {n: fingerprint((folder / f"{n}.py").read_text()) for n in ("ada", "bob", "eve")}
    assert alike(prints["bob"], prints["eve"]) > 0.95


def test_a_report_is_written_whatever_an_exception_says(tmp_path):
    text = f"{GOOD}\n\ndef linear_forward(x, weight, bias=None):\n    raise ValueError('\\ud800 \\x1b[2J <b>')\n"
    found = find([_file(tmp_path, text)])
    (report,) = grade_class(LINEAR, found, tmp_path / "out", **TRUST)
    page = (tmp_path / "out" / "reports" / "linear_softmax.html").read_text()
    assert report.earned == 6 and "\x1b" not in page and "&lt;b&gt;" in page


def test_what_a_hidden_check_finds_is_told_without_its_numbers(tmp_path):
    """An exception that quotes its inputs is quoted for public inputs only, and nothing that was printed is shown."""
    leaking = GOOD + "\n\ndef linear_forward(x, weight, bias=None):\n    print(x)\n    raise ValueError(repr(x))\n"
    found = find([_file(tmp_path, leaking)])
    (report,) = grade_class(LINEAR, found, tmp_path / "out", level="fault", **TRUST)
    page = (tmp_path / "out" / "reports" / "linear_softmax.html").read_text()
    hidden = [c for p in report.parts for c in p.checks if c.hidden and c.told]
    assert hidden and not any("array(" in c.told for c in hidden)
    assert any("array(" in c.told for p in report.parts for c in p.checks if not c.hidden)
    assert "printed" not in page


def test_public_tests_of_functions_that_are_no_ops(tmp_path):
    """Their checks are run by minires itself, where it is installed."""
    name = "gradient_check"
    a = load(name)
    build(a, tmp_path)
    folder, home = tmp_path / "student", {"PYTHONPATH": str(Path(minires.__file__).parents[1])}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."]
    for text, passed in ((None, False), (solution_text(a), True)):
        if text:
            _file(folder, text, f"{name}.py")
        done = subprocess.run(command, cwd=folder, env=os.environ | home, capture_output=True, text=True)
        assert (done.returncode == 0) == passed, done.stdout


@pytest.mark.parametrize(
    ("function", "old", "new", "said"),
    [
        ("forward_difference", "f(0.0)", "f(-h)", "this rule starts at 0"),
        ("central_difference", "(2 * h)", "h", "twice too large"),
        ("central_difference", "(2 * h)", "2 * h", "from left to right"),
        ("complex_step", ".imag", ".real", "the slope is in the imaginary part"),
    ],
)
def test_typical_mistakes_of_a_rule_are_told_in_words(function, old, new, said):
    a = load("gradient_check")
    body = inspect.getsource(reference_functions(a)[function])
    changed: dict = {"math": math, "Callable": object}
    exec(compile("from __future__ import annotations\n" + body.replace(old, new), function, "exec"), changed)
    caller = LocalCaller(reference_functions(a) | {function: changed[function]})
    (report,) = [p for p in local_report(a, caller) if p.name == function]
    assert report.earned == 0 and all(said in c.told for c in report.checks)


@pytest.mark.parametrize("own", [False, True])
def test_nbgrader_releases_no_declaration(tmp_path, own, capsys):
    """What is in the regions that nbgrader takes out grades; what is left knows neither secret nor reference."""
    from minires.commands.course import TEMPLATE

    name, part = ("mine", "avg_pool2d_forward") if own else ("linear_softmax", "linear_forward")
    a = dataclasses.replace(LINEAR, secret="k314159")
    if own:
        a = load(_file(tmp_path, TEMPLATE.format(name="mine", title="Mine", secret="k314159"), "mine.py"))
    package(a, "nbgrader", tmp_path / "out")
    (notebook,) = (tmp_path / "out" / "source" / name).iterdir()
    sources = [c["source"] for c in json.loads(notebook.read_text())["cells"] if c["cell_type"] == "code"]
    released = [
        re.sub(r"(?s)### BEGIN (HIDDEN TESTS|SOLUTION).*?### END \1", "raise NotImplementedError", s) for s in sources
    ]
    assert "k314159" in "".join(sources) and "k314159" not in "".join(released)
    names: dict[str, object] = {}
    exec("\n".join(sources), names)
    what = "mine.py" if own else "linear_softmax_assignment.py"
    assert names["points_of"](what, part, names, hidden=True) is None, capsys.readouterr().out
    assert names["points_of"](what, part, {}, hidden=True) == 0
    assert (
        names["points_of"]("nowhere.py", part, {}) is None and "when the notebook is graded" in capsys.readouterr().out
    )
    with pytest.raises(ValueError, match=r"there is no file nowhere\.py"):
        names["points_of"]("nowhere.py", part, {}, hidden=True)


def test_a_package_carries_the_secret_it_was_built_with(tmp_path):
    """With minires' own secret the hidden numbers of a class could be computed by anybody."""
    package(dataclasses.replace(LINEAR, secret="teal"), "pytest", tmp_path)
    carried = load(tmp_path / "linear_softmax_assignment.py")
    assert carried.secret == "teal" and carried.points == LINEAR.points
    assert carried.seed("ada", "linear_forward", "a") != LINEAR.seed("ada", "linear_forward", "a")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["milestones", "nowhere"], "there is no submission nowhere"),
        (["milestones", ".", "--cifar", "."], "--pretrained and --cifar go together"),
        (["build", "mine.py", "--out", "x", "--secret", "teal"], "mine.py has a secret of its own"),
    ],
)
def test_commands_that_cannot_be_say_why(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(
        "from minires.course import Assignment, Part, forward_checks\n"
        "ASSIGNMENT = Assignment('mine', 't', 'i', (Part('minires.ops:relu_forward', 1, forward_checks('relu')),))\n"
    )
    assert main(["course", *arguments]) == 2
    assert said in capsys.readouterr().err
