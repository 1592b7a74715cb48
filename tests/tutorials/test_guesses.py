"""What a guess is told: right, how far off, and why a usual wrong one is wrong; and that a false claim is an error."""

from __future__ import annotations

import numpy as np
import pytest

from minires import tutorial

SOLUTIONS = '''
"""Answers."""
from minires.tutorial import Answer

ANSWERS = {
    "99.1": Answer(9, wrong={8: "One window more fits in."}, why="Count the windows."),
    "99.2": Answer(100.0, within=0.05),
    "99.3": Answer((3, 3), wrong={(4, 4): "At 6 it would stick out."}),
    "99.4": Answer("kink"),
    "99.5": Answer(0),
    "99.6": Answer(15, wrong={16: "They share a corner."}),
    "99.7": Answer("kink", wrong={"pass": "The slope differs."}),
    "99.8": Answer(0.8),
}

# %% exercise 1
def exercise_1(x):
    return 2 * x  # noqa: F821
# %% exercise 2
def exercise_2(x):
    return x
'''


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    (tmp_path / "solutions").mkdir()
    (tmp_path / "solutions" / "99.py").write_text(SOLUTIONS, encoding="utf-8")
    monkeypatch.setattr(tutorial, "folder", lambda: tmp_path)
    monkeypatch.setattr(tutorial, "_guesses", {})
    monkeypatch.setattr(tutorial, "_tried", set())


@pytest.mark.parametrize(
    ("question", "guessed", "run", "said"),
    [
        ("99.1", None, 9, "Question 99.1: the law says 9. Count the windows."),
        ("99.1", 9, 9, "you guessed 9, the law says 9: right. Count"),
        ("99.1", 8, 9, "too small by 11%. One window more fits in. Count"),
        ("99.6", 16, 15, "too large by 7%. They share a corner."),
        ("99.6", 15, 15, "right."),
        ("99.1", 12, 9, "too large by 33%. Count"),
        ("99.1", 90, 9, "too large by a factor of 10. Count"),
        ("99.1", 0, 9, "you guessed 0, the law says 9: not so."),
        ("99.1", -9, 9, "not so; its sign is the other one."),
        ("99.1", "nine", 9, "not so; the question asks for a number."),
        ("99.1", "9", 9, "you guessed 9, the law says 9: right."),
        ("99.1", -8, 9, "not so; its sign is the other one. Count"),
        ("99.2", 97, 103.0, "the law says 100, the run gave 103: close enough: too small by 3%."),
        ("99.2", 100.2, 103.0, "you guessed 100, the law says 100, the run gave 103: right."),
        ("99.2", float("nan"), 103.0, "not so"),
        ("99.3", (3, 3), (3, 3), "right."),
        ("99.3", [4, 4], (3, 3), "you guessed (4, 4), the law says (3, 3): not so. At 6 it would stick out."),
        ("99.3", 3, (3, 3), "not so; the question asks for 2 numbers in brackets."),
        ("99.3", (3, 3, 3), (3, 3), "not so; the question asks for 2 numbers in brackets."),
        ("99.3", (3, 5), (3, 3), "not so; 1 of the 2 numbers is correct."),
        ("99.3", ("3", "x"), (3, 3), "not so"),
        ("99.4", "Kink ", "kink", "right."),
        ("99.4", "pass", "kink", "not so."),
        ("99.7", "banana", "kink", "not so; the question asks for one of kink, pass."),
        ("99.7", "", "kink", "you guessed nothing, the law says kink: not so"),
        ("99.7", "pass", "kink", "not so. The slope differs."),
        ("99.8", 80, 0.8, "right in percent, but the question asks for a share, between 0 and 1."),
        ("99.4", 1, "kink", "not so; the question asks for a word in quotes."),
        ("99.5", 0, 0.0, "right."),
        ("99.5", 1, 0.0, "not so."),
    ],
)
def test_what_a_guess_is_told(question, guessed, run, said, capsys):
    tutorial.guess(question, guessed)
    assert said in tutorial.reveal(question, run)
    assert said in capsys.readouterr().out


@pytest.mark.parametrize(("question", "run"), [("99.1", 8), ("99.2", 106), ("99.3", (3, 4)), ("99.4", "pass")])
def test_a_claim_that_the_run_does_not_bear_out_is_an_error(question, run):
    with pytest.raises(AssertionError, match=r"the law says .*, the run gave"):
        tutorial.reveal(question, run)


def test_a_guess_can_be_taken_back_and_must_be_an_answer():
    tutorial.guess("99.1", 8)
    tutorial.guess("99.1", None)
    assert "you guessed" not in tutorial.reveal("99.1", 9)
    for nonsense in ({8}, 1j, ((1, 2), 3), [[1, 2], [3, 4]], len):
        with pytest.raises(TypeError, match="expected a number, a word in quotes, or a shape"):
            tutorial.guess("99.1", nonsense)


def test_numbers_of_any_kind_are_numbers():
    for nine in (np.array(9), np.array(9.0, np.float32), np.int8(9), "9", 9.0):
        tutorial.guess("99.1", nine)
        assert "right." in tutorial.reveal("99.1", 9)
    for huge in (10**400, -(10**400), "1e400"):
        tutorial.guess("99.1", huge)
        assert "not so" in tutorial.reveal("99.1", 9)
    tutorial.guess("99.1", None)


def test_a_notebook_shows_once_what_was_printed():
    assert tutorial.reveal("99.1", 9)._ipython_display_() is None
    assert tutorial.exercise("99.1", lambda: True)._ipython_display_() is None


def test_the_solution_comes_after_a_try(capsys):
    tutorial.solution("99.1")
    assert "Try exercise 99.1 first" in capsys.readouterr().out
    tutorial.exercise("99.1", lambda: False)
    tutorial.solution("99.1")
    assert capsys.readouterr().out.endswith("def exercise_1(x):\n    return 2 * x\n")


@pytest.mark.parametrize(
    ("name", "expected"), [("99.7", "99.1, 99.2"), (99, "99.1, 99.2"), ("98.1", "a name"), ("x", "a")]
)
def test_a_name_that_is_none_is_not_asked_to_be_tried(name, expected, capsys):
    tutorial.solution(name)
    told = capsys.readouterr().out
    assert told.startswith(f"There is no exercise {name!r}; expected {expected}")
