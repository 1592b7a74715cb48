"""Each structural hypothesis: the error it is for is named, and every other one is left to the others."""

from __future__ import annotations

import numpy as np
import pytest

from minires.gradcheck import check_op, hypotheses
from minires.gradcheck.hypotheses import Comparison, explain, place

RNG = np.random.default_rng(0)
IMAGE = RNG.standard_normal((4, 3, 5, 5))
SQUARE = RNG.standard_normal((4, 4))
X = RNG.standard_normal((4, 3, 5, 5))
GAIN = RNG.standard_normal(3)
DY = RNG.standard_normal((4, 3, 5, 5))
SIZES = {"2": 2, "the batch size N": 4, "the number of pixels H*W": 25}


def compare(yours, expected=IMAGE, **more):
    return Comparison("dx", np.array(yours), expected, np.full(expected.shape, 1e-9), SIZES, **more)


def per_channel(values):
    return np.reshape(values, (1, 3, 1, 1))


def zero_where(array, index):
    result = array.copy()
    result[index] = 0
    return result


def shifted(array, down, right):
    result = RNG.standard_normal(array.shape)  # what comes in from outside is anything
    h, w = array.shape[2:]
    result[:, :, down:, right:] = array[:, :, : h - down, : w - right]
    return result


def first_samples_only(array):
    result = array.copy()
    result[3] = RNG.standard_normal(array[3].shape)
    return result


CENTERED = X - X.mean(axis=(0, 2, 3), keepdims=True)

SHAPES = [
    (compare(SQUARE[:3].T, SQUARE[:3]), "transposed"),
    (compare(IMAGE, IMAGE.sum(axis=(0, 2, 3))), "not summed over axis 0, 2 and 3"),
    (compare(GAIN.reshape(1, 3, 1, 1), GAIN), "axes of length 1 were kept"),
    (compare(IMAGE[:1, :, :1, :1], np.broadcast_to(IMAGE[:1, :, :1, :1], IMAGE.shape)), "broadcasting"),
    (compare(np.zeros((2, 7))), "has shape (2, 7) where (4, 3, 5, 5) is needed"),
]
CASES = {
    "not_finite": [(compare(np.where(IMAGE > 1, np.nan, IMAGE)), "NaN")],
    "all_zero": [(compare(0 * IMAGE), "all zeros")],
    "whole_numbers": [(compare((10 * IMAGE).astype(int), 10 * IMAGE), "fractions were cut off")],
    "constant_factor": [
        (compare(IMAGE / 4), "0.25 times what it should be: 1 / the batch size N"),
        (compare(25 * IMAGE), "25 times what it should be: the number of pixels H*W"),
        (compare(2 * IMAGE), "2 times what it should be: 2"),
        (compare(-IMAGE), "wrong sign"),
        (compare(-0.5 * IMAGE), "minus 1 / 2"),
        (compare(1.2345 * IMAGE), "1.2345 times what it should be"),
    ],
    "single_precision": [(compare(IMAGE.astype(np.float32)), "rounded to float32")],
    "transposed": [(compare(SQUARE.T, SQUARE), "row and column are exchanged")],
    "flipped": [
        (compare(IMAGE[:, :, ::-1, ::-1]), "flipped along row and column"),
        (compare(IMAGE[::-1]), "flipped along sample"),
    ],
    "swapped": [(compare(DY, partners={"dweight": DY}), "is the gradient dweight")],
    "shifted": [
        (compare(shifted(IMAGE, 1, 1)), "shifted by 1 pixel down and 1 pixel right"),
        (compare(shifted(IMAGE, 2, 0)), "shifted by 2 pixels down"),
    ],
    "zero_block": [
        (compare(zero_where(IMAGE, np.s_[:, 0])), "zero only in channel 0"),
        (compare(zero_where(IMAGE, np.s_[..., -1])), "zero only in the last column"),
    ],
    "factor_along_axis": [
        (compare(IMAGE * per_channel([2.0, 3.0, -1.0])), "for each channel (2, 3, -1)"),
        (compare(IMAGE / per_channel(GAIN), partners={"weight": GAIN}), "weight was forgotten"),
        (compare(IMAGE * per_channel(GAIN), partners={"weight": GAIN}), "multiplied by weight"),
    ],
    "part_right": [(compare(first_samples_only(IMAGE)), "right for sample 0, 1 and 2, wrong for sample 3")],
    "multiple_of_dy": [
        (compare(IMAGE - DY, partners={"dy": DY}), "shortcut is forgotten"),
        (compare(IMAGE + DY, partners={"dy": DY}), "counted twice"),
    ],
    "missing_constant": [
        (compare(IMAGE + per_channel(GAIN)), "same number along sample, row and column"),
        (compare(IMAGE + 0.3), "same number along sample, channel, row and column"),
    ],
    "missing_xhat": [
        (compare(IMAGE + CENTERED * per_channel(GAIN), x=X), "multiple of x minus its mean, along"),
        (compare(IMAGE + CENTERED * per_channel(GAIN) + per_channel(GAIN), x=X), "plus a constant"),
    ],
}


