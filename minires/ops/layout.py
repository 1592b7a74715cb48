"""What the ops on images share: their order in memory, and how a window is placed on them.

**NCHW in shape, channels-last in memory.** A batch of images has the shape (N, C, H, W), as in PyTorch and in the
papers. Its numbers, however, lie in memory in the order of (N, H, W, C): all channels of one pixel side by side.
`x.transpose(0, 2, 3, 1)` is then a free view with long contiguous rows, which is what a matrix product, a sum over
pixels and a plain copy all want. Every op returns its images so. An array that arrives in another order, straight
from a file say, is accepted and costs one copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from operator import index
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from minires.backend import Array, array_namespace
from minires.checks import pair
from minires.parallel import map_pieces, scratch

Pair = int | tuple[int, int]
Size = tuple[int, int]
Joined = tuple[tuple[int, slice, slice], ...]
Fill, Finish = Callable[[slice], None], Callable[[slice, Array], None]
"""What one op hands another, so that both work on a piece of an array while it is in the processor's cache.

fill(part) writes the images `part` of an array that has no numbers yet: the last loop of the op that made the array,
for the next op to begin each of its pieces with, once for each image. finish(part, y[part]) is told each piece of the
next op's result.
"""


def channels_last(xp: ModuleType, x: Array) -> Array:
    """(N, C, H, W) in any memory order -> (N, H, W, C), contiguous; a view where x is channels-last already."""
    return xp.ascontiguousarray(x.transpose(0, 2, 3, 1))


def channels_first(pixels: Array) -> Array:
    """(N, H, W, C) -> (N, C, H, W): a view, so the memory stays channels-last."""
    return pixels.transpose(0, 3, 1, 2)


def channels_last_memory(xp: ModuleType, x: Array) -> Array:
    """x (N, C, H, W) or (N, C), copied if its memory is in another order."""
    return xp.ascontiguousarray(x) if x.ndim == 2 else channels_first(channels_last(xp, x))


def nothing(*piece: Any) -> None:
    """A fill and a finish that do nothing."""


def filled(array: Array, fill: Fill) -> Array:
    """The array, once fill(part) has written every part of it."""
    if fill is not nothing:
        map_pieces(array_namespace(array), len(array), 2 * array[:1].nbytes, fill)
    return array


class Window(NamedTuple):
    """A window that moves over an image, and the places (H_out, W_out) it has; all pairs (vertical, horizontal)."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    out: tuple[int, int]

    def taps(self) -> Iterator[tuple[int, int, slice, slice]]:
        """For each tap (a, b): the rows and columns of the padded image that it meets, over all places."""
        for a in range(self.kernel[0]):
            for b in range(self.kernel[1]):
                yield a, b, self._met(0, a), self._met(1, b)

    def _met(self, axis: int, tap: int) -> slice:
        start, stride = tap * self.dilation[axis], self.stride[axis]
        return slice(start, start + stride * self.out[axis], stride)


@lru_cache
def joined_rows(window: Window, h: int) -> Joined:
    """(a, input rows r, output rows i) for each kernel row a that joins any, r = i*s + a*d - p; most rows first."""
    (stride, _), (padding, _), (dilation, _) = window.stride, window.padding, window.dilation
    joined = [(a, *landing(window.out[0], a * dilation - padding, stride, h)) for a in range(window.kernel[0])]
    joined = [(a, r, i) for a, r, i in joined if i.start < i.stop]
    return tuple(sorted(joined, key=lambda rows: rows[2].start - rows[2].stop))


def landing(count: int, offset: int, spread: int, size: int) -> tuple[slice, slice]:
    """Of points i in range(count), each put at i*spread + offset, those that fall in range(size): (where, which)."""
    first = max(0, -(offset // spread))
    stop = max(first, min(count, (size - 1 - offset) // spread + 1))
    start = first * spread + offset
    return slice(start, start + (stop - first) * spread, spread), slice(first, stop)


def place_window(
    size: tuple[int, int], kernel_size: Pair, stride: Pair = 1, padding: Pair = 0, dilation: Pair = 1
) -> Window:
    """The window on images of `size` (H, W): floor((H + 2p - d(k - 1) - 1) / s) + 1 places along each axis.

    Raises TypeError or ValueError for settings that are none, and for a window larger than the padded image.
    """
    kernel, stride = pair("kernel_size", kernel_size, 1), pair("stride", stride, 1)
    padding, dilation = pair("padding", padding, 0), pair("dilation", dilation, 1)
    return _placed(tuple(map(index, size)), kernel, stride, padding, dilation)


@lru_cache
def _placed(size: Size, kernel: Size, stride: Size, padding: Size, dilation: Size) -> Window:
    out = []
    for axis, n, k, s, p, d in zip(("height", "width"), size, kernel, stride, padding, dilation, strict=True):
        extent = d * (k - 1) + 1
        if extent > n + 2 * p:
            raise ValueError(
                f"kernel_size {k} with dilation {d} spans {extent} pixels; expected at most the padded {axis} "
                f"of x, {n} + 2 * {p} = {n + 2 * p}"
            )
        out.append((n + 2 * p - extent) // s + 1)
    return Window(kernel, stride, padding, dilation, (out[0], out[1]))


def pad(xp: ModuleType, pixels: Array, padding: tuple[int, int], value: float = 0) -> Array:
    """(N, H, W, C) -> (N, H + 2ph, W + 2pw, C), with `value` around; itself where there is nothing to add."""
    (ph, pw), (n, h, w, c) = padding, pixels.shape
    if ph == pw == 0:
        return pixels
    padded = xp.full((n, h + 2 * ph, w + 2 * pw, c), value, pixels.dtype)
    padded[:, ph : ph + h, pw : pw + w] = pixels
    return padded


def row_columns(xp: ModuleType, pixels: Array, offset: int, spread: int, moves: tuple[int, int, int, int]) -> Array:
    """The row columns of some images (see `conv.py`): pixels (n, H, W, C) -> (n, H, places, kernel width * C).

    Each row is laid on zeros: its pixel 0 at `offset`, the next ones `spread` apart; what falls outside is dropped.
    `moves` says how the kernel moves along it: (number of places, kernel width, stride, dilation).
    The result is this thread's scratch: valid until the next one is made.
    """
    (n, h, w, c), (places, kw, stride, dilation) = pixels.shape, moves
    width = (places - 1) * stride + (kw - 1) * dilation + 1
    target, source = landing(w, offset, spread, width)
    canvas = scratch(xp, "canvas", (n, h, width, c), pixels.dtype)
    for zeros in (slice(target.start), slice(target.stop, None)) if spread == 1 else (slice(None),):
        canvas[:, :, zeros] = 0
    canvas[:, :, target] = pixels[:, :, source]
    cols = scratch(xp, "columns", (n, h, places, kw, c), pixels.dtype)
    image, row, pixel, channel = canvas.strides
    if xp is np and dilation == 1:  # a window's pixels lie side by side: copied as one item, not number by number
        window = np.dtype(f"V{kw * pixel}")
        windows = np.ndarray((n, h, places), window, canvas, strides=(image, row, pixel * stride))
        np.ndarray(windows.shape, window, cols)[...] = windows
    else:
        strides = (image, row, pixel * stride, pixel * dilation, channel)
        cols[...] = xp.lib.stride_tricks.as_strided(canvas, cols.shape, strides)
    return cols.reshape(n, h, places, kw * c)
