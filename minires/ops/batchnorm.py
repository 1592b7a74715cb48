"""Batch normalization (Ioffe, Szegedy 2015, arXiv:1502.03167).

Each channel is normalized over its m = N*H*W values, then given a gain and an offset of its own:

    mean = sum of x / m      var = sum of (x - mean)^2 / m      inv = (var + eps)^(-1/2)
    xhat = (x - mean) * inv      y = weight * xhat + bias

Backward. With the sums running over the m values of a channel,

    dbias = sum of dy        dweight = sum of dy * xhat

x acts on y along three paths: directly, through mean and through var. Along xhat = (x - mean) * inv,

    dxhat_j/dx_i = inv * (delta_ij - 1/m - xhat_i xhat_j / m)

(the -1/m because every x_i moves the mean; the last term because d inv/dx_i = -inv^2 * xhat_i / m). With the gradient
at xhat, g = weight * dy,

    dx = inv * (g - mean of g - xhat * mean of (g * xhat))
       = weight * inv * (dy - dbias/m - xhat * dweight/m)

With given statistics (inference) mean and var do not depend on x. Only the direct path is left: dx = weight * inv * dy.
"""

from types import ModuleType
from typing import NamedTuple

import numpy as np

from minires.backend import Array
from minires.checks import cache_of, check_batchnorm, check_number, check_upstream
from minires.ops.window import channels_last


class BatchNormCache(NamedTuple):
    xhat: Array
    """(N, pixels, C), like everything below that has no fewer axes."""
    weight: Array
    inv: Array
    mean: Array
    var: Array
    trained: bool
    """Whether mean and var were taken from x, so that dx has to account for them."""
    x_shape: tuple[int, ...]


def batchnorm_forward(
    x: Array, weight: Array, bias: Array, *, eps: float = 1e-5, mean: Array | None = None, var: Array | None = None
) -> tuple[Array, BatchNormCache]:
    """x (N, C, H, W) or (N, C), weight (gain) and bias (offset) (C,) -> y, cache.

    Without `mean` and `var` the batch's own are used (training). cache.mean and cache.var (C,) hold them; var is the
    biased one. With both given, (C,) each, those are used (inference).

    Raises TypeError for dtypes, ValueError for shapes, for one statistic without the other, for a batch with a
    single value per channel (its variance is 0 whatever x is), and for eps < 0.
    """
    xp, trained = check_batchnorm(x, weight, bias, mean, var), mean is None
    eps, values = check_number("eps", eps, 0), by_channel(xp, x)
    m = values[..., 0].size
    if trained:
        mean = channel_sum(values) / m
        mean += channel_sum(values - mean) / m  # what rounding has left over
    centered = values - mean
    if trained:
        var = channel_sum(centered**2) / m
    inv = 1 / xp.sqrt(var + eps)
    xhat = centered * inv
    y = xhat * weight + bias
    return as_images(y, x.shape), BatchNormCache(xhat, weight, inv, mean, var, trained, x.shape)


def batchnorm_backward(dy: Array, cache: BatchNormCache) -> tuple[Array, Array, Array]:
    """dy like x -> dx like x, dweight (C,), dbias (C,)."""
    xhat, weight, inv, _, _, trained, x_shape = cache_of(cache, BatchNormCache)
    dy = by_channel(check_upstream(dy, x_shape, xhat), dy)
    m = dy[..., 0].size
    dweight, dbias = channel_sum(dy * xhat), channel_sum(dy)
    through_mean, through_var = (dbias / m, xhat * (dweight / m)) if trained else (0, 0)
    return as_images((dy - through_mean - through_var) * (weight * inv), x_shape), dweight, dbias


def by_channel(xp: ModuleType, x: Array) -> Array:
    """x (N, C, H, W) -> (N, H*W, C), x (N, C) -> (N, 1, C): a number per channel, (C,), now fits by broadcasting."""
    return x[:, None] if x.ndim == 2 else channels_last(xp, x).reshape(len(x), -1, x.shape[1])


def as_images(values: Array, shape: tuple[int, ...]) -> Array:
    """The way back from `by_channel`."""
    return values[:, 0] if len(shape) == 2 else values.reshape(len(values), *shape[2:], -1).transpose(0, 3, 1, 2)


def channel_sum(values: Array) -> Array:
    """(N, pixels, C) -> (C,). Added up in float64: a float32 sum of a million numbers would lose half of its digits."""
    return values.sum(axis=0, dtype=np.result_type(values.dtype, np.float64)).sum(axis=0).astype(values.dtype)
