"""The recorder: what every line left behind, as a debugger sees it."""

import sys
from types import ModuleType

import numpy as np
import pytest

from minires.stepper.recorder import BLANK, Recorder, unwritten
from minires.stepper.source import function_at, statements

SOURCE = """\
import numpy as np


def double(x):
    y = x * 2
    return y


def main(x):
    total = np.zeros(2)
    for i in range(2):
        total[i] += x[i]
    filled = np.empty(2)
    filled[0] = total[1]
    spread = double(
        total
    )
    if spread.sum() < 0:
        raise ValueError("below zero")
    return spread, total - 1
"""


@pytest.fixture
def example(tmp_path, monkeypatch):
    (tmp_path / "recorded_example.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    recorder = Recorder(("recorded_example",))
    yield recorder, sys.modules["recorded_example"]
    sys.modules.pop("recorded_example", None)


def line(recorder, number):
    return [record for record in recorder.records if record.line == number]


def test_what_a_line_left_behind(example):
    recorder, module = example
    spread, _ = recorder.run(lambda: module.main(np.array([1.0, 5.0])))
    assert spread.tolist() == [2.0, 10.0]
    first, second = line(recorder, 12)  # the same line twice, and the array changed in place in between
    assert (first.visit, second.visit) == (0, 1)
    assert first.before["total"].tolist() == [0, 0]
    assert first.after["total"].tolist() == [1, 0]
    assert second.after["total"].tolist() == [1, 5]
    assert first.changed() == ("total",)
    (returned,) = line(recorder, 20)
    assert returned.after["total - 1"].tolist() == [0, 4]  # a value without a name goes by its source


def test_calls_end_before_the_line_that_made_them(example):
    recorder, module = example
    recorder.run(lambda: module.main(np.array([1.0, 5.0])))
    (inner,), (outer,) = line(recorder, 5), line(recorder, 15)
    assert inner.index < outer.index
    assert [(function.name, at) for function, at in inner.callers] == [("main", 15)]
    assert (outer.statement.first, outer.statement.last) == (15, 17)  # a statement of three lines is one


def test_numbers_nobody_has_written_are_blank(example):
    recorder, module = example
    recorder.run(lambda: module.main(np.array([1.0, 5.0])))
    (record,) = line(recorder, 14)
    assert unwritten(record.after["filled"]).tolist() == [False, True]
    assert not unwritten(np.array([np.nan, 0.0, np.inf])).any()
    assert all(np.isnan(value) for value in BLANK.values())


def test_the_trace_function_before_is_set_again(example):
    recorder, module = example
    before = sys.gettrace()

    def mine(frame, event, argument):
        return None

    sys.settrace(mine)
    try:
        with pytest.raises(ValueError, match="below zero"):
            recorder.run(lambda: module.main(np.array([-1.0, -5.0])))
        assert sys.gettrace() is mine
    finally:
        sys.settrace(before)


def test_the_op_computes_what_it_computes_unwatched():
    from minires.ops import conv2d_forward

    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((2, 3, 7, 6)), rng.standard_normal((4, 3, 3, 3))
    recorder = Recorder(("minires.ops",))
    watched, _ = recorder.run(lambda: conv2d_forward(x, weight, padding=1))
    assert np.array_equal(watched, conv2d_forward(x, weight, padding=1)[0])
    assert recorder.records


def test_statements_and_functions(tmp_path):
    path = tmp_path / "some.py"
    path.write_text(SOURCE)
    found = statements(str(path))
    assert found[12].writes == ("total",)
    assert set(found[12].reads) >= {"total", "x", "i"}
    assert found[11].writes == ("i",)  # the header of the loop alone
    assert found[20].results == ("spread", "total - 1")
    assert function_at(str(path), 12).name == "main"
    with pytest.raises(ValueError, match="no function"):
        function_at(str(path), 1)


def test_a_module_is_watched_by_its_file_and_a_package_by_its_folder():
    from minires.stepper.recorder import watched_path

    assert watched_path(sys.modules["minires.stepper.recorder"]).endswith("recorder.py")
    package = sys.modules["minires.stepper"]
    assert isinstance(package, ModuleType)
    assert watched_path(package).endswith(("stepper/", "stepper\\"))
