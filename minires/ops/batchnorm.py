"""Batch normalization (Ioffe, Szegedy 2015, arXiv:1502.03167).

Each channel is normalized over its m = N*H*W values, then given a gain and an offset of its own:

    mean = sum of x / m      var = sum of (x - mean)^2 / m      inv = (var + eps)^(-1/2)
    xhat = (x - mean) * inv      y = weight * xhat + bias

Backward. With g = weight * dy for the gradient at xhat, the sums running over the m values of a channel:

    dbias = sum of dy        dweight = sum of dy * xhat

x acts on y in three ways: directly, through mean and through var. Along xhat = (x - mean) * inv,

    dxhat_j/dx_i = inv * (delta_ij - 1/m - xhat_i xhat_j / m)

(the first -1/m because every x_i moves the mean; the last term because d inv/dx_i = -inv^2 * xhat_i / m). Hence

    dx = inv * (g - mean of g - xhat * mean of (g * xhat))
       = weight * inv * (dy - dbias/m - xhat * dweight/m)

With given statistics (inference) mean and var do not depend on x, and only dx = weight * inv * dy is left.

How it is computed (`channels.py` has the loops). mean and var come from one pass over x: with d = x - s for any shift
s,

    mean = s + (sum of d) / m      var = (sum of d^2) / m - (mean - s)^2

(Chan, Golub, LeVeque 1983, "Algorithms for computing the sample variance", section 3). With s = 0 the difference may
lose every digit. For s we take the mean of the middle line of every image. They are a fraction f = 1/H of all values,
so (mean - s)^2 <= (1/f - 1) * var whatever the values are: at worst, the rounding error of the sums counts H times.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import NamedTuple

from minires.backend import Array
from minires.checks import check_arrays, check_number, check_shape, check_upstream
from minires.ops.channels import affine, column_sums, lines, sums, tiled
from minires.ops.layout import channels_last_memory


class BatchNormCache(NamedTuple):
    x: Array
    weight: Array
    mean: Array
    var: Array
    eps: float
    trained: bool
    """Whether mean and var were taken from x, so that dx has to account for them."""


def batchnorm_forward(
    x: Array,
    weight: Array,
    bias: Array,
    *,
    eps: float = 1e-5,
    mean: Array | None = None,
    var: Array | None = None,
    finish: Callable[[slice, Array], None] | None = None,
) -> tuple[Array, BatchNormCache]:
    """x (N, C, H, W) or (N, C), weight (gain) and bias (offset) (C,) -> y, cache.

    Without `mean` and `var` the batch's own are used (training); cache.mean and cache.var hold them, var being the
    biased one. With both given, (C,) each, those are used (inference).
    finish(part, y[part]) may change each piece of the rows of y while it is in the cache: see `batchnorm_relu.py`.

    Raises TypeError for dtypes, ValueError for shapes, for one statistic without the other, for a batch with a
    single value per channel (its variance is 0 whatever x is), and for eps < 0.
    """
    xp = check_batchnorm(x, weight, bias, mean, var)
    x, eps, trained = channels_last_memory(xp, x), check_number("eps", eps, 0), mean is None
    if trained:
        mean, var = moments(xp, x)
    scale = weight / xp.sqrt(var + eps)
    y = affine(xp, bias - mean * scale, (x, scale), finish=finish)
    return y, BatchNormCache(x, weight, mean, var, eps, trained)


def batchnorm_backward(
    dy: Array, cache: BatchNormCache, *, start: Callable[[slice], None] | None = None
) -> tuple[Array, Array, Array]:
    """dy like x -> dx like x, dweight (C,), dbias (C,).

    start(part) may fill in each piece of the rows of a dy that is channels-last in memory: see `batchnorm_relu.py`.
    """
    x, weight, mean, var, eps, trained = cache
    xp = check_upstream(dy, x.shape, x)
    dy, m, inv = channels_last_memory(xp, dy), x.size // x.shape[1], 1 / xp.sqrt(var + eps)
    dbias, products = sums(xp, x, mean, dy, start)
    dweight = products * inv
    if not trained:
        return affine(xp, xp.zeros_like(dbias), (dy, weight * inv)), dweight, dbias
    # weight * inv * (dy - dbias/m - xhat * dweight/m), sorted by dy, x and the rest
    slope = -weight * inv * inv * dweight / m
    dx = affine(xp, -weight * inv * dbias / m - slope * mean, (dy, weight * inv), (x, slope))
    return dx, dweight, dbias


def moments(xp: ModuleType, x: Array) -> tuple[Array, Array]:
    """Mean and biased variance of each channel: (C,) and (C,)."""
    c, height = x.shape[1], 1 if x.ndim == 2 else x.shape[2]
    m, middle = x.size // c, lines(x)[height // 2 :: height]
    first = middle[0, :c]  # differences from it: a channel that is constant has a variance of 0, not of rounding errors
    away = column_sums(xp, middle - tiled(first, middle)).reshape(-1, c).sum(axis=0)
    total, squares = sums(xp, x, shift := first + away * (c / middle.size))
    return shift + total / m, squares / m - (total / m) ** 2


def check_batchnorm(x: Array, weight: Array, bias: Array, mean: Array | None, var: Array | None) -> ModuleType:
    """The library of the arguments; TypeError or ValueError if they do not fit."""
    xp = check_arrays({"mean": mean, "var": var}, x=x, weight=weight, bias=bias)
    check_channels(x)
    for name, array in {"weight": weight, "bias": bias, "mean": mean, "var": var}.items():
        if array is not None:
            check_shape(name, array, x.shape[1:2], f"since x has {x.shape[1]} channels")
    if (mean is None) != (var is None):
        raise ValueError("mean and var: one of them is None; expected both (inference) or neither (training)")
    if mean is None and x.size == x.shape[1]:
        raise ValueError(f"x has shape {x.shape}: one value per channel; expected at least 2 to take a variance of")
    return xp


def check_channels(x: Array) -> None:
    """ValueError unless x is (N, C) or (N, C, H, W), not empty."""
    if x.ndim not in (2, 4) or 0 in x.shape:
        raise ValueError(f"x has shape {x.shape}; expected (N, C) or (N, C, H, W), no axis empty")
