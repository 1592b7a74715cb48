"""The fully connected layer: transposes, sums over the batch, and what was kept for backward."""

from __future__ import annotations

import numpy as np

from minires.backend import Array
from minires.gradcheck.faults.base import (
    CATALOGUE,
    Fault,
    Gradients,
    Saved,
    backward_fault,
    forward_fault,
    replaced,
    right_backward,
    right_forward,
)


@backward_fault(
    "linear:dx-weight-transposed",
    "dx multiplies by weight.T where it needs weight; it goes unnoticed for a square weight.",
    "dy is (N, out) and dx is (N, in). Which way round does weight (out, in) fit between them?",
    square=True,
)
def _(dy: Array, saved: Saved) -> Gradients:
    return replaced(right_backward(dy, saved), 0, dy @ saved.inputs[1].T)


@backward_fault(
    "linear:dweight-transposed",
    "dweight comes out transposed: (in, out) instead of (out, in).",
    "Compare dweight.shape with weight.shape, for a layer that is not square.",
)
def _(dy: Array, saved: Saved) -> Gradients:
    return replaced(right_backward(dy, saved), 1, saved.inputs[0].T @ dy)


@backward_fault(
    "linear:dweight-batch-mean",
    "dweight is divided by the batch size; dy carries that factor already.",
    "Who divides by N: the loss, or every layer below it?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    gradients = right_backward(dy, saved)
    return replaced(gradients, 1, gradients[1] / len(dy))


@backward_fault(
    "linear:dweight-doubled",
    "dweight is twice what it should be: it is added twice, or a factor 2 came in.",
    "Count how often dweight is added to.",
)
def _(dy: Array, saved: Saved) -> Gradients:
    gradients = right_backward(dy, saved)
    return replaced(gradients, 1, 2 * gradients[1])


@backward_fault(
    "linear:dweight-from-first-sample",
    "dweight is the outer product of the first sample only.",
    "dy.T @ x adds something up. Over which axis?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    return replaced(right_backward(dy, saved), 1, np.outer(dy[0], saved.inputs[0][0]))


@backward_fault(
    "linear:dbias-mean",
    "dbias is the mean of dy over the batch; the bias was added to every sample, so their gradients add up.",
    "How often is one bias used in one batch?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    return replaced(right_backward(dy, saved), 2, dy.mean(axis=0))


@backward_fault(
    "linear:dbias-not-summed",
    "dbias is dy itself, one row for each sample: it was not summed over the batch.",
    "Compare dbias.shape with bias.shape.",
)
def _(dy: Array, saved: Saved) -> Gradients:
    return replaced(right_backward(dy, saved), 2, dy.copy())


@backward_fault(
    "linear:dbias-wrong-axis",
    "dbias is summed over the features and kept for each sample; it goes unnoticed where N = out_features.",
    "Choose a batch size that differs from out_features. What shape has dbias now?",
    batch_is_out=True,
)
def _(dy: Array, saved: Saved) -> Gradients:
    return replaced(right_backward(dy, saved), 2, dy.sum(axis=1))


@backward_fault(
    "linear:dbias-forgotten",
    "dbias is all zeros: the bias never learns.",
    "y = x @ weight.T + bias. What is the derivative of y with respect to bias?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    gradients = right_backward(dy, saved)
    return replaced(gradients, 2, np.zeros_like(gradients[2]))


@backward_fault(
    "linear:dx-float32",
    "backward computes in float32 although dy is float64.",
    "Look for astype, np.float32 and for arrays made without dtype=dy.dtype.",
)
def _(dy: Array, saved: Saved) -> Gradients:
    product = dy.astype(np.float32) @ saved.inputs[1].astype(np.float32)
    return replaced(right_backward(dy, saved), 0, product.astype(dy.dtype))


@forward_fault(
    "linear:forward-weight-not-transposed",
    "forward computes x @ weight where weight (out, in) asks for x @ weight.T.",
    "Try a layer whose number of inputs differs from its number of outputs.",
    square=True,
)
def _(x: Array, weight: Array, bias: Array) -> Array:
    return x @ weight + bias


@forward_fault("linear:forward-bias-forgotten", "forward never adds the bias.", "Set weight to 0. What should y be?")
def _(x: Array, weight: Array, bias: Array) -> Array:
    return x @ weight.T


_kept: dict[str, Saved] = {}


def _keep_in_one_place(*inputs: Array) -> tuple[Array, Saved]:
    y, saved = right_forward("linear", inputs, {})
    _kept["last"] = saved
    return y, saved


def _use_the_last_one(dy: Array, saved: Saved) -> Gradients:
    return right_backward(dy, _kept["last"])


CATALOGUE["linear:cache-of-last-call"] = Fault(
    "linear:cache-of-last-call",
    "linear",
    "backward uses what the last forward call left behind, not the cache it is given.",
    "Call forward twice, then backward with the first cache. Is there a global, or an attribute?",
    _keep_in_one_place,
    _use_the_last_one,
    rule="cache of the last call",
)
