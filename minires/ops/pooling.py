"""Pooling: a window slides over each channel and keeps its largest value, or its mean.

    max     y[i, j] = max over taps (a, b) of xpad[i*s + a, j*s + b]      padding counts as minus infinity
    avg     y[i, j] = sum over taps of xpad[i*s + a, j*s + b] / count     padding is zero; count = kh*kw as a rule
    global  y = mean of x over all pixels

Backward. The maximum depends on one pixel of its window only, and that pixel gets all of dy[i, j]. If several are
equally large, it is the first in reading order, as in PyTorch. The average gives dy[i, j] / count to every pixel of
its window. Windows may overlap: a pixel adds up what all of its windows send. The loops run over the taps, as in
`window.py`.
"""

from types import ModuleType
from typing import NamedTuple

from minires.backend import Array
from minires.checks import cache_of, check_arrays, check_axes, check_half, check_upstream, flag
from minires.ops.window import Pair, Window, channels_last_memory, filled, inside, pad, pad_shape, place_window


class PoolCache(NamedTuple):
    like: Array
    """An empty array that carries x's dtype and library; x itself is not needed."""
    winner: Array | None
    """max: which tap won, counted in reading order, (N, C, H_out, W_out)."""
    count: Array | None
    """avg: how many pixels of each window count, (H_out, W_out)."""
    x_shape: tuple[int, int, int, int]
    window: Window


def max_pool2d_forward(
    x: Array, kernel_size: Pair, *, stride: Pair | None = None, padding: Pair = 0, ceil_mode: bool = False
) -> tuple[Array, PoolCache]:
    """x (N, C, H, W) -> y (N, C, H_out, W_out), cache. `stride` None means the kernel's size.

    ceil_mode: a last window that sticks out of the image counts, too (PyTorch's rule: if it begins inside).
    Raises TypeError or ValueError for dtypes and shapes, and for padding of more than half the kernel (a window
    could then lie on padding alone).
    """
    xp, window = check_pooling(x, kernel_size, stride, padding, ceil_mode)
    xpad = pad(xp, x, window, -xp.inf)
    y = filled(xp, (*x.shape[:2], *window.out), -xp.inf, x.dtype)
    winner = xp.zeros_like(y, xp.int32)
    for tap, (rows, columns) in enumerate(window.taps):
        pixel = xpad[:, :, rows, columns]
        larger = (pixel.real > y.real) | (pixel != pixel)  # a NaN wins, as in PyTorch
        y = xp.where(larger, pixel, y)
        winner = xp.where(larger, xp.int32(tap), winner)
    return channels_last_memory(xp, y), PoolCache(x[:0], winner, None, x.shape, window)


def max_pool2d_backward(dy: Array, cache: PoolCache) -> Array:
    """dy (N, C, H_out, W_out) -> dx (N, C, H, W)."""
    xp, dxpad = begin_backward(dy, cache)
    for tap, (rows, columns) in enumerate(cache.window.taps):
        dxpad[:, :, rows, columns] += dy * (cache.winner == tap)
    return channels_last_memory(xp, inside(dxpad, cache.x_shape, cache.window))


def avg_pool2d_forward(
    x: Array,
    kernel_size: Pair,
    *,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> tuple[Array, PoolCache]:
    """x (N, C, H, W) -> y (N, C, H_out, W_out), cache. `stride` None means the kernel's size; errors as above.

    count_include_pad: divide by all kh*kw pixels of a window, or only by those of the image. What sticks out beyond
    the padding (ceil_mode) never counts.
    """
    xp, window = check_pooling(x, kernel_size, stride, padding, ceil_mode)
    xpad, counted = pad(xp, x, window), filled(xp, pad_shape((1, 1, *x.shape[2:]), window), 0, x.dtype)
    if flag("count_include_pad", count_include_pad):
        counted[:, :, : counted.shape[2] - window.extra[0], : counted.shape[3] - window.extra[1]] = 1
    else:
        inside(counted, x.shape, window)[...] = 1
    y, count = filled(xp, (*x.shape[:2], *window.out), 0, x.dtype), xp.zeros(window.out, x.dtype)
    for rows, columns in window.taps:
        y += xpad[:, :, rows, columns]
        count += counted[0, 0, rows, columns]
    return channels_last_memory(xp, y / count), PoolCache(x[:0], None, count, x.shape, window)


def avg_pool2d_backward(dy: Array, cache: PoolCache) -> Array:
    """dy (N, C, H_out, W_out) -> dx (N, C, H, W)."""
    xp, dxpad = begin_backward(dy, cache)
    for rows, columns in cache.window.taps:
        dxpad[:, :, rows, columns] += dy / cache.count
    return channels_last_memory(xp, inside(dxpad, cache.x_shape, cache.window))


def global_avg_pool2d_forward(x: Array) -> tuple[Array, tuple[Array, tuple[int, ...]]]:
    """x (N, C, H, W) -> y (N, C), cache."""
    xp = check_arrays(x=x)
    check_axes("x", x, "N, C, H, W")
    return channels_last_memory(xp, x).mean(axis=(2, 3)), (x[:0], x.shape)


def global_avg_pool2d_backward(dy: Array, cache: tuple[Array, tuple[int, ...]]) -> Array:
    """dy (N, C) -> dx (N, C, H, W)."""
    like, (n, c, h, w) = cache_of(cache, tuple, 2)
    xp = check_upstream(dy, (n, c), like)
    return filled(xp, (n, c, h, w), 0, dy.dtype) + (dy / (h * w))[:, :, None, None]


def check_pooling(x: Array, kernel: Pair, stride: Pair | None, padding: Pair, ceil: bool) -> tuple[ModuleType, Window]:
    """The library of x and the window; TypeError or ValueError if they do not fit."""
    xp, ceil = check_arrays(x=x), flag("ceil_mode", ceil)
    check_axes("x", x, "N, C, H, W")
    window = place_window(x.shape[2:], kernel, kernel if stride is None else stride, padding, ceil=ceil)
    check_half(window.padding, window.kernel)
    return xp, window


def begin_backward(dy: Array, cache: PoolCache) -> tuple[ModuleType, Array]:
    """The library of dy, and a padded dx of zeros to add to."""
    xp = check_upstream(dy, (*cache_of(cache, PoolCache).x_shape[:2], *cache.window.out), cache.like)
    return xp, filled(xp, pad_shape(cache.x_shape, cache.window), 0, dy.dtype)
