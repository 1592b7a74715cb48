"""Softmax: K numbers into K probabilities.

    y[n, k] = exp(x[n, k]) / sum over j of exp(x[n, j])

Taking a constant off all x of a sample changes nothing, so the largest one is taken off: no exponential overflows.

Backward. dy_k/dx_j = y_k (delta_kj - y_j), hence

    dx[n, j] = y[n, j] * (dy[n, j] - sum over k of dy[n, k] y[n, k])

For training take `softmax_cross_entropy_forward` (`loss.py`): the logarithm of a probability that has underflowed to 0
is minus infinity, the logarithm of a softmax is not.
"""

from minires.backend import Array
from minires.checks import cache_of, check_arrays, check_axes, check_upstream


def softmax_forward(x: Array) -> tuple[Array, Array]:
    """x (N, K) -> y (N, K), each row adding up to 1; cache (which is y)."""
    xp = check_arrays(x=x)
    check_axes("x", x, "N, K")
    exponentials = xp.exp(x - x.real.max(axis=1, keepdims=True))
    y = exponentials / exponentials.sum(axis=1, keepdims=True)
    return y, y


def softmax_backward(dy: Array, cache: Array) -> Array:
    """dy (N, K) -> dx (N, K)."""
    check_upstream(dy, cache_of(cache).shape, cache)
    return cache * (dy - (dy * cache).sum(axis=1, keepdims=True))
