"""The exercises of tutorial 01 can be solved, and its judge knows a right solution from a wrong one."""

from __future__ import annotations

import pytest

from tests.tutorials.exercises import OPEN, judged

SWISH = "    s = 1 / (1 + np.exp(-x))\n    return dy * (s + x * s * (1 - s))\n"
ONE_FACTOR_ONLY = "    s = 1 / (1 + np.exp(-x))\n    return dy * s\n"
LENGTH = """    x, length = cache
    y = x / length
    return (dy - y * (dy * y).sum(axis=1, keepdims=True)) / length
"""
LENGTH_HELD_FIXED = "    return dy / cache[1]\n"


@pytest.mark.parametrize(
    ("first", "second", "verdicts"),
    [(SWISH, LENGTH, ["pass", "pass"]), (ONE_FACTOR_ONLY, LENGTH_HELD_FIXED, ["fail", "fail"]), (OPEN, OPEN, [])],
    ids=["solved", "mistaken", "open"],
)
def test_the_judge_of_the_exercises(first, second, verdicts, capsys, monkeypatch):
    found, still_open = judged("01_gradient_checking", first, second, capsys, monkeypatch)
    assert found == verdicts
    assert still_open == 2 - len(verdicts)
