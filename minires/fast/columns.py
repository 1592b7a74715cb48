"""Row columns: the patches of a convolution, gathered along one axis only.

im2col copies all kh*kw neighbors of a pixel side by side. Here only the kw horizontal ones are copied,

    xcols[n, r, j, (b, c)] = xpad[n, r, j*s + b*d, c]               shape (N, H, W_out, kw*C), channels last

and kernel row a joins input row r to output row i wherever r = i*s + a*d - p lies in the image. A convolution is then
a sum of kh matrix products on slices of rows. It is im2col with one of its two loops left to slicing: kw times the
memory of x instead of kh*kw times, and no row of padding is ever multiplied.
"""

from __future__ import annotations

from functools import lru_cache
from types import ModuleType
from typing import NamedTuple

import numpy as np

from minires.backend import Array
from minires.fast.memory import Memory

Joined = tuple[tuple[int, slice, slice], ...]


class Refused(Exception):
    """The input does not fit the layers. The definition says why: see `compiled.py`."""


class Along(NamedTuple):
    """How the kernel moves along one axis."""

    kernel: int
    stride: int
    padding: int
    dilation: int

    def places(self, n: int) -> int:
        """How many places it has on n pixels; less than 1 if it is larger than they are, padding included."""
        return (n + 2 * self.padding - self.dilation * (self.kernel - 1) - 1) // self.stride + 1


class Moves(NamedTuple):
    """A window on images of one size: how it moves down and across, how many places it has, and which rows it joins."""

    down: Along
    across: Along
    out: tuple[int, int]
    joined: Joined
    """(a, input rows r, output rows i) for each kernel row a that joins any; the one that joins most comes first."""


@lru_cache
def place(size: tuple[int, int], down: Along, across: Along) -> Moves:
    """The window on images of `size` (H, W). Raises Refused if it is larger than the padded image."""
    out = [along.places(n) for n, along in zip(size, (down, across), strict=True)]
    if min(out) < 1:
        raise Refused
    joined = [(a, *landing(out[0], a * down.dilation - down.padding, down.stride, size[0])) for a in range(down.kernel)]
    joined = [(a, r, i) for a, r, i in joined if i.start < i.stop]
    joined.sort(key=lambda rows: rows[2].start - rows[2].stop)
    return Moves(down, across, (out[0], out[1]), tuple(joined))


def landing(count: int, offset: int, spread: int, size: int) -> tuple[slice, slice]:
    """Of points i in range(count), each put at i*spread + offset, those that fall in range(size): (where, which)."""
    first = max(0, -(offset // spread))
    stop = max(first, min(count, (size - 1 - offset) // spread + 1))
    start = first * spread + offset
    return slice(start, start + (stop - first) * spread, spread), slice(first, stop)


def row_columns(
    xp: ModuleType, memory: Memory, pixels: Array, offset: int, spread: int, places: int, across: Along
) -> Array:
    """The row columns of some images: pixels (n, H, W, C) -> (n, H, places, kernel width * C).

    Each row is laid on zeros, its pixel 0 at `offset`, the next ones `spread` apart; what falls outside is dropped.
    The kernel then moves along it as `across` says (its padding apart). The result is scratch.
    """
    (n, h, w, c), (kw, stride, _, dilation) = pixels.shape, across
    if kw == 1 and spread == 1 and offset == 0 and (places - 1) * stride < w:
        return pixels[:, :, : (places - 1) * stride + 1 : stride]
    width = (places - 1) * stride + (kw - 1) * dilation + 1
    target, source = landing(w, offset, spread, width)
    shape = (n, h, width, c)
    canvas = memory.zeros(xp, ("canvas", h, w, c, width, offset, spread), shape, pixels.dtype)
    canvas[:, :, target] = pixels[:, :, source]  # the zeros around are those of the last time
    cols = memory.scratch(xp, "columns", (n, h, places, kw, c), pixels.dtype)
    image, row, pixel, channel = canvas.strides
    if xp is np and dilation == 1:  # a window's pixels lie side by side: copied as one item, not number by number
        window = np.dtype(f"V{kw * pixel}")
        windows = np.ndarray((n, h, places), window, canvas, strides=(image, row, pixel * stride))
        np.ndarray(windows.shape, window, cols)[...] = windows
    else:
        strides = (image, row, pixel * stride, pixel * dilation, channel)
        cols[...] = xp.lib.stride_tricks.as_strided(canvas, cols.shape, strides)
    return cols.reshape(n, h, places, kw * c)


def add_products(xp: ModuleType, memory: Memory, cols: Array, matrices: Array, joined: Joined, y: Array) -> None:
    """y[:, q] = the sum of cols[:, p] @ matrices[a] over the joined rows (a, p, q), zero where there are none.

    cols (n, rows, places, K), matrices (kh, K, O), y (n, rows of its own, places, O).
    """
    n, rows, places, o = y.shape
    complete = bool(joined) and y[:, joined[0][2]].shape[1] == rows  # the first one need not be added to anything
    if not complete:
        y[...] = 0
    for number, (a, p, q) in enumerate(joined):
        left = cols[:, p].reshape(n, -1, cols.shape[3])
        if complete and number == 0:
            xp.matmul(left, matrices[a], out=y.reshape(n, rows * places, o))
        else:
            term = memory.scratch(xp, "term", (n, left.shape[1], o), y.dtype)
            y[:, q] += xp.matmul(left, matrices[a], out=term).reshape(n, -1, places, o)
