"""Where paths meet: a residual block's shortcut, and a weight that is used twice."""

from __future__ import annotations

import numpy as np

from minires.backend import Array
from minires.gradcheck.faults.base import Gradients, Saved, backward_fault, forward_fault, replaced, right_backward


@backward_fault(
    "residual:shortcut-forgotten",
    "dx is the branch's gradient only; x also reaches y by the shortcut.",
    "Set both weights to 0: y = x. What is dx?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    gradients = right_backward(dy, saved)
    return replaced(gradients, 0, gradients[0] - dy)


@backward_fault(
    "residual:shortcut-twice", "the shortcut's gradient is counted twice.", "Set both weights to 0: y = x. What is dx?"
)
def _(dy: Array, saved: Saved) -> Gradients:
    gradients = right_backward(dy, saved)
    return replaced(gradients, 0, gradients[0] + dy)


@backward_fault(
    "residual:branch-forgotten", "dx is dy: only the shortcut's gradient arrives.", "By how many ways does x reach y?"
)
def _(dy: Array, saved: Saved) -> Gradients:
    return replaced(right_backward(dy, saved), 0, dy.copy())


@backward_fault(
    "residual:relu-corrupts-shortcut",
    "the branch's ReLU wrote into an array that the shortcut still needed: the gate was applied to both.",
    "Which arrays does the branch change on its way back?",
    square=True,
)
def _(dy: Array, saved: Saved) -> Gradients:
    x, weight1, _ = saved.inputs
    gradients = right_backward(dy, saved)
    gate = x @ weight1.T > 0
    return replaced(gradients, 0, gradients[0] - dy + dy * gate)


@backward_fault(
    "residual:gate-forgotten",
    "the branch's gradient skips the ReLU between its two weights.",
    "Walk the branch back step by step: weight2, then what, then weight1?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    x, weight1, weight2 = saved.inputs
    dz = dy @ weight2
    return dy + dz @ weight1, dz.T @ x, right_backward(dy, saved)[2]


@forward_fault(
    "residual:forward-shortcut-forgotten",
    "forward returns the branch without adding x.",
    "Set both weights to 0. What should y be?",
)
def _(x: Array, weight1: Array, weight2: Array) -> Array:
    return np.maximum(x @ weight1.T, 0) @ weight2.T


@backward_fault(
    "shared_linear:first-use-only",
    "dweight holds the share of the first use of the weight; the last one computed overwrote the other.",
    "The weight is used twice. Is there = where += is meant?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    x, weight = saved.inputs
    hidden = x @ weight.T
    dhidden = (dy @ weight) * (hidden > 0)
    return replaced(right_backward(dy, saved), 1, dhidden.T @ x)


@backward_fault(
    "shared_linear:second-use-only",
    "dweight holds the share of the second use of the weight only.",
    "The weight is used twice. Do both uses send a gradient?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    x, weight = saved.inputs
    return replaced(right_backward(dy, saved), 1, dy.T @ np.maximum(x @ weight.T, 0))


@backward_fault(
    "shared_linear:mean-of-uses",
    "the two shares of dweight are averaged; gradients of several uses add up.",
    "If a weight is used twice, does a small change of it act once or twice?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    gradients = right_backward(dy, saved)
    return replaced(gradients, 1, gradients[1] / 2)
