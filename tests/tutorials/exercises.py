"""A tutorial with other bodies in place of its two open exercises."""

from __future__ import annotations

from pathlib import Path

OPEN = '    raise NotImplementedError("yours to write")\n'
TUTORIALS = Path(__file__).resolve().parents[2] / "tutorials"


def judged(tutorial, first, second, capsys, monkeypatch):
    """The verdicts that the tutorial's own judge prints on two solutions, and how many of them it finds still open."""
    monkeypatch.setattr("matplotlib.pyplot.show", lambda: None)
    before, between, after = (TUTORIALS / f"{tutorial}.py").read_text(encoding="utf-8").split(OPEN)
    exec(compile(before + first + between + second + after, tutorial, "exec"), {})
    said = capsys.readouterr().out.partition("exercise 1:")[2]
    verdicts = [line.split()[1] for line in said.splitlines() if line.startswith("verdict:")]
    return verdicts, said.count("yours to write")
