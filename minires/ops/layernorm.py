"""Layer normalization (Ba, Kiros, Hinton 2016, arXiv:1607.06450): BatchNorm's formula, sample by sample.

BatchNorm takes mean and variance of a channel over the batch. LayerNorm takes them of a sample over its m features, so
that neither the other samples nor a running average matter, and training and evaluation are the same:

    mean = sum of x / m      var = sum of (x - mean)^2 / m      inv = (var + eps)^(-1/2)
    xhat = (x - mean) * inv      y = weight * xhat + bias         weight and bias: one number for each feature

Backward. xhat depends on x along the same three paths as in `batchnorm.py`. The gains are not those of a whole row now,
so they stay inside the means: with g = weight * dy, the gradient at xhat,

    dx = inv * (g - mean of g - xhat * mean of (g * xhat))        means over the m features of a sample
    dweight = sum of dy * xhat      dbias = sum of dy             sums over the samples

`groupnorm.py` is the same with the features of one group of channels in place of all.
"""

from types import ModuleType
from typing import NamedTuple

import numpy as np

from minires.backend import Array
from minires.checks import cache_of, check_arrays, check_normalized_shape, check_number, check_upstream
from minires.ops.window import channels_last_memory


class LayerNormCache(NamedTuple):
    xhat: Array
    weight: Array
    inv: Array


def layernorm_forward(x: Array, weight: Array, bias: Array, *, eps: float = 1e-5) -> tuple[Array, LayerNormCache]:
    """x (N, ..., features), weight (gain) and bias (offset) of the shape of x's last axes, which are normalized
    -> y, cache. As in PyTorch, weight (H, W) normalizes the last two axes, weight (C, H, W) all but the first.

    Raises TypeError for dtypes, ValueError for shapes, and for eps < 0.
    """
    xp = check_arrays(x=x, weight=weight, bias=bias)
    check_normalized_shape(x, weight, bias)
    xhat, inv = normalize(xp, x, weight.ndim, check_number("eps", eps, 0))
    return channels_last_memory(xp, xhat * weight + bias), LayerNormCache(xhat, weight, inv)


def layernorm_backward(dy: Array, cache: LayerNormCache) -> tuple[Array, Array, Array]:
    """dy like x -> dx like x, dweight and dbias like weight."""
    xhat, weight, inv = cache_of(cache, LayerNormCache)
    xp = check_upstream(dy, xhat.shape, xhat)
    samples = tuple(range(dy.ndim - weight.ndim))
    dx = normalize_backward(dy * weight, xhat, inv, weight.ndim)
    return channels_last_memory(xp, dx), (dy * xhat).sum(axis=samples), dy.sum(axis=samples)


def normalize(xp: ModuleType, x: Array, axes: int, eps: float) -> tuple[Array, Array]:
    """xhat like x, and inv with ones in place of the last `axes` axes, over which mean and variance are taken."""
    last = tuple(range(-axes, 0))
    centered = x - mean(x, last)
    inv = 1 / xp.sqrt(mean(centered * centered, last) + eps)
    return centered * inv, inv


def normalize_backward(g: Array, xhat: Array, inv: Array, axes: int) -> Array:
    """g, the gradient at xhat -> the gradient at x."""
    last = tuple(range(-axes, 0))
    return inv * (g - mean(g, last) - xhat * mean(g * xhat, last))


def mean(x: Array, axes: tuple[int, ...]) -> Array:
    """Over `axes`, which stay with length 1. Added up in float64, as in `batchnorm.py`."""
    return x.mean(axis=axes, dtype=np.result_type(x.dtype, np.float64), keepdims=True).astype(x.dtype)
