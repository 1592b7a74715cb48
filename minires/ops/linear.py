"""The fully connected layer.

    y = x @ weight.T + bias          x (N, in), weight (out, in), bias (out,), y (N, out)

Backward. y[n, o] = sum over i of x[n, i] weight[o, i] + bias[o], so each of the three is a product with dy again:

    dx[n, i] = sum over o of dy[n, o] weight[o, i]          dx = dy @ weight
    dweight[o, i] = sum over n of dy[n, o] x[n, i]          dweight = dy.T @ x
    dbias[o] = sum over n of dy[n, o]
"""

from typing import NamedTuple

from minires.backend import Array
from minires.checks import cache_of, check_arrays, check_axes, check_shape, check_upstream


class LinearCache(NamedTuple):
    x: Array
    weight: Array
    has_bias: bool


def linear_forward(x: Array, weight: Array, bias: Array | None = None) -> tuple[Array, LinearCache]:
    """x (N, in), weight (out, in), bias (out,) or None -> y (N, out), cache.

    Raises TypeError for dtypes that differ or cannot be computed in, ValueError for shapes that do not fit.
    """
    check_arrays({"bias": bias}, x=x, weight=weight)
    check_axes("x", x, "N, in_features")
    check_axes("weight", weight, "out_features, in_features")
    check_shape("weight", weight, (weight.shape[0], x.shape[1]), f"since x has {x.shape[1]} features")
    y = x @ weight.T
    if bias is not None:
        check_shape("bias", bias, weight.shape[:1], f"since weight has {weight.shape[0]} output features")
        y += bias
    return y, LinearCache(x, weight, bias is not None)


def linear_backward(dy: Array, cache: LinearCache) -> tuple[Array, Array, Array | None]:
    """dy (N, out) -> dx (N, in), dweight (out, in), dbias (out,) or None."""
    x, weight, has_bias = cache_of(cache, LinearCache)
    check_upstream(dy, (len(x), len(weight)), x)
    return dy @ weight, dy.T @ x, dy.sum(axis=0) if has_bias else None
