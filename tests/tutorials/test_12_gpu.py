"""The exercises of tutorial 12 can be solved, and its judge knows a right solution from a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

SOURCE = (Path(__file__).resolve().parents[2] / "tutorials" / "12_gpu.py").read_text(encoding="utf-8")
OPEN = '        raise NotImplementedError("yours to write")\n'

SLOPE = "        return dy / (1 + array_namespace(x).exp(-x))\n"
WRONG_SLOPE = "        return dy / (1 + array_namespace(x).exp(x))\n"
OF_THE_HOST = "        return dy / (1 + np.exp(-x))\n"
ADD = "        self.sum = self.sum + loss\n"
ADD_AND_WAIT = "        self.sum += float(loss)\n"


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (SLOPE, ADD, ["exercise 1, here and there: pass pass", "exercise 2: pass"]),
        (WRONG_SLOPE, ADD_AND_WAIT, ["exercise 1, here and there: fail fail", "exercise 2: fail"]),
        (OF_THE_HOST, ADD, ["exercise: backward"]),
        (OPEN, OPEN, ["exercise: backward"]),
    ],
    ids=["solved", "mistaken", "NumPy's function", "open"],
)
def test_the_judge_of_the_exercises(first, second, expected, capsys, monkeypatch):
    monkeypatch.setattr("matplotlib.pyplot.show", lambda: None)
    before, between, after = SOURCE.split(OPEN)
    exec(compile(before + first + between + second + after, "12_gpu", "exec"), {})
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("exercise")]
    assert len(said) == len(expected)
    assert all(line.startswith(start) for line, start in zip(said, expected, strict=True)), said
