"""The exercises of tutorial 03 can be solved, and its judge knows a right solution from a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

SOURCE = (Path(__file__).resolve().parents[2] / "tutorials" / "03_convolution.py").read_text(encoding="utf-8")
OPEN = '    raise NotImplementedError("yours to write")\n'

BIAS = "    return *backward(dy, cache), dy.sum(axis=(0, 2, 3))\n"
MEAN = "    return *backward(dy, cache), dy.mean(axis=(0, 2, 3))\n"
MIRROR = """    dx = np.zeros(x_shape)
    for n, k, place in np.ndindex(dcols.shape):
        dx[n, 0, place // 6 + k // 3, place % 6 + k % 3] += dcols[n, k, place]
    return dx
"""
OVERWRITES = MIRROR.replace("+=", "=")


@pytest.mark.parametrize(
    ("first", "second", "verdicts"),
    [(BIAS, MIRROR, ["pass", "pass"]), (MEAN, OVERWRITES, ["fail", "fail"]), (OPEN, OPEN, [])],
    ids=["solved", "mistaken", "open"],
)
def test_the_judge_of_the_exercises(first, second, verdicts, capsys, monkeypatch):
    monkeypatch.setattr("matplotlib.pyplot.show", lambda: None)
    before, between, after = SOURCE.split(OPEN)
    exec(compile(before + first + between + second + after, "03_convolution", "exec"), {})
    said = capsys.readouterr().out.partition("exercise 1:")[2]
    assert [line.split()[1] for line in said.splitlines() if line.startswith("verdict:")] == verdicts
    assert said.count("yours to write") == 2 - len(verdicts)
