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

How it is computed. Every image has a mean and a variance of its own in each channel. They come from one pass over it:
with d = x - s for any shift s, and sums over its m pixels,

    mean = s + (sum of d) / m      var = (sum of d^2) / m - (mean - s)^2

(Chan, Golub, LeVeque 1983, "Algorithms for computing the sample variance", section 3). With s = 0 the difference may
lose every digit. For s we take the mean of every 32nd line of the image (of the middle one, if it has fewer). They are
a fraction f >= 1/48 of all values, so (mean - s)^2 <= (1/f - 1) * var whatever the values are: at worst, the rounding
error of the sums counts 48 times.
Those of the batch follow from them, as all images have the same number of pixels:

    mean = mean of the images' means      var = mean of the images' variances + variance of the images' means

(the law of total variance). Neither the order nor the grouping of the images matters: whoever makes them hands them to
`Moments` as they come.

Forward and backward end in a loop that looks at each place by itself. `begin_forward` and `begin_backward` stop before
it, so that the convolution that comes next can begin its own loop with it (see `nn/sequential.py`).
"""

from __future__ import annotations

from types import ModuleType
from typing import NamedTuple

from minires.backend import Array, array_namespace
from minires.checks import check_arrays, check_number, check_shape, check_upstream
from minires.ops.channels import Moments, gradient_sums, moments_of, repeated, rows
from minires.ops.layout import Fill, Finish, channels_last_memory, filled, nothing
from minires.parallel import scratch


class BatchNormCache(NamedTuple):
    x: Array
    weight: Array
    mean: Array
    var: Array
    eps: float
    trained: bool
    """Whether mean and var were taken from x, so that dx has to account for them."""


def batchnorm_forward(
    x: Array, weight: Array, bias: Array, *, eps: float = 1e-5, mean: Array | None = None, var: Array | None = None
) -> tuple[Array, BatchNormCache]:
    """x (N, C, H, W) or (N, C), weight (gain) and bias (offset) (C,) -> y, cache.

    Without `mean` and `var` the batch's own are used (training); cache.mean and cache.var hold them, var being the
    biased one. With both given, (C,) each, those are used (inference).

    Raises TypeError for dtypes, ValueError for shapes, for one statistic without the other, for a batch with a
    single value per channel (its variance is 0 whatever x is), and for eps < 0.
    """
    y, fill, cache = begin_forward(x, weight, bias, eps, mean, var)
    return filled(y, fill), cache


def batchnorm_backward(dy: Array, cache: BatchNormCache) -> tuple[Array, Array, Array]:
    """dy like x -> dx like x, dweight (C,), dbias (C,)."""
    xp = check_upstream(dy, cache.x.shape, cache.x)
    dy = channels_last_memory(xp, dy)
    dx = xp.empty_like(dy)
    fill, dweight, dbias = begin_backward(dx, dy, cache)
    return filled(dx, fill), dweight, dbias


def begin_forward(
    x: Array,
    weight: Array,
    bias: Array,
    eps: float,
    mean: Array | None = None,
    var: Array | None = None,
    moments: Moments | None = None,
    finish: Finish = nothing,
) -> tuple[Array, Fill, BatchNormCache]:
    """All but the last loop -> y without its numbers, its fill, cache.

    moments: those of x, if somebody took them already. finish(part, y[part]) may change what fill has written.
    """
    xp = check_batchnorm(x, weight, bias, mean, var)
    x, eps, trained = channels_last_memory(xp, x), check_number("eps", eps, 0), mean is None
    if trained:
        mean, var = (moments or moments_of(xp, x)).of_the_batch()
    y = xp.empty_like(x)
    x_rows, y_rows = rows(x), rows(y)
    scale, offset = (repeated(p, x_rows) for p in scale_and_offset(xp, weight, bias, mean, var, eps))

    def fill(part: slice) -> None:
        out = xp.multiply(x_rows[part], scale, out=y_rows[part])
        out += offset
        finish(part, y[part])

    return y, fill, BatchNormCache(x, weight, mean, var, eps, trained)


def scale_and_offset(
    xp: ModuleType, weight: Array, bias: Array, mean: Array, var: Array, eps: float
) -> tuple[Array, Array]:
    """The straight line that BatchNorm is to each channel: y = scale * x + offset."""
    scale = weight / xp.sqrt(var + eps)
    return scale, bias - mean * scale


def begin_backward(dx: Array, dy: Array, cache: BatchNormCache, fill: Fill = nothing) -> tuple[Fill, Array, Array]:
    """All but the last loop -> the fill of dx, which may be dy; dweight, dbias.

    fill(part) may write each piece of dy just before it is read. All arrays are channels-last in memory.
    """
    x, weight, mean, var, eps, trained = cache
    xp, m = array_namespace(x), x[:, 0].size
    inv, (dbias, products) = 1 / xp.sqrt(var + eps), gradient_sums(xp, dy, x, mean, fill)
    dweight, scale = products * inv, weight * inv
    # trained: scale * (dy - dbias/m - xhat * dweight/m), sorted by dy, x and the rest
    slope = -scale * inv * dweight / m
    offset = -scale * dbias / m - slope * mean
    x_rows, dy_rows, dx_rows = rows(x), rows(dy), rows(dx)
    scale, slope, offset = (repeated(p, x_rows) for p in (scale, slope, offset))

    def last_loop(part: slice) -> None:
        out = xp.multiply(dy_rows[part], scale, out=dx_rows[part])
        if trained:
            out += xp.multiply(x_rows[part], slope, out=scratch(xp, "term", out.shape, out.dtype))
            out += offset

    return last_loop, dweight, dbias


def check_batchnorm(x: Array, weight: Array, bias: Array, mean: Array | None, var: Array | None) -> ModuleType:
    """The library of the arguments; TypeError or ValueError if they do not fit."""
    xp = check_arrays({"mean": mean, "var": var}, x=x, weight=weight, bias=bias)
    if x.ndim not in (2, 4) or 0 in x.shape:
        raise ValueError(f"x has shape {x.shape}; expected (N, C) or (N, C, H, W), no axis empty")
    for name, array in {"weight": weight, "bias": bias, "mean": mean, "var": var}.items():
        if array is not None:
            check_shape(name, array, x.shape[1:2], f"since x has {x.shape[1]} channels")
    if (mean is None) != (var is None):
        raise ValueError("mean and var: one of them is None; expected both (inference) or neither (training)")
    if mean is None and x.size == x.shape[1]:
        raise ValueError(f"x has shape {x.shape}: one value per channel; expected at least 2 to take a variance of")
    return xp
