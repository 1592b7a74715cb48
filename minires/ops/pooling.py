"""Pooling: a window slides over each channel and keeps its largest value, or its mean.

    max     y[i, j] = max over taps (a, b) of xpad[i*s + a, j*s + b]      padding counts as minus infinity
    avg     y[i, j] = sum over taps of xpad[i*s + a, j*s + b] / (kh*kw)   padding counts as zero, and is counted
    global  y = mean of x over all pixels

Backward. The maximum depends on one pixel of its window only, so that pixel gets dy[i, j]; if several are equally
large, the first in reading order gets all of it, as in PyTorch. The average gives dy[i, j] / (kh*kw) to every pixel
of its window. Windows may overlap: a pixel adds up what all of its windows send. As in `im2col.py` we run over the
taps, and for one tap all windows are one strided slice in which no pixel occurs twice.

Images are handled as (N, H, W, C), their order in memory.
"""

from __future__ import annotations

from types import ModuleType
from typing import NamedTuple

from minires.backend import Array
from minires.ops.im2col import Pair, taps
from minires.ops.layout import (
    channels_first,
    channels_last,
    check_arrays,
    check_ndim,
    check_upstream,
    output_size,
    pair,
)
from minires.parallel import map_shares


class PoolCache(NamedTuple):
    like: Array
    """An empty array that carries x's dtype and library; x itself is not needed."""
    winner: Array | None
    """max: the number of the tap that won, (N, H_out, W_out, C)."""
    x_shape: tuple[int, int, int, int]
    y_shape: tuple[int, int, int, int]
    window: tuple[tuple[int, int], ...]
    """(kernel, stride, padding)."""


def max_pool2d_forward(
    x: Array, kernel_size: Pair, *, stride: Pair | None = None, padding: Pair = 0
) -> tuple[Array, PoolCache]:
    """x (N, C, H, W) -> y (N, C, H_out, W_out), cache. `stride` None means the kernel's size.

    Raises TypeError or ValueError for dtypes and shapes, and for padding of more than half the kernel (a window
    could then lie on padding alone).
    """
    xp, window, out = _window(x, kernel_size, stride, padding)
    kernel, stride, padding = window
    rows = _pad(xp, channels_last(xp, x), padding, -xp.inf)
    y = xp.empty((len(rows), *out, rows.shape[3]), x.dtype)
    winner = xp.zeros(y.shape, xp.int16)

    def share(images: range) -> None:
        part = slice(images.start, images.stop)
        best = y[part]
        for number, (_, _, r, c) in enumerate(taps(kernel, out, stride, (1, 1))):
            tap = rows[part, r, c]
            if number == 0:
                best[...] = tap
            else:
                better = (tap.real > best.real) | (tap != tap)  # a NaN wins, as in PyTorch
                winner[part] = xp.where(better, xp.int16(number), winner[part])
                best[...] = xp.where(better, tap, best)

    map_shares(xp, len(rows), share, elements=rows.size)
    y = channels_first(y)
    return y, PoolCache(xp.empty_like(x[:0]), winner, x.shape, y.shape, window)


def max_pool2d_backward(dy: Array, cache: PoolCache) -> Array:
    """dy (N, C, H_out, W_out) -> dx (N, C, H, W)."""
    return _scatter_to_taps(dy, cache)


def avg_pool2d_forward(
    x: Array, kernel_size: Pair, *, stride: Pair | None = None, padding: Pair = 0
) -> tuple[Array, PoolCache]:
    """x (N, C, H, W) -> y (N, C, H_out, W_out), cache. `stride` None means the kernel's size; see the module's text."""
    xp, window, out = _window(x, kernel_size, stride, padding)
    kernel, stride, padding = window
    rows = _pad(xp, channels_last(xp, x), padding, 0)
    y = xp.zeros((len(rows), *out, rows.shape[3]), x.dtype)

    def share(images: range) -> None:
        part = slice(images.start, images.stop)
        for _, _, r, c in taps(kernel, out, stride, (1, 1)):
            y[part] += rows[part, r, c]
        y[part] /= kernel[0] * kernel[1]

    map_shares(xp, len(rows), share, elements=rows.size)
    y = channels_first(y)
    return y, PoolCache(xp.empty_like(x[:0]), None, x.shape, y.shape, window)


def avg_pool2d_backward(dy: Array, cache: PoolCache) -> Array:
    """dy (N, C, H_out, W_out) -> dx (N, C, H, W)."""
    kernel = cache.window[0]
    return _scatter_to_taps(dy / (kernel[0] * kernel[1]), cache)


class GlobalPoolCache(NamedTuple):
    like: Array
    x_shape: tuple[int, int, int, int]


def global_avg_pool2d_forward(x: Array) -> tuple[Array, GlobalPoolCache]:
    """x (N, C, H, W) -> y (N, C), cache."""
    xp = check_arrays(x=x)
    check_ndim("x", x, "N, C, H, W")
    y = channels_last(xp, x).mean(axis=(1, 2))
    return y, GlobalPoolCache(xp.empty_like(x[:0]), x.shape)


def global_avg_pool2d_backward(dy: Array, cache: GlobalPoolCache) -> Array:
    """dy (N, C) -> dx (N, C, H, W)."""
    n, c, h, w = cache.x_shape
    xp = check_upstream(dy, (n, c), cache.like)
    rows = xp.empty((n, h, w, c), dy.dtype)
    rows[...] = (dy / (h * w))[:, None, None, :]
    return channels_first(rows)


def _window(
    x: Array, kernel_size: Pair, stride: Pair | None, padding: Pair
) -> tuple[ModuleType, tuple[tuple[int, int], ...], tuple[int, int]]:
    """(library, (kernel, stride, padding) as pairs, output size), checked."""
    xp = check_arrays(x=x)
    check_ndim("x", x, "N, C, H, W")
    kernel = pair("kernel_size", kernel_size, 1)
    stride = kernel if stride is None else pair("stride", stride, 1)
    padding = pair("padding", padding, 0)
    if 2 * padding[0] > kernel[0] or 2 * padding[1] > kernel[1]:
        raise ValueError(f"padding is {padding}; expected at most half of kernel_size {kernel}")
    return xp, (kernel, stride, padding), output_size(x.shape[2:], kernel, stride, padding)


def _pad(xp: ModuleType, rows: Array, padding: tuple[int, int], value: float) -> Array:
    (ph, pw), (n, h, w, c) = padding, rows.shape
    if ph == pw == 0:
        return rows
    padded = xp.full((n, h + 2 * ph, w + 2 * pw, c), value, rows.dtype)
    padded[:, ph : ph + h, pw : pw + w] = rows
    return padded


def _scatter_to_taps(dy: Array, cache: PoolCache) -> Array:
    """Adds dy to the pixel that won each window (max), or to all pixels of each window (avg)."""
    xp = check_upstream(dy, cache.y_shape, cache.like)
    (n, c, h, w), (kernel, stride, (ph, pw)) = cache.x_shape, cache.window
    dy_rows = channels_last(xp, dy)
    dx = xp.zeros((n, h + 2 * ph, w + 2 * pw, c), dy.dtype)

    def share(images: range) -> None:
        part = slice(images.start, images.stop)
        for number, (_, _, r, cols) in enumerate(taps(kernel, cache.y_shape[2:], stride, (1, 1))):
            sent = dy_rows[part]
            dx[part, r, cols] += sent if cache.winner is None else sent * (cache.winner[part] == number)

    map_shares(xp, n, share, elements=dx.size)
    return channels_first(xp.ascontiguousarray(dx[:, ph : ph + h, pw : pw + w]))
