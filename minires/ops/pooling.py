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
from minires.checks import check_arrays, check_axes, check_upstream
from minires.ops.layout import Pair, Window, channels_first, channels_last, pad, place_window
from minires.parallel import map_pieces


class PoolCache(NamedTuple):
    like: Array
    """An empty array that carries x's dtype and library; x itself is not needed."""
    winner: Array | None
    """max: the number of the tap that won, (N, H_out, W_out, C)."""
    x_shape: tuple[int, int, int, int]
    window: Window


def max_pool2d_forward(
    x: Array, kernel_size: Pair, *, stride: Pair | None = None, padding: Pair = 0
) -> tuple[Array, PoolCache]:
    """x (N, C, H, W) -> y (N, C, H_out, W_out), cache. `stride` None means the kernel's size.

    Raises TypeError or ValueError for dtypes and shapes, and for padding of more than half the kernel (a window
    could then lie on padding alone).
    """
    xp, window = check_pooling(x, kernel_size, stride, padding)
    pixels = pad(xp, channels_last(xp, x), window.padding, -xp.inf)
    y = xp.empty((len(x), *window.out, x.shape[1]), x.dtype)
    winner = xp.zeros(y.shape, xp.int16)

    def piece(part: slice) -> None:
        best, number_of_best = y[part], winner[part]
        best[...] = -xp.inf
        for number, (_, _, r, c) in enumerate(window.taps()):
            tap = pixels[part, r, c]
            better = (tap.real > best.real) | (tap != tap)  # a NaN wins, as in PyTorch
            number_of_best += better * (xp.int16(number) - number_of_best)  # `where`, ten times as fast
            best[...] = xp.where(better, tap, best) if x.dtype.kind == "c" else xp.maximum(best, tap)

    map_pieces(xp, len(x), 2 * pixels[:1].nbytes, piece)
    return channels_first(y), PoolCache(xp.empty_like(x[:0]), winner, x.shape, window)


def max_pool2d_backward(dy: Array, cache: PoolCache) -> Array:
    """dy (N, C, H_out, W_out) -> dx (N, C, H, W)."""
    return send_to_taps(dy, cache)


def avg_pool2d_forward(
    x: Array, kernel_size: Pair, *, stride: Pair | None = None, padding: Pair = 0
) -> tuple[Array, PoolCache]:
    """x (N, C, H, W) -> y (N, C, H_out, W_out), cache. `stride` None means the kernel's size; errors as above."""
    xp, window = check_pooling(x, kernel_size, stride, padding)
    pixels = pad(xp, channels_last(xp, x), window.padding)
    y = xp.zeros((len(x), *window.out, x.shape[1]), x.dtype)

    def piece(part: slice) -> None:
        for _, _, r, c in window.taps():
            y[part] += pixels[part, r, c]
        y[part] /= window.kernel[0] * window.kernel[1]

    map_pieces(xp, len(x), 2 * pixels[:1].nbytes, piece)
    return channels_first(y), PoolCache(xp.empty_like(x[:0]), None, x.shape, window)


def avg_pool2d_backward(dy: Array, cache: PoolCache) -> Array:
    """dy (N, C, H_out, W_out) -> dx (N, C, H, W)."""
    return send_to_taps(dy, cache) / (cache.window.kernel[0] * cache.window.kernel[1])


class GlobalPoolCache(NamedTuple):
    like: Array
    x_shape: tuple[int, int, int, int]


def global_avg_pool2d_forward(x: Array) -> tuple[Array, GlobalPoolCache]:
    """x (N, C, H, W) -> y (N, C), cache."""
    xp = check_arrays(x=x)
    check_axes("x", x, "N, C, H, W")
    return channels_last(xp, x).mean(axis=(1, 2)), GlobalPoolCache(xp.empty_like(x[:0]), x.shape)


def global_avg_pool2d_backward(dy: Array, cache: GlobalPoolCache) -> Array:
    """dy (N, C) -> dx (N, C, H, W)."""
    n, c, h, w = cache.x_shape
    xp = check_upstream(dy, (n, c), cache.like)
    dx = xp.empty((n, h, w, c), dy.dtype)
    dx[...] = (dy / (h * w))[:, None, None, :]
    return channels_first(dx)


def check_pooling(x: Array, kernel_size: Pair, stride: Pair | None, padding: Pair) -> tuple[ModuleType, Window]:
    """The library of x and the window; TypeError or ValueError if they do not fit."""
    xp = check_arrays(x=x)
    check_axes("x", x, "N, C, H, W")
    window = place_window(x.shape[2:], kernel_size, kernel_size if stride is None else stride, padding)
    if any(2 * p > k for p, k in zip(window.padding, window.kernel, strict=True)):
        raise ValueError(f"padding is {padding}; expected at most half of kernel_size {kernel_size}")
    return xp, window


def send_to_taps(dy: Array, cache: PoolCache) -> Array:
    """Adds dy to the pixel that won each window (max), or to all pixels of each window (avg)."""
    (n, c, h, w), window = cache.x_shape, cache.window
    xp = check_upstream(dy, (n, c, *window.out), cache.like)
    dy_pixels = channels_last(xp, dy)
    ph, pw = window.padding
    dx = xp.zeros((n, h + 2 * ph, w + 2 * pw, c), dy.dtype)

    def piece(part: slice) -> None:
        for number, (_, _, rows, columns) in enumerate(window.taps()):
            sent = dy_pixels[part]
            dx[part, rows, columns] += sent if cache.winner is None else sent * (cache.winner[part] == number)

    map_pieces(xp, n, 2 * dx[:1].nbytes, piece)
    return channels_first(xp.ascontiguousarray(dx[:, ph : ph + h, pw : pw + w]))
