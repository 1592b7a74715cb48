"""Every tutorial runs headless, in its own process, in a minute of processor on a machine like ours, and is short."""

from __future__ import annotations

import re

import pytest

from tests.tutorials.running import SLOW, TUTORIALS, run_headless

LINES, SECONDS = 150, 60

each_tutorial = pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)


@pytest.mark.parametrize("path", [p for p in TUTORIALS if p.stem[:2] not in SLOW], ids=lambda path: path.stem)
def test_runs_headless(path, tmp_path):
    assert run_headless(path, tmp_path).there < SECONDS


def test_few_are_left_to_the_slow_step():
    assert len(SLOW) <= 3


@each_tutorial
def test_is_a_notebook_of_at_most_150_lines(path):
    jupytext = pytest.importorskip("jupytext")
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) < LINES
    cells = jupytext.reads(text, fmt="py:percent").cells
    kinds = [cell.cell_type for cell in cells]
    assert kinds[0] == "markdown" and cells[0].source.startswith("# "), "a title comes first"
    assert kinds.count("code") >= 3 and kinds.count("markdown") >= 3


@each_tutorial
def test_asks_three_questions_and_two_exercises(path):
    text = path.read_text(encoding="utf-8").lower()
    assert text.count("predict first") >= 3
    assert text.count("assert ") + text.count("tutorial.reveal(") >= 3
    assert text.count("exercise") >= 2


@each_tutorial
def test_each_question_is_revealed_later_and_each_exercise_has_a_solution(path):
    text = path.read_text(encoding="utf-8")
    asked = re.findall(r'tutorial\.guess\("([\d.]+)", None\)', text)
    assert re.findall(r'tutorial\.reveal\("([\d.]+)"', text) == asked
    for question in asked:
        between = text.partition(f'guess("{question}"')[2].partition(f'reveal("{question}"')[0]
        assert "# %%" in between, f"question {question} is answered in its own cell"
    if asked:
        solutions = (path.parent / "solutions" / f"{path.stem[:2]}.py").read_text(encoding="utf-8")
        assert re.findall(r'^    "([\d.]+)": Answer\(', solutions, flags=re.M) == asked
        exercises = re.findall(r'tutorial\.exercise\(\s*"([\d.]+)"', text)
        assert re.findall(r"^# %% exercise (\S+)", solutions, flags=re.M) == [e.partition(".")[2] for e in exercises]
