"""The error by itself has a simple form: a multiple of the tensor, of dy, a constant, x minus its mean."""

from __future__ import annotations

import math

import numpy as np

from minires.gradcheck.hypotheses.comparison import Comparison, along, fitted_factor, listed, subsets


def multiple_of_itself(c: Comparison) -> str | None:
    """error = factor * the tensor: the gradient of a penalty (weight decay), added or forgotten."""
    if c.x is None or c.x.shape != c.expected.shape or c.x.size < 3 or not c.is_far or np.ptp(c.x) == 0:
        return None
    error, name = c.yours - c.expected, c.own
    for words, term, penalty in ((name, c.x, f"{name}^2"), (f"sign({name})", np.sign(c.x), f"|{name}|")):
        factor, _ = fitted_factor(error, np.where(c.known, term, np.nan), c.bound)
        if factor is None or not c.near(c.expected + factor * term) or abs(factor) * np.max(np.abs(term)) < 1e-12:
            continue
        if not np.allclose(error[c.known], factor * term[c.known], rtol=1e-4, atol=8 * float(np.max(c.bound))):
            continue
        told = f"the error of {c.name} is {factor:.6g} times {words} itself"
        if factor > 0:
            return f"{told}: a penalty on {penalty} (weight decay) is added that y does not hold"
        return f"{told}: the gradient of a penalty on {penalty} (weight decay) in y is missing, or has another factor"
    return None


def scaled_with_penalty(c: Comparison) -> str | None:
    """factor * expected + another factor * the tensor: the data's part and the penalty's have different factors."""
    if c.x is None or c.x.shape != c.expected.shape or c.x.size < 5 or not c.is_far or not np.all(c.known):
        return None
    columns = np.c_[c.expected.ravel(), c.x.ravel()]
    if np.linalg.matrix_rank(columns / np.maximum(np.abs(columns).max(axis=0), 1e-300), tol=1e-6) < 2:
        return None
    (a, b), *_ = np.linalg.lstsq(columns, c.yours.ravel(), rcond=None)
    size = float(np.max(np.abs(c.yours)))
    told = min(
        abs(a - 1) * np.max(np.abs(c.expected)), abs(b) * np.max(np.abs(c.x)), abs(a) * np.max(np.abs(c.expected))
    )
    if told <= 1e-4 * size or not c.near(a * c.expected + b * c.x):
        return None
    name = c.own
    return (
        f"{c.name} is {a:.6g} times what it should be plus {b:.6g} times {name} itself: the part that comes from the "
        f"data and that of a penalty on {name} (weight decay) have different factors"
    )


def multiple_along(c: Comparison) -> str | None:
    """The error is a multiple of the tensor, or of another input or y, with a factor of its own for each row."""
    if c.yours.ndim < 2 or not c.is_far or not np.all(c.known) or (c.evidence is not None and is_normalized(c)):
        return None
    error, name = c.yours - c.expected, c.own
    arrays = {name: c.x} if c.x is not None else {}
    arrays |= {n: a for n, a in c.partners.items() if not n.startswith("d")}
    if c.evidence is not None:
        arrays["y"] = c.evidence.y
    for other, a in arrays.items():
        for axis in range(c.yours.ndim):
            if a.shape != c.yours.shape or a.shape[axis] < 3 or a.size == a.shape[axis]:
                continue
            square = np.sum(a * a, axis=axis, keepdims=True)
            if not np.all(square):
                continue
            factor = np.sum(error * a, axis=axis, keepdims=True) / square
            if not c.near(c.expected + factor * a):
                continue
            each = listed([c.axis_names[k] for k in range(c.yours.ndim) if k != axis])
            told = f"the error of {c.name} is a multiple of {other}, with a factor of its own for each {each}"
            if other in (name, "y") and _keeps_its_scale(c):
                return (
                    f"{told}: the path through the length of {name} (its norm, or its root mean square) is missing, or "
                    "has another factor"
                )
            return f"{told}: the term with {other} in it is missing, or has another factor"
    return None


def _keeps_its_scale(c: Comparison) -> bool:
    """Whether y stays (nearly) the same when x is doubled."""
    if c.evidence is None:
        return False
    inputs = list(c.evidence.inputs)
    inputs[c.index] = 2 * inputs[c.index]
    try:
        y = c.evidence.forward(tuple(inputs))
    except (ValueError, TypeError):
        return False
    return y.shape == c.evidence.y.shape and np.allclose(y, c.evidence.y, rtol=0.01, atol=0.01 * np.max(np.abs(y)))


