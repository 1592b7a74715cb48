"""Activations and dropout: gates from the wrong array, derivatives of the wrong variable, arrays changed in place."""

from __future__ import annotations

import numpy as np

from minires.backend import Array
from minires.gradcheck.faults.base import Gradients, Saved, backward_fault, forward_fault

# --- relu ----------------------------------------------------------------------------------------------------------


@backward_fault(
    "relu:gate-from-dy",
    "the gate looks at the sign of dy; it has to look at the sign of x.",
    "What decides whether a unit is on: what came in, or what comes back?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    return (dy * (dy > 0),)


@backward_fault(
    "relu:gate-missing",
    "dx is dy: units that are off pass the gradient on as well.",
    "A unit with x = -1: how does the loss change if x grows a little?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    return (dy.copy(),)


@backward_fault(
    "relu:gate-inverted",
    "the gate is the wrong way round: gradient passes where x is negative.",
    "Which units passed the signal on in forward?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    return (dy * (saved.inputs[0] <= 0),)


@backward_fault(
    "relu:multiplied-by-output",
    "dx is dy times y; it should be dy times 1 where y > 0.",
    "What is the slope of max(x, 0) at x = 3?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    return (dy * saved.y,)


@backward_fault(
    "relu:gate-of-first-sample",
    "the first sample's gate is used for the whole batch.",
    "What shape has the mask you kept?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    return (dy * (saved.inputs[0][:1] > 0),)


@backward_fault(
    "relu:dy-in-place",
    "backward writes into dy. The same array may serve a shortcut, which is then corrupted.",
    "Compare dy before and after your call.",
    rule="dy changed",
)
def _(dy: Array, saved: Saved) -> Gradients:
    dy[saved.inputs[0] <= 0] = 0
    return (dy,)


@forward_fault(
    "relu:input-in-place",
    "forward writes into x. Whoever else uses x, a shortcut say, finds it changed.",
    "Compare x before and after your call.",
    rule="input changed",
)
def _(x: Array) -> Array:
    x[x < 0] = 0
    return x


@forward_fault("relu:forward-absolute-value", "forward returns |x|.", "What is relu(-1)?")
def _(x: Array) -> Array:
    return np.abs(x)


# --- leaky relu ----------------------------------------------------------------------------------------------------


@backward_fault(
    "leaky_relu:slope-forgotten",
    "backward is that of a plain ReLU: where x is negative, slope * dy has to pass.",
    "What is the slope of y at x = -1?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    return (dy * (saved.inputs[0] > 0),)


@backward_fault(
    "leaky_relu:slope-on-wrong-side",
    "the slope is applied where x is positive.",
    "What is the slope of y at x = 1, and at x = -1?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    return (np.where(saved.inputs[0] > 0, dy * saved.options["slope"], dy),)


@backward_fault(
    "leaky_relu:slope-everywhere",
    "the slope is applied to all units, also to those with x > 0.",
    "What is the slope of y at x = 1?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    return (dy * saved.options["slope"],)


@backward_fault(
    "leaky_relu:gate-from-dy",
    "the gate looks at the sign of dy; it has to look at the sign of x.",
    "What decides which side a unit is on: what came in, or what comes back?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    return (np.where(dy > 0, dy, dy * saved.options["slope"]),)


@forward_fault(
    "leaky_relu:forward-slope-forgotten",
    "forward is a plain ReLU: negative inputs give 0 instead of slope * x.",
    "What should y be at x = -1?",
)
def _(x: Array, slope: float) -> Array:
    return np.maximum(x, 0)


@forward_fault(
    "leaky_relu:forward-slope-default",
    "forward uses the slope 0.01 whatever slope it is given.",
    "Is the argument used?",
)
def _(x: Array, slope: float) -> Array:
    return np.where(x > 0, x, 0.01 * x)


# --- tanh and sigmoid ----------------------------------------------------------------------------------------------


@backward_fault(
    "tanh:derivative-in-x",
    "1 - x^2 is used; the derivative is 1 - y^2, with y the output.",
    "Of which variable is 1 - (.)^2 the derivative?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    return (dy * (1 - saved.inputs[0] ** 2),)


@backward_fault(
    "tanh:tanh-twice", "tanh is applied to y once more; y is tanh(x) already.", "What is in the cache: x or tanh(x)?"
)
def _(dy: Array, saved: Saved) -> Gradients:
    return (dy * (1 - np.tanh(saved.y) ** 2),)


@backward_fault(
    "tanh:square-forgotten",
    "1 - y is used; the derivative is 1 - y^2.",
    "The slope of tanh is the same at x = 1 and x = -1. Is yours?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    return (dy * (1 - saved.y),)


@backward_fault(
    "tanh:upstream-ignored",
    "backward returns the slope without multiplying it by dy.",
    "The chain rule has two factors. Where is the second?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    return (1 - saved.y**2,)


@forward_fault(
    "tanh:forward-unstable",
    "forward overflows for large inputs: exp(x) / exp(x) is inf / inf = NaN.",
    "Try x = 1000.",
    rule="not finite for large inputs",
)
def _(x: Array) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        return (np.exp(x) - np.exp(-x)) / (np.exp(x) + np.exp(-x))


@backward_fault(
    "sigmoid:derivative-in-x",
    "x (1 - x) is used; the derivative is y (1 - y), with y the output.",
    "Of which variable is (.) (1 - (.)) the derivative?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    x = saved.inputs[0]
    return (dy * x * (1 - x),)


@backward_fault(
    "sigmoid:sigmoid-twice",
    "sigmoid is applied to y once more; y is sigmoid(x) already.",
    "What is in the cache: x or sigmoid(x)?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    twice = 1 / (1 + np.exp(-saved.y))
    return (dy * twice * (1 - twice),)


@backward_fault(
    "sigmoid:factor-forgotten",
    "the derivative is y (1 - y); one of the two factors is missing.",
    "How large is the slope of sigmoid for a very large x?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    return (dy * saved.y,)


@backward_fault(
    "sigmoid:tanh-derivative",
    "1 - y^2 is used; that is the derivative of tanh.",
    "The slope of sigmoid at 0 is 1/4. What is yours?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    return (dy * (1 - saved.y**2),)


@forward_fault(
    "sigmoid:forward-sign", "forward computes 1 / (1 + exp(x)): a falling function.", "What should sigmoid(1000) be?"
)
def _(x: Array) -> Array:
    return 1 / (1 + np.exp(x))


# --- dropout -------------------------------------------------------------------------------------------------------


@backward_fault(
    "dropout:backward-mask-forgotten",
    "backward lets gradient through the units that were dropped.",
    "A dropped unit: how does the loss change if its x grows?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    return (dy / (1 - saved.options["p"]),)


@backward_fault(
    "dropout:backward-scale-forgotten",
    "backward uses the mask but not the factor 1 / (1 - p) of forward.",
    "What did forward multiply the kept units by?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    return (dy * saved.options["mask"],)


@backward_fault(
    "dropout:backward-new-mask",
    "backward draws a mask of its own; it has to use forward's.",
    "What does the cache have to hold?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    p = saved.options["p"]
    return (dy * (np.random.default_rng(1).random(dy.shape) >= p) / (1 - p),)


@forward_fault(
    "dropout:forward-scale-forgotten",
    "forward drops units but does not scale the others up, so the mean of y shrinks.",
    "What is the expected value of y?",
)
def _(x: Array, p: float, mask: Array) -> Array:
    return x * mask


@forward_fault(
    "dropout:forward-scaled-by-p",
    "forward divides by p, the probability of dropping; the kept units are divided by 1 - p.",
    "With p close to 0, what should y be?",
)
def _(x: Array, p: float, mask: Array) -> Array:
    return x * mask / p
