"""Batch normalization: paths forgotten, statistics over the wrong numbers, eps in the wrong place.

The right backward, with inv = (var + eps)^(-1/2) and m values per channel (see `minires/ops/batchnorm.py`):

    dx = weight * inv * (dy - mean of dy - xhat * mean of (dy * xhat))
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from minires.backend import Array
from minires.gradcheck.faults.base import Gradients, Saved, backward_fault, forward_fault, replaced, right_backward


class Parts(NamedTuple):
    """The pieces dx is made of, shaped to broadcast against x."""

    xhat: Array
    inv: Array
    weight: Array
    axes: tuple[int, ...]
    m: int


def _shape(parameter: Array, x: Array) -> Array:
    return parameter.reshape(1, -1, *(1,) * (x.ndim - 2))


def _parts(x: Array, weight: Array, options: dict) -> Parts:
    axes = (0, *range(2, x.ndim))
    mean, var = x.mean(axis=axes, keepdims=True), x.var(axis=axes, keepdims=True)
    inv = 1 / np.sqrt(var + options.get("eps", 1e-5))
    return Parts((x - mean) * inv, inv, _shape(weight, x), axes, x.size // x.shape[1])


def _of(saved: Saved) -> Parts:
    return _parts(saved.inputs[0], saved.inputs[1], saved.options)


def _affine(normalized: Array, weight: Array, bias: Array) -> Array:
    return _shape(weight, normalized) * normalized + _shape(bias, normalized)


# --- dx ------------------------------------------------------------------------------------------------------------


@backward_fault(
    "batchnorm:dx-mean-path-missing",
    "dx forgets that every x also moves the mean: the term -mean of dy is missing.",
    "Add a constant to x: y stays. So what must the dx of one channel add up to?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    p = _of(saved)
    dx = p.weight * p.inv * (dy - p.xhat * (dy * p.xhat).mean(axis=p.axes, keepdims=True))
    return replaced(right_backward(dy, saved), 0, dx)


@backward_fault(
    "batchnorm:dx-variance-path-missing",
    "dx forgets that every x also moves the variance: the term -xhat * mean of (dy * xhat) is missing.",
    "Multiply x by 2: y hardly changes. So what must the sum of dx * x be, nearly?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    p = _of(saved)
    return replaced(right_backward(dy, saved), 0, p.weight * p.inv * (dy - dy.mean(axis=p.axes, keepdims=True)))


@backward_fault(
    "batchnorm:dx-both-paths-missing",
    "dx treats mean and variance as constants, as they are at test time; in training both depend on x.",
    "Which numbers does y[0] depend on: x[0] alone?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    p = _of(saved)
    return replaced(right_backward(dy, saved), 0, p.weight * p.inv * dy)


@backward_fault(
    "batchnorm:dx-variance-path-sign",
    "the variance's term in dx has the wrong sign.",
    "Does a larger variance make y larger or smaller?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    p = _of(saved)
    centered = dy - dy.mean(axis=p.axes, keepdims=True)
    dx = p.weight * p.inv * (centered + p.xhat * (dy * p.xhat).mean(axis=p.axes, keepdims=True))
    return replaced(right_backward(dy, saved), 0, dx)


@backward_fault(
    "batchnorm:dx-variance-path-doubled",
    "the variance's term in dx is twice too large: the 2 of (x - mean)^2 and the 1/2 of the root cancel.",
    "Write out d inv / dx. Which factors are left?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    p = _of(saved)
    centered = dy - dy.mean(axis=p.axes, keepdims=True)
    dx = p.weight * p.inv * (centered - 2 * p.xhat * (dy * p.xhat).mean(axis=p.axes, keepdims=True))
    return replaced(right_backward(dy, saved), 0, dx)


@backward_fault(
    "batchnorm:dx-gain-forgotten",
    "dx forgets the gain: y = weight * xhat + bias, so weight belongs into dx.",
    "Set weight to 0: y no longer depends on x. Does your dx know?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    gradients = right_backward(dy, saved)
    return replaced(gradients, 0, gradients[0] / _of(saved).weight)


@backward_fault(
    "batchnorm:dx-divided-by-batch-only",
    "dx divides its sums by N where the mean runs over all N*H*W values of a channel.",
    "Over how many numbers did forward take the mean?",
    image=True,
)
def _(dy: Array, saved: Saved) -> Gradients:
    p, n = _of(saved), len(dy)
    sums = dy.sum(axis=p.axes, keepdims=True) + p.xhat * (dy * p.xhat).sum(axis=p.axes, keepdims=True)
    return replaced(right_backward(dy, saved), 0, p.weight * p.inv * (dy - sums / n))


@backward_fault(
    "batchnorm:dx-unbiased-variance",
    "dx divides the variance's term by m - 1; forward divides by m.",
    "Which of the two does forward use: mean of squares, or the unbiased estimate?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    p = _of(saved)
    product = (dy * p.xhat).sum(axis=p.axes, keepdims=True) / (p.m - 1)
    dx = p.weight * p.inv * (dy - dy.mean(axis=p.axes, keepdims=True) - p.xhat * product)
    return replaced(right_backward(dy, saved), 0, dx)


@backward_fault(
    "batchnorm:dx-eps-forgotten",
    "dx divides by sqrt(var), forward by sqrt(var + eps).",
    "Try a large eps, 0.3 say.",
    eps=0.3,
)
def _(dy: Array, saved: Saved) -> Gradients:
    x, weight, _ = saved.inputs
    p = _parts(x, weight, saved.options | {"eps": 0.0})
    product = (dy * p.xhat).mean(axis=p.axes, keepdims=True)
    dx = p.weight * p.inv * (dy - dy.mean(axis=p.axes, keepdims=True) - p.xhat * product)
    return replaced(right_backward(dy, saved), 0, dx)


@backward_fault(
    "batchnorm:dx-variance-not-rooted",
    "dx divides by var + eps where it should divide by its square root.",
    "Double x. By which factor must dx change?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    gradients = right_backward(dy, saved)
    return replaced(gradients, 0, gradients[0] * _of(saved).inv)


# --- dweight and dbias ---------------------------------------------------------------------------------------------


@backward_fault(
    "batchnorm:dweight-from-x", "dweight multiplies dy by x; the gain multiplies xhat.", "y = weight * what?"
)
def _(dy: Array, saved: Saved) -> Gradients:
    p = _of(saved)
    return replaced(right_backward(dy, saved), 1, (dy * saved.inputs[0]).sum(axis=p.axes))


@backward_fault(
    "batchnorm:dweight-from-y",
    "dweight multiplies dy by y; the gain multiplies xhat, before gain and offset.",
    "y = weight * what?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    return replaced(right_backward(dy, saved), 1, (dy * saved.y).sum(axis=_of(saved).axes))


@backward_fault(
    "batchnorm:dweight-mean",
    "dweight is averaged over the channel's values where it should add them up.",
    "How often is one gain used in a batch?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    gradients = right_backward(dy, saved)
    return replaced(gradients, 1, gradients[1] / _of(saved).m)


@backward_fault(
    "batchnorm:dbias-mean",
    "dbias is averaged over the channel's values where it should add them up.",
    "How often is one offset used in a batch?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    gradients = right_backward(dy, saved)
    return replaced(gradients, 2, gradients[2] / _of(saved).m)


@backward_fault(
    "batchnorm:dbias-gain-multiplied",
    "dbias is multiplied by the gain; the offset is added after the gain.",
    "y = weight * xhat + bias: is bias multiplied by anything?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    gradients = right_backward(dy, saved)
    return replaced(gradients, 2, gradients[2] * saved.inputs[1])


@backward_fault(
    "batchnorm:dweight-dbias-swapped",
    "dweight and dbias are returned in the wrong order.",
    "In which order does forward take its inputs?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    dx, dweight, dbias = right_backward(dy, saved)
    return dx, dbias, dweight


# --- forward -------------------------------------------------------------------------------------------------------


@forward_fault(
    "batchnorm:forward-eps-outside-root",
    "forward divides by sqrt(var) + eps; eps belongs under the root.",
    "Try a large eps, 0.3 say.",
    eps=0.3,
)
def _(x: Array, weight: Array, bias: Array, **options: float) -> Array:
    axes = (0, *range(2, x.ndim))
    centered = x - x.mean(axis=axes, keepdims=True)
    return _affine(centered / (x.std(axis=axes, keepdims=True) + options["eps"]), weight, bias)


@forward_fault(
    "batchnorm:forward-unbiased-variance",
    "forward divides the squares by m - 1; batch normalization divides by m.",
    "What is the variance of y, with weight 1 and bias 0?",
)
def _(x: Array, weight: Array, bias: Array, **options: float) -> Array:
    axes = (0, *range(2, x.ndim))
    var = x.var(axis=axes, keepdims=True, ddof=1)
    return _affine((x - x.mean(axis=axes, keepdims=True)) / np.sqrt(var + options["eps"]), weight, bias)


@forward_fault(
    "batchnorm:forward-running-statistics",
    "forward normalizes with running statistics (0 and 1 at the start); in training the batch's own are used.",
    "What is the mean of y over the batch, with weight 1 and bias 0?",
)
def _(x: Array, weight: Array, bias: Array, **options: float) -> Array:
    return _affine(x / np.sqrt(1 + options["eps"]), weight, bias)


@forward_fault(
    "batchnorm:forward-statistics-per-pixel",
    "forward takes mean and variance over the batch only, for every pixel by itself; they run over the pixels too.",
    "How many means does a layer of C channels have?",
    image=True,
)
def _(x: Array, weight: Array, bias: Array, **options: float) -> Array:
    return _affine((x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + options["eps"]), weight, bias)


@forward_fault(
    "batchnorm:forward-statistics-per-sample",
    "forward takes mean and variance over each sample (layer normalization); they run over the batch.",
    "Does y[0] depend on x[1]? Should it?",
)
def _(x: Array, weight: Array, bias: Array, **options: float) -> Array:
    axes = tuple(range(1, x.ndim))
    centered = x - x.mean(axis=axes, keepdims=True)
    return _affine(centered / np.sqrt(x.var(axis=axes, keepdims=True) + options["eps"]), weight, bias)


@forward_fault(
    "batchnorm:forward-not-centered",
    "forward divides by the standard deviation but never takes off the mean.",
    "What is the mean of y, with bias 0?",
)
def _(x: Array, weight: Array, bias: Array, **options: float) -> Array:
    axes = (0, *range(2, x.ndim))
    return _affine(x / np.sqrt(x.var(axis=axes, keepdims=True) + options["eps"]), weight, bias)