def made_of_itself(c: Comparison) -> str | None:
    """The tensor itself, times one number for each index of an axis: it is used where another array belongs."""
    if c.x is None or c.x.shape != c.yours.shape or c.x.ndim < 2 or not c.is_far or not np.all(c.x):
        return None
    name = c.own
    with np.errstate(all="ignore"):
        quotient = c.yours / c.x
    for axis in range(c.x.ndim):
        rest = tuple(k for k in range(c.x.ndim) if k != axis)
        level = quotient.mean(axis=rest, keepdims=True)
        if c.x.size < 3 * c.x.shape[axis] or not c.near(level * c.x):
            continue
        told = ", ".join(f"{v:.4g}" for v in level.ravel()[:4])
        if np.allclose(level, level.flat[0], rtol=1e-7):
            return (
                f"{c.name} is {level.flat[0]:.4g} times {name} itself and nothing else: is the rest of the gradient "
                "overwritten (= where += is needed)?"
            )
        return (
            f"{c.name} is {name} itself times one number for each {c.axis_names[axis]} ({told}): is {name} used where "
            "another input belongs?"
        )
    return None


def multiple_of_dy(c: Comparison) -> str | None:
    """yours = expected + factor * dy: a path on which x reaches y unchanged, the shortcut of a residual block."""
    dy = c.partners.get("dy")
    if dy is None or dy.shape != c.expected.shape:
        return None
    wrong = c.wrong()
    factor, _ = fitted_factor(c.yours - c.expected, np.where(c.known & wrong, dy, np.nan), c.bound)
    if factor is None or wrong.sum() < 3 or not c.fits(c.expected + factor * dy * wrong):
        return None
    if abs(factor + 1) < 1e-6 and not wrong[c.known].all():
        return (
            f"{c.name} lacks dy itself at {wrong.sum()} of {wrong.size} entries (those that a gate lets through?), "
            "as if the gradient of the shortcut is forgotten"
        )
    if abs(factor + 1) < 1e-6:
        return f"{c.name} lacks dy itself, as if the gradient of the shortcut is forgotten"
    if abs(factor - 1) < 1e-6:
        return f"{c.name} holds dy once too often, as if the gradient of a shortcut were counted twice"
    return f"{c.name} is off by {factor:.6g} times dy: look at the shortcut"


def missing_constant(c: Comparison) -> str | None:
    """The error is one number along some axes: a mean, or a sum, was forgotten (the low-rank part of ones)."""
    error, bound = c.yours - c.expected, float(np.max(c.bound))
    for axes in sorted(subsets(c.expected.ndim), key=len, reverse=True):
        count = math.prod(error.shape[a] for a in axes)
        if count < 3:
            continue
        level = np.nanmean(error, axis=axes, keepdims=True)
        such = ", such as the mean of dy" if c.name != "y" else ""
        if np.nanmax(np.abs(error - level)) <= 4 * bound:
            return (
                f"the error of {c.name} is the same number along {along(c.axis_names[a] for a in axes)}: "
                f"a term that is constant there is missing, too much, or wrong{such}"
            )
    return None


def missing_xhat(c: Comparison) -> str | None:
    """The error is a + b x along some axes, x being the input: BatchNorm's variance path (low rank, x-hat)."""
    if c.x is None or c.x.shape != c.expected.shape or not is_normalized(c):
        return None
    error, bound = c.yours - c.expected, float(np.max(c.bound))
    for axes in sorted(subsets(c.expected.ndim), key=len, reverse=True):
        if math.prod(error.shape[a] for a in axes) < 5:
            continue
        centered = c.x - c.x.mean(axis=axes, keepdims=True)
        level = np.nanmean(error, axis=axes, keepdims=True)
        slope = np.nansum(error * centered, axis=axes, keepdims=True) / np.sum(centered**2, axis=axes, keepdims=True)
        if np.nanmax(np.abs(error - level - slope * centered)) <= 4 * bound:
            both = " plus a constant" if np.nanmax(np.abs(level)) > 4 * bound else ""
            return (
                f"the error of {c.name} is a multiple of x minus its mean{both}, along "
                f"{along(c.axis_names[a] for a in axes)}: the path through the variance "
                "(xhat times the mean of dy * xhat) is missing or wrong"
            )
    return None


def is_normalized(c: Comparison) -> bool:
    """Whether y stays (nearly) the same when x is doubled and moved by a constant. True if nobody can be asked."""
    if c.evidence is None:
        return True
    inputs = list(c.evidence.inputs)
    inputs[c.index] = 2 * inputs[c.index] + 3
    try:
        y = c.evidence.forward(tuple(inputs))
    except (ValueError, TypeError):
        return False
    size = np.max(np.abs(c.evidence.y - c.evidence.y.mean()), initial=0.0)
    return y.shape == c.evidence.y.shape and bool(np.max(np.abs(y - c.evidence.y)) <= 0.05 * size)
