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

How it is computed. Channels-last memory is viewed as rows of W*C numbers, with the C parameters repeated W times.
mean and var come from one pass over x: with d = x - s for any shift s,

    mean = s + (sum of d) / m      var = (sum of d^2) / m - (mean - s)^2

(Chan, Golub, LeVeque 1983, "Algorithms for computing the sample variance", section 3). With s = 0 the difference may
lose every digit. We take the first image's mean for s: since that image is one of the N, (mean - s)^2 is never above
(N - 1) * var, and no more than a factor N of the rounding error can be gained.
"""

from __future__ import annotations

from types import ModuleType
from typing import NamedTuple

from minires.backend import Array
from minires.checks import check_arrays, check_number, check_shape, check_upstream
from minires.ops.layout import channels_last_memory, column_sums, rows, tiled
from minires.parallel import map_pieces, scratch


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
    xp = check_arrays({"mean": mean, "var": var}, x=x, weight=weight, bias=bias)
    eps = check_number("eps", eps, 0)
    if x.ndim not in (2, 4) or 0 in x.shape:
        raise ValueError(f"x has shape {x.shape}; expected (N, C) or (N, C, H, W), no axis empty")
    for name, array in {"weight": weight, "bias": bias, "mean": mean, "var": var}.items():
        if array is not None:
            check_shape(name, array, x.shape[1:2], f"since x has {x.shape[1]} channels")
    if (mean is None) != (var is None):
        raise ValueError("mean and var: one of them is None; expected both (inference) or neither (training)")
    trained, m = mean is None, x.size // x.shape[1]
    if trained and m == 1:
        raise ValueError(f"x has shape {x.shape}: one value per channel; expected at least 2 to take a variance of")
    x = channels_last_memory(xp, x)
    if trained:
        shift = x[0] if x.ndim == 2 else x[0].sum(axis=(1, 2)) / (x.shape[2] * x.shape[3])
        total, squares = sums(xp, x, shift)
        mean, var = shift + total / m, squares / m - (total / m) ** 2
    scale = weight / xp.sqrt(var + eps)
    y = affine(xp, bias - mean * scale, (x, scale))
    return y, BatchNormCache(x, weight, mean, var, eps, trained)


def batchnorm_backward(dy: Array, cache: BatchNormCache) -> tuple[Array, Array, Array]:
    """dy like x -> dx like x, dweight (C,), dbias (C,)."""
    x, weight, mean, var, eps, trained = cache
    xp = check_upstream(dy, x.shape, x)
    dy = channels_last_memory(xp, dy)
    inv = 1 / xp.sqrt(var + eps)
    dbias, products = sums(xp, x, mean, dy)
    dweight = products * inv
    if not trained:
        return affine(xp, xp.zeros_like(dbias), (dy, weight * inv)), dweight, dbias
    # weight * inv * (dy - dbias/m - xhat * dweight/m), sorted by dy, x and the rest
    m = x.size // x.shape[1]
    slope = -weight * inv * inv * dweight / m
    dx = affine(xp, -weight * inv * dbias / m - slope * mean, (dy, weight * inv), (x, slope))
    return dx, dweight, dbias


def affine(xp: ModuleType, offset: Array, *terms: tuple[Array, Array]) -> Array:
    """offset + sum of x * factor over the terms (x, factor): x (N, C, ...), factor and offset (C,)."""
    (x, factor), *others = [(rows(array), tiled(factor, array)) for array, factor in terms]
    offset = tiled(offset, terms[0][0])
    result = xp.empty_like(terms[0][0])
    result_rows = rows(result)

    def piece(part: slice) -> None:
        out = result_rows[part]
        xp.multiply(x[part], factor, out=out)
        out += offset
        for other, its_factor in others:
            out += xp.multiply(other[part], its_factor, out=scratch(xp, "term", out.shape, out.dtype))

    map_pieces(xp, len(x), 2 * x[:1].nbytes, piece)
    return result


def sums(xp: ModuleType, x: Array, shift: Array, dy: Array | None = None) -> tuple[Array, Array]:
    """Sum of f and of f * (x - shift) over each channel, (C,) and (C,), where f is dy or else x - shift itself."""
    x_rows, shift_row, dy_rows = rows(x), tiled(shift, x), None if dy is None else rows(dy)

    def piece(part: slice) -> Array:
        values = x_rows[part]
        deviation = xp.subtract(values, shift_row, out=scratch(xp, "term", values.shape, values.dtype))
        f = deviation if dy is None else dy_rows[part]
        return xp.stack([column_sums(xp, f), xp.einsum("ij,ij->j", f, deviation)])

    total = sum(map_pieces(xp, len(x_rows), 2 * x_rows[:1].nbytes, piece))
    return tuple(total.reshape(2, -1, x.shape[1]).sum(axis=1))