def test_every_hypothesis_has_a_case():
    assert set(CASES) == {hypothesis.__name__ for hypothesis in hypotheses.HYPOTHESES}


@pytest.mark.parametrize(("case", "words"), SHAPES)
def test_a_wrong_shape_is_explained(case, words):
    assert words in explain(case)


@pytest.mark.parametrize(("name", "case", "words"), [(name, *case) for name, cases in CASES.items() for case in cases])
def test_a_hypothesis_names_its_error_and_nothing_else_does(name, case, words, monkeypatch):
    said = explain(case)
    assert said is not None and words in said
    others = tuple(h for h in hypotheses.HYPOTHESES if h.__name__ != name)
    monkeypatch.setattr(hypotheses, "HYPOTHESES", others)
    assert words not in (explain(case) or ""), "without the hypothesis nobody says so"


@pytest.mark.parametrize("hypothesis", hypotheses.HYPOTHESES, ids=lambda h: h.__name__)
def test_no_hypothesis_explains_an_arbitrary_error(hypothesis):
    """Random numbers, a random error, and a tiny error in one entry: nothing to explain them."""
    one_off = IMAGE.copy()
    one_off[1, 2, 3, 4] += 1e-6
    for yours in (RNG.standard_normal(IMAGE.shape), IMAGE * (1 + 0.01 * RNG.standard_normal(IMAGE.shape)), one_off):
        assert hypothesis(compare(yours, x=X, partners={"dy": DY, "weight": GAIN})) is None


BORDER = np.zeros(IMAGE.shape, dtype=bool)
BORDER[..., (0, -1), :] = BORDER[..., :, (0, -1)] = True


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (BORDER, "only at border pixels"),
        (~BORDER, "only inside"),
        (np.arange(3).reshape(3, 1, 1) == np.zeros((4, 1, 1, 1)), "only in channel 0"),
        (np.arange(5) == np.zeros((4, 3, 5, 1)) + 4, "only in the last column"),
        (np.arange(5) % 2 == np.zeros((4, 3, 5, 1)), "in every second column"),
        (np.ones(IMAGE.shape, dtype=bool), "everywhere"),
        (np.eye(5, dtype=bool) & (np.arange(4) == 2)[:, None, None, None], "only in sample 2"),
    ],
    ids=["border", "inside", "channel", "last column", "comb", "all", "sample"],
)
def test_where_the_error_sits(wrong, words):
    wrong = np.broadcast_to(wrong, IMAGE.shape)
    noise = RNG.uniform(1, 2, IMAGE.shape)
    assert words in place(compare(IMAGE + wrong * noise))


def test_an_error_that_nothing_explains_is_said_to_be_unexplained_and_located():
    """Noise at the border only, of a function without `like`: an honest answer."""
    x = RNG.standard_normal((4, 2, 5, 5))
    noise = RNG.uniform(1, 2, x.shape) * np.broadcast_to(BORDER[:, :2], x.shape)

    report = check_op(lambda x: (x * x, x), lambda dy, x: 2 * x * dy + noise * dy**2, x)
    assert report.verdict == "fail"
    report = check_op(lambda x: (x * x, x), lambda dy, x: 2 * x * dy * (1 + noise), x)
    assert "no structural hypothesis explains it" in report.diagnosis
    assert "only at border pixels" in report.diagnosis


def test_a_factor_is_named_from_the_call_itself():
    """No `like`: the numerical gradient alone tells that 1/N is too much."""
    x, w = RNG.standard_normal((6, 4)), RNG.standard_normal((3, 4))

    def backward(dy, cache):
        x, w = cache
        return dy @ w, dy.T @ x / len(x)

    report = check_op(lambda x, w: (x @ w.T, (x, w)), backward, (x, w))
    assert report.verdict == "fail" and report.fault is None
    assert "dw is 0.166667 times what it should be: 1 / the batch size N" in report.diagnosis
