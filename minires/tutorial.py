"""What the tutorials ask and judge: guesses before a cell is run, exercises, and solutions after a try.

    tutorial.guess("3.1", None)                     in the cell of the question; the reader puts an answer for None
    ...
    tutorial.reveal("3.1", y.shape[2])              in a later cell: what the run gave

    tutorial.exercise("3.1", lambda: gradcheck.check_op(forward, exercise_1, inputs))
    tutorial.solution("3.1")

What the law says, and why a usual wrong guess is wrong, stands in `tutorials/solutions/03.py` and not on the page, so
that nobody reads the answer while thinking. `reveal` checks the tutorial's own claim, too: it raises AssertionError
where run and law differ. Without a guess it says what is right: a tutorial runs from top to bottom without a reader.
`exercise` never raises: whatever goes wrong in the reader's function becomes a sentence.
"""

from __future__ import annotations

import importlib.util
import math
import re
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from minires.threads import blas_at_one_thread

Value = float | str | tuple
"""What a question asks for: a number, a word, or a shape."""

NEAR, FAR = 0.1, 2.0
"""A guess within a tenth is right; one that is off by more than this factor is far off."""


@dataclass(frozen=True)
class Answer:
    """What the law says to a question. A tutorial's `solutions/NN.py` holds one for each, in `ANSWERS`."""

    law: Value
    within: float = 1e-6
    """The largest relative difference that run and law may have."""
    wrong: Mapping[Value, str] = field(default_factory=dict)
    """Why a usual wrong guess is wrong: one sentence for each."""
    why: str = ""
    """One sentence on the right answer."""


class Said(str):
    """A sentence that was printed already: a notebook whose cell ends with it does not show it a second time."""

    def _ipython_display_(self) -> None:
        pass


_guesses: dict[str, Value] = {}
_tried: set[str] = set()


def guess(question: str, answer: Value | None) -> None:
    """Keeps the reader's guess for `question` ("3.1"); None: no guess.

    A number in quotes is that number. Raises TypeError for what is neither a number nor a word nor a shape.
    """
    if answer is None:
        _guesses.pop(question, None)
        return
    if isinstance(answer, np.ndarray):
        answer = answer.tolist()
    if isinstance(answer, list):
        answer = tuple(answer)
    given = answer if isinstance(answer, tuple) else (answer,)
    if not all(isinstance(each, int | float | str | np.number) for each in given):
        raise TypeError(f"your guess is {answer!r}; expected a number, a word in quotes, or a shape such as (3, 3)")
    given = tuple(map(_number_or_word, given))
    _guesses[question] = given if isinstance(answer, tuple) else given[0]


def reveal(question: str, run: Value) -> str:
    """Prints, and returns, how close the guess came to the law and to what the run gave.

    Raises AssertionError where run and law differ by more than the answer allows, KeyError for an unknown question.
    """
    answer = _solutions(question).ANSWERS[question]
    assert _close(run, answer.law, answer.within), (
        f"question {question}: the law says {_text(answer.law)}, the run gave {_text(run)}"
    )
    told = f"the law says {_text(answer.law)}"
    told += f", the run gave {_text(run)}" if _text(run) != _text(answer.law) else ""
    said = f"Question {question}: {told}."
    if question in _guesses:
        said = f"Question {question}: you guessed {_text(_guesses[question]) or 'nothing'}, {told}: "
        said += _verdict(_guesses[question], answer)
    said = Said(f"{said} {answer.why}".rstrip())
    print(said)
    return said


def exercise(name: str, check: Callable[[], Any]) -> str:
    """Runs `check`, prints what the judge says of exercise `name` ("3.1"), and returns the first word of it.

    check: returns a report of minires (its verdict and diagnosis are told), True or False, or a sentence that says what
    is wrong ("" where nothing is).
    """
    try:
        result = check()
        if not hasattr(result, "verdict") and not isinstance(result, bool | np.bool_ | str):
            raise TypeError(f"the check gave {type(result).__name__}; expected a report, True or False, or a sentence")
    except (Exception, SystemExit) as error:
        if _is_open(error):
            return _tell(name, "open", "yours to write. Then run this cell again.")
        _tried.add(name)
        return _tell(name, "stopped", _place(error) + _sentence(error))
    _tried.add(name)
    if isinstance(result, bool | np.bool_):
        return _tell(name, "right") if result else _tell(name, "wrong", "the numbers are not those of the engine.")
    if isinstance(result, str):
        return _tell(name, "wrong", result) if result else _tell(name, "right")
    if getattr(result, "ok", result.verdict == "pass"):
        return _tell(name, "right")
    return _tell(name, "wrong", str(getattr(result, "diagnosis", None) or getattr(result, "reason", result.verdict)))


