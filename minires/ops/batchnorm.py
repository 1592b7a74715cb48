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

How it is computed. Channels-last memory is viewed as rows of W*C numbers, with the C parameters repeated W times;
the batch is cut into pieces that fit into the processor's cache. The mean and the sum of squared deviations of each
column of each piece are merged as in Chan, Golub, LeVeque 1979 (the variance is the mean variance within groups plus
the variance of the groups' means): one pass over memory and no cancellation.
"""

from __future__ import annotations

from types import ModuleType
from typing import NamedTuple

import numpy as np

from minires.backend import Array
from minires.ops.layout import (
    channels_last,
    check_arrays,
    check_number,
    check_shape,
    check_upstream,
    column_sums,
)
from minires.parallel import map_shares, pieces, scratch

PIECE_BYTES, GPU_PIECE_BYTES = 2**20, 2**62


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
) -> tuple[Array, BatchNormCache]:
    """x (N, C, H, W) or (N, C), weight (gain) and bias (offset) (C,) -> y, cache.

    Without `mean` and `var` the batch's own are used (training); cache.mean and cache.var hold them, var being the
    biased one. With both given, (C,) each, those are used (inference).

    Raises TypeError for dtypes, ValueError for shapes, for one statistic without the other, for a batch with a
    single value per channel (its variance is 0 whatever x is), and for eps < 0.
    """
    xp = check_arrays({"mean": mean, "var": var}, x=x, weight=weight, bias=bias)
    if x.ndim not in (2, 4) or 0 in x.shape:
        raise ValueError(f"x has shape {x.shape}; expected (N, C) or (N, C, H, W) without an empty axis")
    for name, array in {"weight": weight, "bias": bias, "mean": mean, "var": var}.items():
        if array is not None:
            check_shape(name, array, x.shape[1:2], f"since x has {x.shape[1]} channels")
    if (mean is None) != (var is None):
        raise ValueError("mean and var: one of them is None; expected both (inference) or neither (training)")
    eps = check_number("eps", eps, 0)
    count = x.size // x.shape[1]
    if mean is None and count == 1:
        raise ValueError(
            f"x has shape {x.shape}: one value per channel; expected at least 2 to take a variance of"
        )

    x = _channels_last_memory(xp, x)
    trained = mean is None
    if trained:
        mean, var = _moments(xp, x, count)
    y = xp.empty_like(x)
    x_rows, y_rows = _rows(x), _rows(y)
    scale = weight / xp.sqrt(var + eps)
    scale, shift = _tile(xp, x, scale, bias - mean * scale)

    def share(rows: range) -> None:
        for part in pieces(rows, x_rows[:1].nbytes, _piece_bytes(xp)):
            out = y_rows[part]
            xp.multiply(x_rows[part], scale, out=out)
            out += shift

    map_shares(xp, len(x_rows), share, elements=x.size)
    return y, BatchNormCache(x, weight, mean, var, eps, trained)


def batchnorm_backward(dy: Array, cache: BatchNormCache) -> tuple[Array, Array, Array]:
    """dy like x -> dx like x, dweight (C,), dbias (C,)."""
    x, weight, mean, var, eps, trained = cache
    xp = check_upstream(dy, x.shape, x)
    dy = _channels_last_memory(xp, dy)
    count = x.size // x.shape[1]
    inv = 1 / xp.sqrt(var + eps)
    dbias, products = _sums(xp, dy, x, mean)
    dweight = products * inv

    dx = xp.empty_like(x)
    dy_rows, x_rows, dx_rows = _rows(dy), _rows(x), _rows(dx)
    scale = weight * inv
    slope = scale * inv * dweight / -count
    offset = scale * dbias / -count - slope * mean
    scale, slope, offset = _tile(xp, x, scale, slope, offset)

    def share(rows: range) -> None:
        for part in pieces(rows, x_rows[:1].nbytes, _piece_bytes(xp)):
            out = dx_rows[part]
            xp.multiply(dy_rows[part], scale, out=out)
            if trained:
                out += offset
                out += xp.multiply(x_rows[part], slope, out=scratch(xp, "term", out.shape, out.dtype))

    map_shares(xp, len(x_rows), share, elements=x.size)
    return dx, dweight, dbias


def _moments(xp: ModuleType, x: Array, count: int) -> tuple[Array, Array]:
    """Mean and biased variance of each channel, (C,) and (C,)."""
    rows = _rows(x)

    def share(part_of_batch: range) -> list[tuple[int, Array, Array]]:
        groups = []
        for part in pieces(part_of_batch, rows[:1].nbytes, _piece_bytes(xp)):
            piece = rows[part]
            mean = column_sums(xp, piece) / len(piece)
            deviation = xp.subtract(piece, mean, out=scratch(xp, "term", piece.shape, piece.dtype))
            groups.append((len(piece), mean, xp.einsum("ij,ij->j", deviation, deviation)))
        return groups

    groups = [g for share_groups in map_shares(xp, len(rows), share, elements=x.size) for g in share_groups]
    sizes = xp.asarray(np.repeat([g[0] for g in groups], rows.shape[1] // x.shape[1]), dtype=x.dtype)[:, None]
    means = xp.stack([g[1] for g in groups]).reshape(-1, x.shape[1])
    squares = xp.stack([g[2] for g in groups]).reshape(-1, x.shape[1])
    mean = (sizes * means).sum(axis=0) / count
    var = (squares + sizes * (means - mean) ** 2).sum(axis=0) / count
    return mean, var


def _sums(xp: ModuleType, dy: Array, x: Array, mean: Array) -> tuple[Array, Array]:
    """Sum of dy and sum of dy * (x - mean) of each channel, (C,) and (C,)."""
    dy_rows, x_rows = _rows(dy), _rows(x)
    (mean_row,) = _tile(xp, x, mean)

    def share(rows: range) -> Array:
        total = xp.zeros((2, x_rows.shape[1]), x.dtype)
        for part in pieces(rows, x_rows[:1].nbytes, _piece_bytes(xp)):
            piece = x_rows[part]
            deviation = xp.subtract(piece, mean_row, out=scratch(xp, "term", piece.shape, piece.dtype))
            total[0] += column_sums(xp, dy_rows[part])
            total[1] += xp.einsum("ij,ij->j", dy_rows[part], deviation)
        return total

    total = sum(map_shares(xp, len(x_rows), share, elements=x.size))
    dbias, products = total.reshape(2, -1, x.shape[1]).sum(axis=1)
    return dbias, products


def _channels_last_memory(xp: ModuleType, x: Array) -> Array:
    return xp.ascontiguousarray(x) if x.ndim == 2 else channels_last(xp, x).transpose(0, 3, 1, 2)


def _rows(x: Array) -> Array:
    """(N, C, H, W) in channels-last memory -> its view (N*H, W*C); (N, C) as it is."""
    if x.ndim == 2:
        return x
    n, c, h, w = x.shape
    return x.transpose(0, 2, 3, 1).reshape(n * h, w * c)


def _tile(xp: ModuleType, x: Array, *parameters: Array) -> list[Array]:
    """Parameters (C,) repeated for the W pixels of a row: (W*C,)."""
    return [xp.tile(p, 1 if x.ndim == 2 else x.shape[3]) for p in parameters]


def _piece_bytes(xp: ModuleType) -> int:
    return PIECE_BYTES if xp is np else GPU_PIECE_BYTES
