"""What students read: true of the check that it stands beside, and of the function that it blames."""

import re
import subprocess
import sys

import matplotlib
import numpy as np
import pytest

from minires.course import build, grade, isolation, load
from minires.course.building import solution_text
from minires.course.callers import LocalCaller
from minires.course.classroom import find, passed_over
from minires.course.grading import local_report
from minires.course.selfcheck import reference_functions
from minires.course.submissions import read
from minires.gradcheck import CATALOGUE

LINEAR = load("linear_softmax")
GOOD = solution_text(LINEAR)
REFERENCE = reference_functions(LINEAR)


def report(**own):
    """The parts by name, with some functions in place of the reference's; None: it is missing."""
    functions = {name: function for name, function in (REFERENCE | own).items() if function is not None}
    return {part.name: part for part in local_report(LINEAR, LocalCaller(functions))}


def test_a_factor_belongs_to_the_inputs_that_it_is_told_of():
    """It is looked for once or twice in a part, and differs from check to check; on other inputs it would be false."""

    def backward(dy, cache):
        x, weight, _ = cache
        return dy @ weight, dy.T @ x / np.linalg.norm(x), dy.sum(axis=0)

    def forward(x, weight, bias=None):
        return REFERENCE["linear_forward"](x, weight, bias)[0], (x, weight, bias)

    lost = [c for c in report(linear_forward=forward, linear_backward=backward)["linear_backward"].checks if c.told]
    compared = 0
    for check in (c for c in lost if c.example):
        told = float(re.search(r"is ([\d.]+) times", check.told)[1])
        mine, right = map(float, re.search(r"is (\S+); right is (\S+)", check.example).groups())
        true = abs(mine / right / told - 1) < 1e-3
        assert true or 'in "5 samples"' in check.told
        compared += not true
    assert compared


@pytest.mark.parametrize(
    "returned, said",
    [
        (lambda y: y, "one array of shape (5, 3)"),
        (lambda y: None, "nothing (None)"),
        (lambda y: (y, 1, 2, 3), "4 values"),
    ],
)
def test_a_backward_without_a_cache_blames_what_forward_returned(returned, said):
    def forward(x, weight, bias=None):
        return returned(REFERENCE["linear_forward"](x, weight, bias)[0])

    checks = report(linear_forward=forward)["linear_backward"].checks
    assert checks[0].told == f"linear_forward returns {said}; expected (y, cache): linear_backward needs the cache"
    assert all(c.told.endswith("linear_backward needs the cache") and not c.earned for c in checks)


def test_a_backward_may_fail_for_the_cache_of_a_wrong_forward():
    """Nothing is wrong with the first backward; the x that it finds in its cache is."""

    def forward(scale):
        return lambda x, weight, bias: (scale * x @ weight.T + bias, (scale * x, weight))

    def backward(scale):
        return lambda dy, cache: (scale * dy @ cache[1], dy.T @ cache[0], dy.sum(axis=0))

    for scales, blamed in (((1.37, 1), True), ((1, 1.37), False)):
        own = {"linear_forward": forward(scales[0]), "linear_backward": backward(scales[1])}
        lost = [check for check in report(**own)["linear_backward"].checks if check.told]
        assert {check.told.endswith("linear_forward, whose cache it gets, is wrong here, too: mend that first")
                for check in lost if not check.fault} == {blamed}  # fmt: skip


def test_a_missing_function_is_said_to_be_missing_and_no_more():
    for part, name in (("linear_backward",) * 2, ("linear_forward",) * 2, ("linear_backward", "linear_forward")):
        checks = report(**{name: None})[part].checks
        assert {c.told for c in checks} <= {f"{name} is not there"}


def test_a_missing_method_is_not_said_to_be_unwritten():
    """The engine's own stands in its place there, without a body."""
    sgd = load("sgd")
    (part,) = local_report(sgd, LocalCaller({}))
    assert {check.told for check in part.checks} == {"sgd_step is not there"} and not part.earned


def test_a_fault_that_is_named_is_named_without_the_inputs_that_showed_it():
    batchnorm = load("batchnorm")
    reference = reference_functions(batchnorm)
    fault = CATALOGUE["batchnorm:forward-unbiased-variance"]
    own = {"batchnorm_forward": fault.forward, "batchnorm_backward": fault.backward}
    checks = local_report(batchnorm, LocalCaller(reference | own))[0].checks
    assert {check.told for check in checks if check.told} == {fault.sentence}


def test_a_list_is_as_good_as_a_tuple(tmp_path):
    """In a process of its own, in a notebook and under plain pytest."""

    def as_list(x, weight, bias=None):
        return [*REFERENCE["linear_forward"](x, weight, bias)]

    found = report(linear_forward=as_list)
    assert all(part.earned == part.points for part in found.values())
    build(LINEAR, tmp_path)
    text = f"{GOOD}\n\n_forward = linear_forward\n\n\ndef linear_forward(*a):\n    return [*_forward(*a)]\n"
    (tmp_path / "student" / "linear_softmax.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path / "student")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("rung", ["bubblewrap", "user"])
def test_an_import_of_matplotlib_that_was_left_in_costs_nothing(tmp_path, rung):
    if rung not in isolation.available():
        pytest.skip(f"isolation {rung!r} does not work on this machine")
    if rung == "user" and matplotlib.__version_info__ < (3, 10):
        pytest.skip("an earlier matplotlib gives up where it can write no file, and here nobody can")
    path = tmp_path / "linear_softmax.py"
    path.write_text(GOOD.replace("import numpy as np\n", "import matplotlib.pyplot as plt\nimport numpy as np\n", 1))
    found = grade(LINEAR, path, rung=rung)
    assert (found.earned, found.problem) == (12, None)


def test_a_module_beside_the_file_is_named(tmp_path):
    for name in ("linear_softmax.py", "test_linear_softmax.py", "conv.py", "helper.py", "notes.txt"):
        (tmp_path / name).write_text(GOOD if name == "linear_softmax.py" else "")
    assert read(tmp_path, LINEAR).notes == ["only linear_softmax.py is graded: put into it what it needs of helper.py"]
    (tmp_path / "helper.py").unlink()
    assert read(tmp_path, LINEAR).notes == []


def test_files_that_are_no_submissions_are_named(tmp_path):
    for name in ("ada.py", "bob.docx", "cleo.zip", ".hidden"):
        (tmp_path / name).write_text("")
    (tmp_path / "dan").mkdir()
    assert set(find([tmp_path])) == {"ada", "cleo", "dan"}
    assert [path.name for path in passed_over([tmp_path, tmp_path / "ada.py", tmp_path / "dan"])] == ["bob.docx"]
