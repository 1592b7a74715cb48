"""Losses: the one-hot, the factor 1/N, the axis of the softmax, and numbers too large for exp."""

from __future__ import annotations

import numpy as np

from minires.backend import Array
from minires.gradcheck.faults.base import Gradients, Saved, backward_fault, forward_fault, right_backward


def _softmax(z: Array, axis: int = 1) -> Array:
    e = np.exp(z - z.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def _one_hot(saved: Saved, shift: int = 0) -> Array:
    logits, labels = saved.inputs[0], np.asarray(saved.options["labels"])
    k = logits.shape[1]
    return np.eye(k)[(labels + shift) % k]


def _log_likelihood(p: Array, labels: Array) -> Array:
    return np.log(p[np.arange(len(p)), labels])


# --- softmax cross-entropy, backward -------------------------------------------------------------------------------


@backward_fault(
    "softmax_cross_entropy:one-hot-forgotten",
    "dlogits is softmax / N; 1 has to be taken off at each sample's label.",
    "What do the dlogits of one sample have to add up to? (Adding a constant to all logits changes nothing.)",
)
def _(dy: Array, saved: Saved) -> Gradients:
    return (dy * _softmax(saved.inputs[0]) / len(saved.inputs[0]),)


@backward_fault(
    "softmax_cross_entropy:whole-label-columns",
    "1 is taken off in whole columns, for every sample, where it belongs to each sample's own label.",
    "What does p[:, labels] pick out? And p[np.arange(N), labels]?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    p = _softmax(saved.inputs[0])
    p[:, np.asarray(saved.options["labels"])] -= 1
    return (dy * p / len(p),)


@backward_fault(
    "softmax_cross_entropy:batch-factor-forgotten",
    "dlogits lacks the factor 1/N of the mean over the batch.",
    "Put every sample into the batch twice: the loss stays. What happens to each dlogits?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    return (right_backward(dy, saved)[0] * len(saved.inputs[0]),)


@backward_fault(
    "softmax_cross_entropy:batch-factor-twice",
    "dlogits is divided by N twice.",
    "Is the loss a sum or a mean, and where is that accounted for?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    return (right_backward(dy, saved)[0] / len(saved.inputs[0]),)


@backward_fault(
    "softmax_cross_entropy:divided-by-classes",
    "dlogits is divided by the number of classes (or all entries); the mean runs over the N samples.",
    "Over how many losses was the mean taken?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    return (right_backward(dy, saved)[0] / saved.inputs[0].shape[1],)


@backward_fault(
    "softmax_cross_entropy:sign",
    "dlogits has the wrong sign: one-hot minus softmax makes the loss grow.",
    "If the logit of the right class grows, does the loss grow or fall?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    return (-right_backward(dy, saved)[0],)


@backward_fault(
    "softmax_cross_entropy:label-off-by-one",
    "1 is taken off at the class after the label.",
    "Do your classes count from 0 or from 1?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    logits = saved.inputs[0]
    return (dy * (_softmax(logits) - _one_hot(saved, 1)) / len(logits),)


@backward_fault(
    "softmax_cross_entropy:softmax-over-batch",
    "the softmax in backward runs over the batch; each sample's K classes have to add up to 1.",
    "Which axis of (N, K) holds the classes?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    logits = saved.inputs[0]
    return (dy * (_softmax(logits, 0) - _one_hot(saved)) / len(logits),)


@backward_fault(
    "softmax_cross_entropy:softmax-derivative-added",
    "dlogits is multiplied by p (1 - p) as well; softmax minus one-hot is the whole derivative already.",
    "Is the derivative of the softmax taken twice?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    p = _softmax(saved.inputs[0])
    return (right_backward(dy, saved)[0] * p * (1 - p),)


@backward_fault(
    "softmax_cross_entropy:label-column-only",
    "only the label's logit gets gradient; the other classes are in the softmax, too.",
    "If the logit of a wrong class grows, does the loss change?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    return (right_backward(dy, saved)[0] * _one_hot(saved),)


# --- softmax cross-entropy, forward --------------------------------------------------------------------------------


@forward_fault(
    "softmax_cross_entropy:forward-softmax-over-everything",
    "the softmax divides by the sum over the whole array; the probabilities of each sample have to add up to 1.",
    "What is p.sum(axis=1)?",
)
def _(logits: Array, labels: Array) -> Array:
    e = np.exp(logits - logits.max())
    return -np.mean(_log_likelihood(e / e.sum(), np.asarray(labels)))


@forward_fault(
    "softmax_cross_entropy:forward-sum",
    "forward adds the samples' losses up; the loss is their mean.",
    "Put every sample into the batch twice. What should happen to the loss?",
)
def _(logits: Array, labels: Array) -> Array:
    return -_log_likelihood(_softmax(logits), labels).sum()


@forward_fault(
    "softmax_cross_entropy:forward-softmax-over-batch",
    "forward takes the softmax over the batch; each sample's K classes have to add up to 1.",
    "Which axis of (N, K) holds the classes?",
)
def _(logits: Array, labels: Array) -> Array:
    return -_log_likelihood(_softmax(logits, 0), labels).mean()


@forward_fault(
    "softmax_cross_entropy:forward-logarithm-forgotten",
    "forward averages 1 - p instead of -log p.",
    "What is the loss of a sample whose right class has probability 0?",
)
def _(logits: Array, labels: Array) -> Array:
    return (1 - _softmax(logits)[np.arange(len(logits)), labels]).mean()


@forward_fault(
    "softmax_cross_entropy:forward-unstable",
    "forward overflows for large logits: exp(1000) is infinite. Take the largest logit off first.",
    "Add 1000 to all logits. Should the loss change?",
    rule="not finite for large inputs",
)
def _(logits: Array, labels: Array) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        e = np.exp(logits)
        return -_log_likelihood(e / e.sum(axis=1, keepdims=True), labels).mean()


@forward_fault(
    "softmax_cross_entropy:forward-largest-of-wrong-axis",
    "the largest logit is taken over the batch and left in: it changes between classes and does not cancel.",
    "Which number may you take off all logits of a sample without changing its softmax?",
)
def _(logits: Array, labels: Array) -> Array:
    return -_log_likelihood(_softmax(logits - logits.max(axis=0, keepdims=True)), labels).mean()


# --- mean squared error --------------------------------------------------------------------------------------------


@backward_fault(
    "mse:two-forgotten", "the factor 2 of the derivative of a square is missing.", "What is the derivative of d^2?"
)
def _(dy: Array, saved: Saved) -> Gradients:
    return (right_backward(dy, saved)[0] / 2,)


@backward_fault(
    "mse:mean-forgotten",
    "dprediction is not divided by the number of entries; the loss is a mean.",
    "If one entry's error grows, which fraction of that arrives in the mean?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    return (right_backward(dy, saved)[0] * saved.inputs[0].size,)


@backward_fault(
    "mse:divided-by-batch-only",
    "dprediction is divided by the batch size; the mean runs over all entries.",
    "Over how many squares was the mean taken?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    x = saved.inputs[0]
    return (right_backward(dy, saved)[0] * x.size / len(x),)


@backward_fault(
    "mse:sign",
    "dprediction has the wrong sign: it is target minus prediction.",
    "If a prediction that is too large grows, does the loss grow or fall?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    return (-right_backward(dy, saved)[0],)


@backward_fault(
    "mse:target-forgotten",
    "dprediction is computed from the prediction alone.",
    "What is the gradient where the prediction is right?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    x = saved.inputs[0]
    return (2 * dy * x / x.size,)


@forward_fault(
    "mse:forward-half",
    "forward halves the loss; here it is the plain mean of squares.",
    "What is the loss if every prediction is off by 1?",
)
def _(prediction: Array, target: Array) -> Array:
    return 0.5 * ((prediction - target) ** 2).mean()


@forward_fault(
    "mse:forward-absolute",
    "forward averages absolute differences instead of squares.",
    "What is the loss if every prediction is off by 2?",
)
def _(prediction: Array, target: Array) -> Array:
    return np.abs(prediction - target).mean()
