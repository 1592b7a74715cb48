"""All tutorials one after the other, within six minutes; and the exercises of those that the suite leaves out.

`python -m pytest -q tests/tutorials/slow.py`, a step of .ci/run.
"""

from __future__ import annotations

import pytest

from tests.tutorials.running import SLOW, TUTORIALS, number_of, run_headless
from tests.tutorials.test_broken_engine import BREAKS, check_broken_op
from tests.tutorials.test_exercises import WRONG, check_solved, check_what_to_change_next, check_wrong

MINUTES = 6
slow_exercises = [name for name in WRONG if number_of(name) in SLOW]


@pytest.fixture(autouse=True)
def no_windows(monkeypatch):
    monkeypatch.setattr("matplotlib.pyplot.show", lambda: None)


def test_all_of_them_take_less_than_six_minutes_together(tmp_path, capsys):
    """And none a minute, on a machine like ours; the figures are printed, whatever they are."""
    with capsys.disabled():
        print()
        spent = [run_headless(path, tmp_path) for path in TUTORIALS]
        print(f"together: {sum(each.seconds for each in spent):.0f} s of processor")
    assert sum(each.there for each in spent) < 60 * MINUTES and max(each.there for each in spent) < 60


@pytest.mark.parametrize("name", slow_exercises)
def test_solved(name, capsys):
    check_solved(name, capsys)


@pytest.mark.parametrize(("name", "case"), [(name, case) for name in slow_exercises for case in range(3)])
def test_done_wrong(name, case, capsys):
    check_wrong(name, case, capsys)


@pytest.mark.parametrize("number", sorted(SLOW))
def test_what_to_change_next_runs(number, capsys):
    check_what_to_change_next(number)


@pytest.mark.parametrize("fault", [fault for fault, (number, *_) in BREAKS.items() if number in SLOW])
def test_a_broken_op_is_noticed(fault, monkeypatch):
    check_broken_op(*BREAKS[fault], monkeypatch)
