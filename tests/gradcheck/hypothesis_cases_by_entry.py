"""Errors for the hypotheses on single entries, rows and steps."""

from __future__ import annotations

import numpy as np

from tests.gradcheck.hypothesis_cases import (
    IMAGE,
    RNG,
    SQUARE,
    X,
    add_up,
    asked,
    compare,
    of_one,
    softmax,
    softmax_backward,
)

LONG = RNG.standard_normal((4, 5))
LARGE = np.abs(IMAGE) > 1
SMOOTHED = np.where(np.eye(5)[[0, 3, 1, 4]] > 0, -0.2, 0.05)


def unit_rows(x):
    return x / np.sqrt(np.sum(x * x, axis=1, keepdims=True))


def unit_rows_backward(dy, x, part=1.0):
    n = np.sqrt(np.sum(x * x, axis=1, keepdims=True))
    y = x / n
    return (dy - part * y * np.sum(dy * y, axis=1, keepdims=True)) / n


def recurrent(x):
    """h_t = tanh(x_t + h_{t-1})"""
    h = [np.tanh(x[:, 0])]
    for t in range(1, x.shape[1]):
        h.append(np.tanh(x[:, t] + h[-1]))
    return np.stack(h, axis=1)


def recurrent_backward(dy, x, handed_on=1.0):
    h, dx, carry = recurrent(x), np.zeros_like(x), 0.0
    for t in reversed(range(x.shape[1])):
        dx[:, t] = (dy[:, t] + handed_on * carry) * (1 - h[:, t] ** 2)
        carry = dx[:, t]
    return dx


PROBABILITIES, HOT = softmax(LONG), np.eye(5)[[0, 3, 1, 4]]
MIX = np.array([[0.3, 1.1, -0.4, 0.2], [0.9, -0.2, 0.5, -1.3], [0.1, 0.7, 0.4, -0.6], [-0.8, 0.2, 1.2, 0.5]])
TARGET = np.linspace(-1, 1, 16).reshape(4, 4) ** 3

CASES = {
    "inverted_mask": [(compare(np.where(LARGE, 0, IMAGE), np.where(LARGE, IMAGE, 0)), "the wrong way round")],
    "factor_where_wrong": [
        (compare(np.abs(IMAGE)), "is the absolute value of what it should be"),
        (compare(np.where(LARGE, 3, 1) * IMAGE), "is 3 times what it should be where it is largest"),
        (compare(np.where(X < 0, -1, 1) * IMAGE, x=X), "wrong sign where x is negative, and is right elsewhere"),
    ],
    "spread_too_far": [(compare(0.2 * IMAGE, np.where(LARGE, IMAGE, 0)), "is shared out among all")],
    "not_clipped": [(compare(IMAGE, np.clip(IMAGE, -0.7, 0.7)), "should not go beyond -0.7 .. 0.7")],
    "power": [(compare(2 * IMAGE**2), "goes like the square of what it should be (2 times it)")],
    "times_function": [
        (compare(IMAGE * X * (1 - X), x=X), "is the right one times x (1 - x): a factor too many"),
        (compare(IMAGE / np.exp(X), x=X), "is the right one divided by exp(x): a factor exp(x) is missing"),
    ],
    "target_off": [(compare(LONG + SMOOTHED, LONG), "the target that is subtracted")],
    "scaled_with_penalty": [
        (compare(0.5 * IMAGE + 0.1 * X, x=X), "0.5 times what it should be plus 0.1 times x itself")
    ],
    "multiple_along": [
        (of_one(unit_rows, unit_rows_backward, lambda dy, x: unit_rows_backward(dy, x, 0.25)), "the length of x"),
        (
            of_one(softmax, softmax_backward, lambda dy, x: softmax(x) * (dy - dy.sum(axis=1, keepdims=True))),
            "the term with y in it is missing",
        ),
    ],
    "map_transposed": [
        (
            of_one(
                lambda x: (MIX @ x.ravel()).reshape(2, 2),
                lambda dy, x: (MIX.T @ dy.ravel()).reshape(2, 2),
                lambda dy, x: (MIX @ dy.ravel()).reshape(2, 2),
                x=SQUARE[:2, :2],
            ),
            "the same matrix that forward multiplies x by",
        )
    ],
    "later_steps": [
        (
            of_one(recurrent, recurrent_backward, lambda dy, x: recurrent_backward(dy, x, 0.3)),
            "right for the last column and wrong for all others",
        )
    ],
    "last_step_forgotten": [
        (
            of_one(
                lambda x: np.tanh(x @ MIX),
                lambda dy, x: (dy * (1 - np.tanh(x @ MIX) ** 2)) @ MIX.T,
                lambda dy, x: dy @ MIX.T,
            ),
            "right once dy is multiplied by 1 - y^2",
        )
    ],
    "softmax_loss": [
        (compare(PROBABILITIES / 4, (PROBABILITIES - HOT) / 4), "holds p alone: the 1 at the label is not subtracted"),
        (compare(PROBABILITIES**2 - HOT, PROBABILITIES - HOT), "the square of p"),
    ],
    "counts_off": [
        (compare(LONG[0] + np.array([2, 0, 1, 1, 0]) / 4, LONG[0]), "0.25 times a whole number in each entry (2, 0, 1")
    ],
    "right_for_first_step": [
        (
            of_one(
                add_up,
                lambda dy, x: np.cumsum(dy[:, ::-1], axis=1)[:, ::-1],
                lambda dy, x: np.concatenate([dy[:, :1], 2 * dy[:, 1:]], axis=1),
            ),
            "right as long as only feature 0 of dy is not zero",
        )
    ],
    "does_not_change": [
        (
            asked(
                lambda dy, i: dy.sum() * TARGET,
                lambda dy, i: dy.sum() * (3 * i[0] ** 2 + TARGET),
                lambda i: np.sum(i[0] ** 3 + TARGET * i[0]),
                lambda dy, i: (dy.sum() * TARGET,),
                (SQUARE,),
            ),
            "dx stays the same when x changes, but it should change with it",
        )
    ],
}
