"""The error by itself has a simple form: dy, a constant along some axes, x minus its mean."""

from __future__ import annotations

import math

import numpy as np

from minires.gradcheck.hypotheses.comparison import Comparison, fitted_factor, listed, subsets


def multiple_of_dy(c: Comparison) -> str | None:
    """yours = expected + factor * dy: a path on which x reaches y unchanged, the shortcut of a residual block."""
    dy = c.partners.get("dy")
    if dy is None or dy.shape != c.expected.shape:
        return None
    factor, _ = fitted_factor(c.yours - c.expected, np.where(c.known, dy, np.nan), c.bound)
    if factor is None or not c.fits(c.expected + factor * dy):
        return None
    if abs(factor + 1) < 1e-6:
        return f"{c.name} lacks dy itself: the gradient of the shortcut is forgotten"
    if abs(factor - 1) < 1e-6:
        return f"{c.name} holds dy once too often: the gradient of the shortcut is counted twice"
    return f"{c.name} is off by {factor:.6g} times dy: look at the shortcut"


def missing_constant(c: Comparison) -> str | None:
    """The error is one number along some axes: a mean, or a sum, was forgotten (the low-rank part of ones)."""
    error, bound = c.yours - c.expected, float(np.max(c.bound))
    for axes in sorted(subsets(c.expected.ndim), key=len, reverse=True):
        count = math.prod(error.shape[a] for a in axes)
        if count < 3:
            continue
        level = np.nanmean(error, axis=axes, keepdims=True)
        if np.nanmax(np.abs(error - level)) <= 4 * bound:
            return (
                f"the error of {c.name} is the same number along {listed([c.axis_names[a] for a in axes])}: "
                "a term that is constant there is missing or too much, such as the mean of dy"
            )
    return None


def missing_xhat(c: Comparison) -> str | None:
    """The error is a + b x along some axes, x being the input: BatchNorm's variance path (low rank, x-hat)."""
    if c.x is None or c.x.shape != c.expected.shape:
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
                f"{listed([c.axis_names[a] for a in axes])}: the path through the variance "
                "(xhat times the mean of dy * xhat) is missing or wrong"
            )
    return None
