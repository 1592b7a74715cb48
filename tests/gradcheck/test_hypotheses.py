"""Each structural hypothesis: the error it is for is named, and every other one is left to the others."""

from __future__ import annotations

import numpy as np
import pytest

from minires.gradcheck import check_op, hypotheses
from minires.gradcheck.hypotheses import explain, located, place
from tests.gradcheck import hypothesis_cases, hypothesis_cases_by_entry, hypothesis_cases_of_routes
from tests.gradcheck.hypothesis_cases import DY, GAIN, IMAGE, RNG, SHAPES, X, compare, first_samples_only

CASES = hypothesis_cases.CASES | hypothesis_cases_by_entry.CASES | hypothesis_cases_of_routes.CASES
KNOWN = hypothesis_cases_of_routes.KNOWN


def test_every_hypothesis_has_a_case():
    assert set(CASES) == {hypothesis.__name__ for hypothesis in hypotheses.HYPOTHESES}


def test_every_known_fact_has_a_case():
    assert set(KNOWN) == {fact.__name__ for fact in hypotheses.KNOWN}


@pytest.mark.parametrize(("name", "case", "words"), [(name, *case) for name, case in KNOWN.items()])
def test_what_is_known_is_told_where_nothing_explains_the_error(name, case, words):
    assert words in located(case)


def test_an_error_in_some_samples_only_is_located():
    assert located(compare(first_samples_only(IMAGE))).startswith(
        "dx is right for samples 0, 1 and 2, wrong for sample 3"
    )


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
    assert "dx is wrong only at border pixels" in report.diagnosis
    assert "yours is" in report.diagnosis and "right is" in report.diagnosis, "an entry with its right value"


def test_a_factor_is_named_from_the_call_itself():
    """No `like`: the numerical gradient alone tells that 1/N is too much."""
    x, w = RNG.standard_normal((6, 4)), RNG.standard_normal((3, 4))

    def backward(dy, cache):
        x, w = cache
        return dy @ w, dy.T @ x / len(x)

    report = check_op(lambda x, w: (x @ w.T, (x, w)), backward, (x, w))
    assert report.verdict == "fail" and report.fault is None
    assert "dw is 0.166667 times what it should be: 1 / the batch size N" in report.diagnosis


def test_the_factor_of_a_loss_is_no_biased_variance():
    """5 samples and 4 classes: 5/4 is N / (number of classes), and a cross-entropy holds no variance."""
    labels = np.array([1, 0, 3, 2, 2])

    def forward(z):
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        return -np.mean(np.log(p[np.arange(5), labels])), p

    known = {"like": "softmax_cross_entropy", "options": {"labels": labels}}
    z = RNG.standard_normal((5, 4)) * 0.1
    report = check_op(forward, lambda dy, p: dy * (p - np.eye(4)[labels]) / 4, z, **known)
    assert "1.25 times what it should be: N / K, the samples over the classes" in report.diagnosis
    assert "variance" not in report.diagnosis


def test_what_is_wrong_in_y_is_not_blamed_on_dy():
    x, weight, bias = RNG.standard_normal((6, 4)), np.array([1.5, -0.7, 0.4, 2.0]), np.array([0.3, 1.0, -0.8, 0.5])

    def forward(x, weight, bias):
        return weight * ((x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-5) + bias), None

    report = check_op(forward, lambda dy, _: (dy, weight, bias), (x, weight, bias), like="batchnorm")
    assert report.diagnosis.startswith("forward: y holds weight * bias: the bias has to be added after")
    report = check_op(
        lambda x, w, b: (x @ w.T + 7 * b, None), lambda dy, _: (dy, dy, dy), (x, x, x[:, 0]), like="linear"
    )
    assert report.diagnosis.startswith("forward: y holds the bias 7 times, where it should hold it once")


def test_a_factor_is_named_from_the_settings_where_it_is_a_mere_number_too():
    """1/p in place of 1/(1 - p), with p = 0.25: three times."""
    x, keep = RNG.standard_normal((6, 5)), RNG.random((6, 5)) > 0.25
    report = check_op(
        lambda x: (x * keep / 0.75, None), lambda dy, _: dy * keep / 0.25, x, like="dropout", options={"p": 0.25}
    )
    assert report.diagnosis == "dx is 3 times what it should be: 3 or (1 - p) / p (0.25)"
