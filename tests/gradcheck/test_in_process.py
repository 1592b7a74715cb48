"""Where no process can be started, a file is checked in this one, and the report is the same."""

import pytest

from minires.gradcheck import check_file, file_check

AFFINE = """
def affine_forward(x, weight, bias):
    return x @ weight.T + bias, (x, weight)


def affine_backward(dy, cache):
    x, weight = cache
    return dy @ weight, dy.T @ x, dy.{how}(axis=0)
"""


@pytest.fixture
def alone(monkeypatch):
    monkeypatch.setattr(file_check, "can_start_processes", lambda: False)
    monkeypatch.setattr(file_check, "Student", None)


@pytest.mark.parametrize("how", ["sum", "mean", "nothing"])
def test_the_report_is_that_of_a_process_of_its_own(how, tmp_path, monkeypatch, request):
    file = tmp_path / "student.py"
    file.write_text(AFFINE.format(how=how))
    there = check_file(file)
    request.getfixturevalue("alone")
    here = check_file(file)
    assert (here.verdict, here.diagnosis, here.title) == (there.verdict, there.diagnosis, there.title)
    assert [(c.case, c.verdict) for c in here.cases] == [(c.case, c.verdict) for c in there.cases]


@pytest.mark.parametrize(("source", "said"), [("x = 1 +", "SyntaxError"), ("1 / 0", "ZeroDivisionError")])
def test_a_file_that_does_not_load_is_a_sentence(alone, source, said, tmp_path):
    file = tmp_path / "student.py"
    file.write_text(source)
    with pytest.raises(ValueError, match=f"student.py cannot be loaded: {said}"):
        check_file(file, "linear")


def test_a_file_that_is_not_there_is_said_to_be_missing(alone, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        check_file(tmp_path / "nothing.py")
