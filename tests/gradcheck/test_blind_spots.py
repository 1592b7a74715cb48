"""A check that could not have failed says so, and says which mistake it would have missed."""

from __future__ import annotations

import numpy as np
import pytest

from minires import ops
from minires.gradcheck import check_op

RNG = np.random.default_rng(0)
X = RNG.standard_normal((6, 3))
IMAGES = RNG.standard_normal((4, 2, 5, 5))
LABELS = np.array([0, 2, 1, 1])


def relu(x):
    return np.maximum(x, 0), x


@pytest.mark.parametrize(
    ("inputs", "like", "options", "hidden"),
    [
        ((X, np.ones(3), np.zeros(3)), "batchnorm", {}, "batchnorm:dx-gain-forgotten"),
        ((np.abs(X),), "relu", {}, "relu:gate-missing"),
        ((IMAGES, np.ones((3, 2, 3, 3)), np.ones(3)), "conv2d", {}, "conv2d:dx-kernel-not-flipped"),
    ],
    ids=["gain of 1", "positive inputs", "kernel of ones"],
)
def test_inputs_that_hide_a_typical_fault_are_vacuous(inputs, like, options, hidden):
    forward, backward = getattr(ops, f"{like}_forward"), getattr(ops, f"{like}_backward")
    report = check_op(forward, backward, inputs, like=like, options=options)
    assert report.verdict == "vacuous"
    assert hidden in report.alike and "cannot tell it from a typical mistake" in report.reason
    random = tuple(np.random.default_rng(1).standard_normal(a.shape) for a in inputs)
    assert check_op(forward, backward, random, like=like, options=options).verdict == "pass"


def test_faults_that_the_settings_rule_out_are_listed_and_do_no_harm():
    inputs = (IMAGES, RNG.standard_normal((3, 2, 3, 3)), RNG.standard_normal(3))
    report = check_op(ops.conv2d_forward, ops.conv2d_backward, inputs, like="conv2d")
    assert report.verdict == "pass"
    assert "conv2d:dx-stride-ignored" in report.impossible, "the stride is 1"
    assert "conv2d:dx-kernel-not-flipped" not in report.impossible
    said = f"{len(report.impossible)} faults of the catalogue make no difference under these settings"
    assert said in " ".join(str(report).split()) and said in report._repr_html_()


@pytest.mark.parametrize("gain", [True, False], ids=["with the gain", "without it"])
def test_a_gain_of_one_hides_itself_in_a_function_that_nobody_knows(gain):
    """Whether it is forgotten or not: the check cannot tell, and says so for dx alone."""

    def forward(x, gamma):
        return np.tanh(x) * gamma, (x, gamma)

    def backward(dy, cache):
        x, gamma = cache
        return dy * (gamma if gain else 1) * (1 - np.tanh(x) ** 2), (dy * np.tanh(x)).sum(axis=0)

    report = check_op(forward, backward, (X, np.ones(3)))
    assert report.verdict == "vacuous" and "gamma is 1 everywhere" in report["dx"].reason
    assert report["dgamma"].verdict == "pass"
    assert check_op(forward, backward, (X, np.array([1.2, 0.5, -0.7]))).verdict == ("pass" if gain else "fail")


def test_a_gate_that_no_input_closes_cannot_show():
    for backward in (lambda dy, x: dy * (x > 0), lambda dy, x: dy):
        report = check_op(relu, backward, np.abs(X))
        assert report.verdict == "vacuous" and "no number of x is negative" in report.reason
    assert check_op(lambda x: (x * x, x), lambda dy, x: 2 * x * dy, np.abs(X)).verdict == "pass", "smooth at 0"
    assert check_op(lambda x: (3 * x, x), lambda dy, x: 3 * dy, np.abs(X)).verdict == "pass", "linear"


def test_a_gate_deeper_inside_has_inputs_of_both_signs():
    """Of relu(x w) with positive x the gate is seen, though along a line through 0 it looks like relu(x)."""
    w = RNG.standard_normal((3, 5))
    report = check_op(lambda x: (np.maximum(x @ w, 0), x), lambda dy, x: (dy * (x @ w > 0)) @ w.T, np.abs(X))
    assert report.verdict == "pass"


def test_a_gain_before_a_gate_meets_numbers_of_both_signs():
    def backward(dy, cache):
        x, gain = cache
        dy = dy * (x * gain > 0)
        return dy * gain, (dy * x).sum(axis=0)

    report = check_op(
        lambda x, gain: (np.maximum(x * gain, 0), (x, gain)),
        backward,
        (RNG.standard_normal((6, 4)), np.array([1.2, 0.5, 0.7, 0.9])),
    )
    assert report.verdict == "pass"


def test_a_matrix_that_equals_its_transpose_hides_one():
    symmetric = X[:3] + X[:3].T
    report = check_op(lambda x, w: (x @ w, (x, w)), lambda dy, c: (dy @ c[1], c[0].T @ dy), (X, symmetric))
    assert report.verdict == "vacuous" and "equals its own transpose" in report["dx"].reason


def test_a_batch_of_one_without_like():
    def backward(dy, cache):
        return dy @ cache[1].T, cache[0].T @ dy

    x, w = RNG.standard_normal((1, 4)), RNG.standard_normal((4, 3))
    report = check_op(lambda x, w: (x @ w, (x, w)), backward, (x, w))
    assert report["dx"].verdict == "pass" and report["dw"].verdict == "vacuous"


# --- where losses overflow -----------------------------------------------------------------------------------------


def softmax_loss(shift, log):
    """A softmax cross-entropy with a shift of its own, and its logarithm taken early or late."""

    def forward(z):
        z = z - shift(z)
        e = np.exp(z)
        p = e / e.sum(axis=1, keepdims=True)
        rows = np.arange(len(z))
        chosen = np.log(p[rows, LABELS]) if log else z[rows, LABELS] - np.log(e.sum(axis=1))
        return -chosen.mean(), p

    def backward(dy, p):
        g = p.copy()
        g[np.arange(len(p)), LABELS] -= 1
        return dy * g / len(p)

    return forward, backward


@pytest.mark.parametrize(
    ("shift", "log", "words"),
    [
        (lambda z: 0.0, False, "forward is not finite for large inputs|exp of logits"),
        (lambda z: z.max(), False, "each row needs its own maximum"),
        (lambda z: z.max(axis=1, keepdims=True), True, "its probability rounds to 0"),
        (lambda z: z.max(axis=1, keepdims=True), False, None),
    ],
    ids=["no shift", "one maximum for the batch", "log of p", "right"],
)
def test_a_loss_is_tried_where_it_overflows(shift, log, words):
    z = RNG.standard_normal((4, 3))
    report = check_op(*softmax_loss(shift, log), z, like="softmax_cross_entropy", options={"labels": LABELS})
    assert report.verdict == ("fail" if words else "pass")
    assert not words or any(part in report.diagnosis or part in report.reason for part in words.split("|"))


def test_a_gradient_that_overflows_is_not_blamed_on_forward():
    def forward(x):
        e = np.exp(-x)
        return 1 / (1 + e), e

    report = check_op(forward, lambda dy, e: dy * e / (1 + e) ** 2, X, like="sigmoid")
    assert report.verdict == "fail" and report.diagnosis.startswith("backward is not finite for large inputs")
