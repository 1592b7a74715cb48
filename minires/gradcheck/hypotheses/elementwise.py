"""Functions of each number by itself: the derivative as a function of x, against known ones, else as a table."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from minires.backend import Array
from minires.gradcheck.hypotheses.comparison import Comparison, position
from minires.gradcheck.hypotheses.parts import place

LINES = 3
"""Rows of the table."""


def known_derivative(c: Comparison) -> str | None:
    """y[i] depends on x[i] alone, and backward takes a function for dy/dx that has a name."""
    if (slopes := _slopes(c)) is None:
        return None
    right, yours = slopes
    x, y = c.evidence.inputs[c.index], c.evidence.y
    for words, values in _known(c, x, y, right):
        if np.all(np.isfinite(values)) and np.max(np.abs(values - yours)) <= 1e-6 * max(np.max(np.abs(values)), 1e-300):
            return f"{c.name} takes {words} for the derivative dy/dx{_table(x, yours, right)}"
    return None


def derivative(c: Comparison) -> str | None:
    """y[i] depends on x[i] alone, and what backward takes for dy/dx is none of the known functions: a table."""
    if (slopes := _slopes(c)) is None:
        return None
    right, yours = slopes
    x = c.evidence.inputs[c.index]
    return f"{c.name} is wrong {place(c)}: the derivative dy/dx is a function of x alone{_table(x, yours, right)}"


def _slopes(c: Comparison) -> tuple[Array, Array] | None:
    """dy/dx of every number, right and as backward has it; None for functions that are not elementwise."""
    if c.evidence is None or not c.is_far or c.evidence.dy.shape != c.yours.shape or c.yours.size < 3:
        return None
    jacobian = c.evidence.numeric(c.index)
    if jacobian is None or np.any(jacobian[~np.eye(len(jacobian), dtype=bool)]):
        return None
    theirs = c.evidence.theirs(c.index)
    if theirs is None or np.any(theirs[~np.eye(len(theirs), dtype=bool)]):
        return None
    yours = np.diagonal(theirs).reshape(c.yours.shape)
    if not np.allclose(yours * c.evidence.dy, c.yours, rtol=1e-6, atol=1e-9):
        return None  # not proportional to dy
    return np.diagonal(jacobian).reshape(c.yours.shape), yours


def _known(c: Comparison, x: Array, y: Array, right: Array) -> Iterator[tuple[str, Array]]:
    with np.errstate(all="ignore"):
        sigmoid = 1 / (1 + np.exp(-x))
        yield "1", np.ones_like(x)
        yield "x", x
        yield "y", y
        yield "1 - y", 1 - y
        yield "y (1 - y)", y * (1 - y)
        yield "1 - y^2", 1 - y**2
        yield "1 - x^2", 1 - x**2
        yield "x (1 - x)", x * (1 - x)
        yield "(x > 0)", (x > 0) * 1.0
        yield "(x < 0)", (x < 0) * 1.0
        yield "exp(x)", np.exp(x)
        yield "exp(-x)", np.exp(-x)
        yield "1 / x", 1 / x
        yield "sigmoid(x)", sigmoid
        yield "sigmoid(x) (1 - sigmoid(x))", sigmoid * (1 - sigmoid)
        yield "tanh(x)", np.tanh(x)
        yield "1 - tanh(x)^2", 1 - np.tanh(x) ** 2
        yield "1 - tanh(y)^2 (tanh applied once more)", 1 - np.tanh(y) ** 2
        yield "the square of dy/dx", right**2
        yield "the root of dy/dx", np.sqrt(np.abs(right)) * np.sign(right)
        yield "x dy/dx", right * x
        yield "y dy/dx", right * y
        yield "the inverse of dy/dx", 1 / right
        yield "dy/dx divided by x", right / x
        yield "the absolute value of dy/dx", np.abs(right)
        try:
            at_y = c.evidence.gradient_at(
                c.index, tuple(y if k == c.index else a for k, a in enumerate(c.evidence.inputs))
            )
            yield "the derivative at y (y in place of x)", at_y / c.evidence.dy
        except (ValueError, TypeError):
            return


def _table(x: Array, yours: Array, right: Array) -> str:
    """The entries with the largest errors."""
    error = np.abs(yours - right).ravel()
    rows = np.argsort(-error)[:LINES]
    told = [f"{x.flat[i]:.3g} yours is {yours.flat[i]:.4g}, right is {right.flat[i]:.4g}" for i in rows]
    return f", and at x = {'; at x = '.join(told)}"


def clipped(c: Comparison) -> str | None:
    """The right gradient, cut off at some size."""
    if not c.is_far or c.yours.shape != c.expected.shape or not np.all(c.known) or c.yours.size < 2:
        return None
    for low, high in ((-np.max(np.abs(c.yours)), np.max(np.abs(c.yours))), (np.min(c.yours), np.max(c.yours))):
        cut = (c.expected > high) | (c.expected < low)
        if not cut.any() or cut.all() or not c.near(np.clip(c.expected, low, high)):
            continue
        if len(np.unique(np.round(c.yours[cut], 12))) > 2:
            continue
        first = int(np.flatnonzero(cut)[0])
        return (
            f"{c.name} is the right gradient clipped to {low:.4g} .. {high:.4g}: "
            f"{c.name}{position(first, c.yours.shape)} should be {c.expected.flat[first]:.4g}"
        )
    return None


def affine_in_x(c: Comparison) -> str | None:
    """One and the same a x + b for every entry, which the right gradient is not: what belongs to each entry is lost."""
    if c.x is None or not c.is_far or c.x.shape != c.expected.shape or c.x.size < 4 or not np.all(c.known):
        return None
    if np.ptp(c.x) == 0 or np.ptp(c.yours) == 0:
        return None
    (a, b), *_ = np.linalg.lstsq(np.c_[c.x.ravel(), np.ones(c.x.size)], c.yours.ravel(), rcond=None)
    if not c.near(a * c.x + b) or abs(b) < 1e-6 * np.max(np.abs(c.yours)):
        return None
    (p, q), *_ = np.linalg.lstsq(np.c_[c.x.ravel(), np.ones(c.x.size)], c.expected.ravel(), rcond=None)
    if np.max(np.abs(p * c.x + q - c.expected)) <= 1e-6 * np.max(np.abs(c.expected)):
        return None
    name = c.name.removeprefix("d")
    return (
        f"{c.name} is {a:.4g} {name} {b:+.4g} in every entry, so each entry's own target (or whatever it is compared "
        "with) no longer counts: is (N, 1) minus (N,) broadcast to (N, N), and every target summed?"
    )
