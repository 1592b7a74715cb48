"""Losses: one number for a batch, and where its gradient starts.

Softmax cross-entropy, with N samples, K classes, logits z and p = softmax(z):

    p[n, k] = exp(z[n, k]) / sum over j of exp(z[n, j])          loss = -1/N * sum over n of log p[n, label_n]

Since log p[n, k] = z[n, k] - log sum_j exp(z[n, j]), and the derivative of that log is p again,

    dloss/dz[n, k] = (p[n, k] - 1{k = label_n}) / N

exp overflows for large z, but p does not change when a constant is taken off all logits of a sample; with the
largest one taken off, every exponent is <= 0 and the largest is 0.

Mean squared error:  loss = mean of (prediction - target)^2,  dprediction = 2 (prediction - target) / size.
"""

from typing import NamedTuple

from minires.backend import Array
from minires.checks import cache_of, check_arrays, check_axes, check_labels, check_loss_upstream, check_shape


class CrossEntropyCache(NamedTuple):
    probabilities: Array
    one_hot: Array


def softmax_cross_entropy_forward(logits: Array, labels: Array) -> tuple[Array, CrossEntropyCache]:
    """logits (N, K), labels (N,) integers in 0..K-1 -> mean loss (an array without axes), cache.

    Raises TypeError for labels that are not integers, ValueError for shapes or a label out of range. (On a GPU the
    range is not checked, since that would wait for the device. The loss is then NaN.)
    """
    xp = check_arrays(logits=logits)
    check_axes("logits", logits, "N, K")
    labels, (_, k) = check_labels(labels, logits), logits.shape
    one_hot = xp.asarray(labels)[:, None] == xp.arange(k)
    shifted = logits - logits.real.max(axis=1, keepdims=True)
    exponentials = xp.exp(shifted)
    total = exponentials.sum(axis=1, keepdims=True)
    log_p = xp.where(one_hot, shifted - xp.log(total), 0).sum(axis=1)
    log_p = xp.where(one_hot.any(axis=1), log_p, xp.nan)
    return -log_p.mean(), CrossEntropyCache(exponentials / total, one_hot)


def softmax_cross_entropy_backward(dy: Array | float, cache: CrossEntropyCache) -> Array:
    """dy: the gradient of the loss itself, 1.0 as a rule -> dlogits (N, K)."""
    dy = check_loss_upstream(dy, cache_of(cache, CrossEntropyCache).probabilities)
    return (cache.probabilities - cache.one_hot) * (dy / len(cache.probabilities))


def mse_forward(prediction: Array, target: Array) -> tuple[Array, Array]:
    """prediction and target of one shape -> mean loss (an array without axes), cache (the difference)."""
    check_arrays(prediction=prediction, target=target)
    check_shape("target", target, prediction.shape, "the shape of prediction")
    if prediction.size == 0:
        raise ValueError(f"prediction has shape {prediction.shape}; expected at least one number")
    difference = prediction - target
    return (difference * difference).mean(), difference


def mse_backward(dy: Array | float, cache: Array) -> Array:
    """dy: the gradient of the loss itself, 1.0 as a rule -> dprediction."""
    return cache * (2 * check_loss_upstream(dy, cache_of(cache)) / cache.size)