def solution(name: str) -> None:
    """Prints a solution of exercise `name` ("3.1"), once it has been tried; says so where there is no such exercise."""
    tutorial, _, number = str(name).partition(".")
    known = _exercises(tutorial)
    if number not in known:
        there = ", ".join(f"{tutorial}.{each}" for each in known)
        print(f"There is no exercise {name!r}; expected {there or 'a name such as 3.1'}.")
    elif str(name) not in _tried:
        print(f"Try exercise {name} first: write it, run the cell that judges it, then ask again.")
    else:
        print(re.sub(r" *# noqa.*", "", known[number]))


def _exercises(tutorial: str) -> dict[str, str]:
    """The solutions of a tutorial by the exercise's number, "1", "2", ...; none if there is no such tutorial."""
    path = _solutions_file(tutorial) if tutorial.isdigit() else None
    if path is None or not path.is_file():
        return {}
    parts = re.split(r"^# %% exercise (\S+).*\n", path.read_text(encoding="utf-8"), flags=re.M)
    return {number: text.strip() for number, text in zip(parts[1::2], parts[2::2], strict=True)}


class Race:
    """Several ways to compute the same: each is held against what is right, then timed in turns with the one before.

    In turns, for a machine has moods: two ways that are timed one after the other meet different ones. BLAS works on
    one thread meanwhile.
    """

    def __init__(self, right: np.ndarray, atol: float, rounds: int = 7) -> None:
        self.right, self.atol, self.rounds = right, atol, rounds
        self.ways: dict[str, Callable[[], np.ndarray]] = {}

    def enter(self, name: str, way: Callable[[], np.ndarray], bet: float | None = None) -> None:
        """Prints how long `way` takes, and how many times as fast as the way before it is: `bet` is the reader's guess.

        Raises AssertionError where its numbers are not the right ones.
        """
        found = way()
        assert found.shape == self.right.shape, f"{name}: shape {found.shape}, expected {self.right.shape}"
        assert np.allclose(found, self.right, atol=self.atol), f"{name}: not the numbers of the definition"
        self.ways[name] = way
        *before, here = self.best([*self.ways][-2:]).values()
        said = f"{name}: {1000 * here:.1f} ms"
        if before:
            said += f", the step before {1000 * before[0]:.1f} ms: {before[0] / here:.2g} times as fast"
            said += f" (you bet on {bet:g})" if bet else ""
        print(said)

    def best(self, names: Sequence[str] | None = None) -> dict[str, float]:
        """The seconds of each way (or of some), the best of several rounds in which all take their turn."""
        taken = dict.fromkeys(names or self.ways, math.inf)
        with blas_at_one_thread():
            for _ in range(self.rounds):
                for name in taken:
                    start = time.perf_counter()
                    self.ways[name]()
                    taken[name] = min(taken[name], time.perf_counter() - start)
        return taken


def as_notebook(text: str) -> Any:
    """A tutorial in the percent format as jupytext's notebook, each question in a paragraph of its own.

    Raises ImportError where jupytext is missing.
    """
    import jupytext

    book = jupytext.reads(text, fmt="py:percent")
    for cell in book.cells:
        if cell.cell_type == "markdown":
            cell.source = re.sub(r"(?<=\S)[ \n](?=\*\*Predict first)", "\n\n", cell.source)
    return book


def folder() -> Path:
    """Where the tutorials are: beside the package, or inside it where it was installed from a wheel.

    Raises FileNotFoundError where they are in neither place.
    """
    package = Path(__file__).resolve().parent
    for place in (package.parent / "tutorials", package / "tutorials"):
        if any(place.glob("[0-9][0-9]_*.py")):
            return place
    raise FileNotFoundError(f"no tutorials beside {package}: this copy of minires came without them")


def _solutions_file(tutorial: str) -> Path:
    return folder() / "solutions" / f"{int(tutorial):02d}.py"


