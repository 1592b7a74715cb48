"""Whatever a reader's exercise does becomes one line: open, right, wrong and why, or where it stopped."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from minires import gradcheck, init, tutorial
from minires.theory import check_initializer

x = np.random.default_rng(0).standard_normal((4, 3))


def square(x):
    return x**2, x


def still_open(dy, x):
    raise NotImplementedError("yours to write")


CASES = {
    "right": (lambda dy, x: 2 * x * dy, "right"),
    "half": (lambda dy, x: x * dy, "wrong: dx is 0.5 times what it should be"),
    "shape": (lambda dy, x: (2 * x * dy).sum(axis=0), "wrong: dx has shape (3,) where (4, 3) is needed"),
    "nothing": (lambda dy, x: None, "stopped: backward returned nothing"),
    "exception": (lambda dy, x: dy @ np.ones((7, 7)), "Print the shapes of both sides in that line"),
    "name": (lambda dy, x: dx * dy, "name 'dx' is not defined"),  # noqa: F821
    "open": (still_open, "open: yours to write"),
}


@pytest.mark.parametrize(("backward", "said"), CASES.values(), ids=CASES)
def test_a_backward_judged_by_gradcheck(backward, said, capsys):
    tutorial.exercise("1.1", lambda: gradcheck.check_op(square, backward, [x]))
    printed = capsys.readouterr().out
    assert printed.startswith("Exercise 1.1: ") and said in printed
    assert len(printed.splitlines()) == 1


def test_an_exception_names_the_line_of_the_reader(capsys):
    tutorial.exercise("1.1", lambda: gradcheck.check_op(square, lambda dy, x: dy @ np.ones((7, 7)), [x]))
    assert "`tutorial.exercise(" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("check", "said"),
    [
        (lambda: True, "right."),
        (lambda: np.bool_(False), "wrong: the numbers are not those of the engine."),
        (lambda: "", "right."),
        (lambda: "the bias is missing.", "wrong: the bias is missing."),
        (lambda: np.zeros(3) + np.zeros(4), "Print the shapes"),
        (lambda: 1 / 0, "ZeroDivisionError: division by zero"),
        (lambda: None, "the check gave NoneType; expected a report, True or False, or a sentence"),
        (lambda: np.array([True, False]), "the check gave ndarray"),
        (lambda: sys.exit("done"), "stopped: SystemExit: done"),
        (lambda: None - 1.0, "None is what a function gives that ends without a return"),
        (lambda: check_initializer(init.HeNormal().sample, (64, 32), init.HeNormal()), "right."),
        (lambda: check_initializer(lambda s, r: r.normal(size=s), (64, 32), init.HeNormal()), "wrong: fan ignored"),
        (lambda: check_initializer(lambda s, r: r.normal(size=3), (64, 32), init.HeNormal()), "the sampler gave (3,)"),
    ],
)
def test_other_judges(check, said, capsys):
    tutorial.exercise("1.1", check)
    assert said in capsys.readouterr().out
