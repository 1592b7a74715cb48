"""The exercises of tutorial 01 can be solved, and its judge knows a right solution from a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

SOURCE = (Path(__file__).resolve().parents[2] / "tutorials" / "01_gradient_checking.py").read_text(encoding="utf-8")
OPEN = '    raise NotImplementedError("yours to write")\n'

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
    monkeypatch.setattr("matplotlib.pyplot.show", lambda: None)
    before, between, after = SOURCE.split(OPEN)
    exec(compile(before + first + between + second + after, "01_gradient_checking", "exec"), {})
    said = capsys.readouterr().out.partition("exercise 1:")[2]
    assert [line.split()[1] for line in said.splitlines() if line.startswith("verdict:")] == verdicts
    assert said.count("yours to write") == 2 - len(verdicts)
