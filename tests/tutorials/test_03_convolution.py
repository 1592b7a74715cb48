"""The exercises of tutorial 03 can be solved, and its judge knows a right solution from a wrong one."""

from __future__ import annotations

import pytest

from tests.tutorials.exercises import OPEN, judged

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
    found, still_open = judged("03_convolution", first, second, capsys, monkeypatch)
    assert found == verdicts
    assert still_open == 2 - len(verdicts)