def _solutions(name: str) -> ModuleType:
    """The module `solutions/NN.py` of the tutorial that `name` belongs to."""
    path = _solutions_file(name.partition(".")[0])
    spec = importlib.util.spec_from_file_location(f"minires_solutions_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _close(a: Any, b: Any, within: float) -> bool:
    """Whether two answers agree: words without regard to case, numbers and shapes within a relative error."""
    if isinstance(a, str) or isinstance(b, str):
        return str(a).strip().lower() == str(b).strip().lower()
    try:
        a, b = np.atleast_1d(np.asarray(a, float)), np.atleast_1d(np.asarray(b, float))
    except ValueError:  # a word among the numbers
        return False
    return a.shape == b.shape and bool(np.all(np.abs(a - b) <= within * np.abs(b) + 1e-12))


def _verdict(guessed: Value, answer: Answer) -> str:
    for near in (0.005, NEAR / 2):  # a usual mistake may lie within a tenth of the law: then it has to be met exactly
        for mistake, reason in answer.wrong.items():
            if _close(guessed, mistake, near):
                return f"{_how_far(guessed, answer.law)}. {reason}"
        if _close(guessed, answer.law, NEAR):
            same = _text(guessed) == _text(answer.law) or not isinstance(guessed, int | float)
            return "right." if same else f"close enough: {_how_far(guessed, answer.law)}."
    if isinstance(answer.law, str) and isinstance(guessed, str) and answer.wrong:
        words = sorted({answer.law, *map(str, answer.wrong)})
        return f"not so; the question asks for one of {', '.join(words)}."
    return f"{_how_far(guessed, answer.law)}."


def _how_far(guessed: Value, law: Value) -> str:
    kinds = {type(value) if isinstance(value, str | tuple) else float for value in (guessed, law)}
    if len(kinds) > 1 or (kinds == {tuple} and len(guessed) != len(law)):
        return f"not so; the question asks for {_kind(law)}"
    if kinds == {tuple}:
        hits = sum(_close(each, right, NEAR) for each, right in zip(guessed, law, strict=True))
        if hits == len(law):
            return "nearly"
        return f"not so; {hits} of the {len(law)} numbers {'is' if hits == 1 else 'are'} correct" if hits else "not so"
    if kinds != {float} or not math.isfinite(guessed) or 0 in (guessed, law):
        return "not so"
    if (guessed < 0) != (law < 0):
        return "not so; its sign is the other one"
    if 0 < law < 1 < guessed and _close(guessed / 100, law, NEAR):
        return "right in percent, but the question asks for a share, between 0 and 1"
    factor = max(abs(guessed / law), abs(law / guessed))
    size = f"{abs(guessed / law - 1):.0%}" if factor < FAR else f"a factor of {factor:.3g}"
    return f"{'too large' if abs(guessed) > abs(law) else 'too small'} by {size}"


def _number_or_word(answer: float | str) -> float | str:
    try:
        return float(answer)
    except ValueError:
        return answer
    except OverflowError:  # a whole number of more than 308 digits
        return math.inf if answer > 0 else -math.inf


def _kind(law: Value) -> str:
    if isinstance(law, str):
        return "a word in quotes"
    return f"{len(law)} numbers in brackets" if isinstance(law, tuple) else "a number"


def _text(answer: Any) -> str:
    if isinstance(answer, str):
        return answer
    if isinstance(answer, tuple | list | np.ndarray):
        return f"({', '.join(map(_text, answer))})"
    number = float(answer)
    return f"{int(number)}" if number.is_integer() and abs(number) < 1e6 else f"{number:.3g}"


def _is_open(error: BaseException | None) -> bool:
    """Whether the exercise is still to be written: a NotImplementedError, at the bottom of what a check made of it."""
    while error is not None and not isinstance(error, NotImplementedError):
        error = error.__cause__
    return error is not None


def _place(error: Exception) -> str:
    """The line of the reader's own code at which it stopped."""
    inner = error.__cause__ or error
    frames = [frame for frame in traceback.extract_tb(inner.__traceback__) if not _ours(frame.filename)]
    if inner is error:
        frames = frames[1:]  # the first one is the tutorial's own cell, which called the judge
    return f"line {frames[-1].lineno}, `{frames[-1].line}`: " if frames and frames[-1].line else ""


def _ours(filename: str) -> bool:
    return str(Path(__file__).parent) in filename or "numpy" in Path(filename).parts


def _sentence(error: Exception) -> str:
    """An exception as a sentence. NumPy's own words on shapes get one that helps."""
    inner = error.__cause__
    said = str(error) if inner is not None or isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
    if any(
        words in said for words in ("could not be broadcast", "could not broadcast", "core dimension", "cannot reshape")
    ):
        said += ". (Print the shapes of both sides in that line: one of them is not what you think.)"
    if "NoneType" in said:
        said += ". (None is what a function gives that ends without a return.)"
    return said


def _tell(name: str, word: str, sentence: str = "") -> str:
    print(f"Exercise {name}: {word}{': ' + sentence if sentence else '.'}")
    return Said(word)
