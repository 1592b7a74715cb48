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
    if np.max(np.abs(yours - 1)) <= 1e-6:
        mask = ": where dy/dx is 0 (a mask, a gate), dy has to be stopped" if np.any(right == 0) else ""
        return f"{c.name} is dy itself, as if dy/dx were 1{mask}{_table(x, yours, right)}"
    wrong = np.abs(yours - right) > 1e-6 * np.max(np.abs(right))
    for where, part in (("", np.ones_like(wrong)), (" where x is negative", x < 0), (" where x is positive", x > 0)):
        if not np.all(part[wrong]) or part.sum() < 3:
            continue
        for words, values in _known(c, x, y, right):
            if words.startswith(OF_RIGHT) and len(np.unique(np.round(right[part], 6))) < 3:
                continue  # of two numbers everything is a function
            gap, size = np.abs(values - yours)[part], np.max(np.abs(values[part]))
            if np.all(np.isfinite(values[part])) and np.max(gap) <= 1e-6 * max(size, 1e-300):
                return f"{c.name} takes {words} for the derivative dy/dx{where}{_table(x, yours, right)}"
    return _one_number_off(c, x, yours, right, wrong)


OF_RIGHT = ("the square", "the root", "the inverse", "x dy", "y dy", "dy/dx", "the absolute")
"""How words for functions of the right derivative begin."""


def _one_number_off(c: Comparison, x: Array, yours: Array, right: Array, wrong: Array) -> str | None:
    """dy/dx is a number too large, or a number times too large, on one side of 0 (or everywhere)."""
    side = next((w for w, part in (("negative", x < 0), ("positive", x > 0)) if np.array_equal(wrong, part)), None)
    if wrong.sum() < 3 or (side is None and not wrong.all()):
        return None
    where = f" where x is {side}" if side else ""
    gap = (yours - right)[wrong]
    with np.errstate(all="ignore"):
        ratio = (yours / right)[wrong]
    if np.all(np.isfinite(ratio)) and np.ptp(ratio) <= 1e-6 * abs(ratio[0]) and ratio[0] and side:
        told = f"{ratio[0]:.4g} times what it should be"
    elif np.ptp(gap) <= 1e-6 * np.max(np.abs(gap)):
        told = f"too {'large' if gap[0] > 0 else 'small'} by {abs(gap[0]):.4g}"
    else:
        return None
    return f"{c.name} takes a derivative dy/dx that is {told}{where}{_table(x, yours, right)}"


def derivative(c: Comparison) -> str | None:
    """y[i] depends on x[i] alone, and what backward takes for dy/dx is none of the known functions: a table."""
    if (slopes := _slopes(c)) is None:
        return None
    right, yours = slopes
    x = c.evidence.inputs[c.index]
    own, number = c.own, "the derivative dy/dx" if len(c.names) == 1 else "a derivative"
    return f"{c.name} is wrong {place(c)}: each entry is dy times {number}{_table(x, yours, right, own)}"


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
        yield "y (1 + y)", y * (1 + y)
        yield "1 + y", 1 + y
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
        yield "1 - sigmoid(x)", 1 - sigmoid
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
        yield "y / x (the first term of the product rule, if y is x times something)", y / x
        yield "what is left of it without y / x (the other term of the product rule)", right - y / x
        slope = right - y / x
        yield "y / x plus the other term of the product rule without its factor x", y / x + slope / x
        yield "the second term of the product rule without its factor x (and no first term)", slope / x
        try:
            at_y = c.evidence.gradient_at(
                c.index, tuple(y if k == c.index else a for k, a in enumerate(c.evidence.inputs))
            )
            yield "the derivative at y (y in place of x)", at_y / c.evidence.dy
        except (ValueError, TypeError):
            return


def _table(x: Array, yours: Array, right: Array, name: str = "x") -> str:
    """The entries with the largest errors."""
    error = np.abs(yours - right).ravel()
    rows = np.argsort(-error)[:LINES]
    told = [f"{name} = {x.flat[i]:.3g} yours is {yours.flat[i]:.4g}, right is {right.flat[i]:.4g}" for i in rows]
    return f", and at {'; at '.join(told)}"


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
    name = c.own
    return (
        f"{c.name} is {a:.4g} {name} {b:+.4g} in every entry, so each entry's own target (or whatever it is compared "
        "with) no longer counts: is (N, 1) minus (N,) broadcast to (N, N), and every target summed?"
    )
