"""Errors for the hypotheses on the routes of dy: which output gives what to which entry, and by which array."""

from __future__ import annotations

import numpy as np

from tests.gradcheck.hypothesis_cases import SQUARE, asked, compare, means, means_backward, of_linear, of_one

ROWS = np.random.default_rng(7).standard_normal((5, 4))
EPS = 1e-5


def normalize(x):
    return (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + EPS)


def normalize_backward(dy, x, *, own=1.0, mean=1.0, variance=1.0):
    xhat = normalize(x)
    terms = own * dy - mean * dy.mean(axis=0) - variance * xhat * (dy * xhat).mean(axis=0)
    return terms / np.sqrt(x.var(axis=0) + EPS)


def of_normalization(**factors):
    return of_one(normalize, normalize_backward, lambda dy, x: normalize_backward(dy, x, **factors), ROWS)


GIVEN = np.array([0.3, -0.2, 0.5, 0.1]), np.array([1.5, 0.7, 1.1, 2.0])
"""A mean and a standard deviation that do not come from x."""


def with_given(xhat_path):
    def wrong(dy, x):
        xhat = (x - GIVEN[0]) / GIVEN[1]
        path = xhat * (dy * xhat).mean(axis=0) if xhat_path else 0
        return (dy - dy.mean(axis=0) - path) / GIVEN[1]

    return of_one(lambda x: (x - GIVEN[0]) / GIVEN[1], lambda dy, x: dy / GIVEN[1], wrong, ROWS)


def gated(x):
    return x * x.sum(axis=1, keepdims=True)


def gated_backward(dy, x, direct=1.0, others=1.0):
    return direct * dy * x.sum(axis=1, keepdims=True) + others * (dy * x).sum(axis=1, keepdims=True)


def of_gated(**factors):
    return of_one(gated, gated_backward, lambda dy, x: gated_backward(dy, x, **factors))


def hidden_product(wrong):
    """y = tanh(x) w, whose dw takes x for tanh(x)."""
    return asked(
        lambda dy, i: i[0].T @ dy if wrong else np.tanh(i[0]).T @ dy,
        lambda dy, i: np.tanh(i[0]).T @ dy,
        lambda i: np.tanh(i[0]) @ i[1],
        lambda dy, i: (dy, i[0].T @ dy),
        (ROWS, SQUARE[:, :3]),
        1,
    )


SCORES = np.random.default_rng(8).standard_normal((3, 4)), np.random.default_rng(9).standard_normal((3, 4))
VALUES = np.random.default_rng(10).standard_normal((3, 5))


CASES = {
    "terms_of_normalization": [
        (of_normalization(variance=0.5), "the path through the variance (minus xhat times the mean of dy * xhat)"),
        (of_normalization(mean=5.0), "is 5 times what is right: the number m of entries that are normalized together"),
        (of_normalization(mean=0.0, variance=0.0), "are both missing; dy's own part is right"),
    ],
    "statistics_are_constants": [
        (with_given(True), "dx holds a path through the mean and the variance of x, but forward treats that as const"),
        (with_given(False), "dx holds a path through the mean of x, but forward"),
    ],
    "looked_up": [
        (
            of_linear(lambda dy, x, w: dy.T @ x[[0, 0, 1, 3]], 1),
            "dx meets the wrong numbers of x: for dx[0, 0], dy[1, 0] is multiplied by x[0, 0], and should be by x[1",
        )
    ],
    "not_shared_out": [
        (
            of_one(
                lambda x: x.mean(axis=1),
                lambda dy, x: np.repeat(dy[:, None] / 4, 4, axis=1),
                lambda dy, x: dy[:, None] * np.eye(4)[[1]],
                ROWS,
            ),
            "gives each number of dy, times 1, to one entry only (dy[0] to dx[0, 1]): it has to go to 4 entries, 0.25",
        )
    ],
    "sum_repeated": [
        (compare(np.broadcast_to(SQUARE.sum(axis=0), (4, 4)), SQUARE), "dx is the same along rows: it is the sum over")
    ],
    "matrix_transposed": [
        (
            asked(
                lambda dy, i: dy @ VALUES.T @ i[0],
                lambda dy, i: VALUES @ dy.T @ i[0],
                lambda i: i[0] @ i[1].T @ VALUES,
                lambda dy, i: (dy @ VALUES.T @ i[1], dy @ VALUES.T @ i[0]),
                SCORES,
                1,
            ),
            "dx is a matrix A @ x, and would be right with A.T in place of A",
        )
    ],
    "product_of_factors": [
        (
            compare(SQUARE * np.array([1, 2, 3, 4.0]) / np.array([[1], [2], [3], [4.0]]), SQUARE),
            "times a factor for each row and another for each column (together 0.25 to 4)",
        )
    ],
    "without_dy": [
        (
            of_one(
                lambda x: np.where(x > 0, x, 0.1 * x),
                lambda dy, x: np.where(x > 0, dy, 0.1 * dy),
                lambda dy, x: np.where(x > 0, dy, 0.1),
            ),
            "dx is wrong where x is negative, and there it stays the same whatever dy is (0.1 at each of them",
        )
    ],
    "direct_path": [(of_gated(direct=0.0), "the direct way from an entry of x to the same entry of y")],
    "by_other_outputs": [
        (
            of_gated(others=3.0),
            "by way of other outputs than its own (through a mean, a sum, a gate) is 3 times what it should be",
        )
    ],
    "before_activation": [
        (hidden_product(True), "in dx, dy is multiplied by values from before the tanh, where those from after it")
    ],
}
"""(comparison, words) for each hypothesis."""

KNOWN = {
    "counts_of_dy": (
        asked(
            lambda dy, i: 4 * dy[:, 0],
            lambda dy, i: dy.sum(axis=1),
            lambda i: i[0] @ SQUARE + i[1][:, None],
            lambda dy, i: (dy, 4 * dy[:, 0]),
            (ROWS, ROWS[:, 0]),
            1,
        ),
        "dy[0, 0] counts 4 times and should count once, and 15 of 20 numbers of dy do not count at all",
    ),
    "to_one_entry_only": (
        of_one(
            lambda x: np.log(np.exp(x).sum(axis=1)),
            lambda dy, x: dy[:, None] * np.exp(x) / np.exp(x).sum(axis=1, keepdims=True),
            lambda dy, x: dy[:, None] * (x == x.max(axis=1, keepdims=True)) * np.exp(x[:, :1]),
        ),
        "gives each number of dy to one entry only",
    ),
    "factor_for_each_output": (
        of_one(means, means_backward, lambda dy, x: means_backward(dy * np.array([2.0, 1.0, 3.0]), x)),
        "right for dy times a factor of its own at each output: 1 at dy[",
    ),
    "reached_by": (
        of_one(
            lambda x: np.sin(x)[:, 1:] * x[:, :-1].sum(axis=1, keepdims=True),
            lambda dy, x: x,
            lambda dy, x: x * dy[:, :1],
        ),
        "does not depend on dy at features 1 and 2, but should",
    ),
}
"""What is known where nothing explains an error."""
