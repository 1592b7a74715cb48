"""What BatchNorm does with the channels of a batch, over all images and pixels: sums, and a straight line for each.

Channels-last memory is viewed as long rows of numbers, with the C parameters repeated for the pixels of a row: that is
what NumPy is fast at. A line is one line of an image, W*C numbers; a row is one or several lines, one after the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType

from minires.backend import Array
from minires.parallel import map_pieces, scratch

LONG = 8192
"""Numbers in a row, if possible: NumPy's buffer. It first copies a shorter row as often as it fits in there."""


def lines(x: Array) -> Array:
    """(N, C, H, W) in channels-last memory -> its view (N*H, W*C); (N, C) as it is."""
    return x if x.ndim == 2 else x.transpose(0, 2, 3, 1).reshape(len(x) * x.shape[2], -1)


def rows(x: Array) -> Array:
    """The lines of x, several of them in each row: as many as it takes to be LONG, and as divide their number."""
    view = lines(x)
    joined = math.gcd(len(view), 2 ** math.ceil(math.log2(max(1, LONG / view.shape[1]))))
    return view.reshape(len(view) // joined, -1)


def tiled(parameter: Array, x_rows: Array) -> Array:
    """A parameter (C,) repeated for the pixels of a row: (row length,)."""
    return parameter[None].repeat(x_rows.shape[1] // len(parameter), axis=0).ravel()


def column_sums(xp: ModuleType, values: Array) -> Array:
    """(M, K) -> (K,): the sum over rows, as a product with ones (BLAS is faster at it than `sum(0)`)."""
    return xp.ones(len(values), values.dtype) @ values


def sums(
    xp: ModuleType, x: Array, shift: Array, dy: Array | None = None, start: Callable[[slice], None] | None = None
) -> tuple[Array, Array]:
    """Sum of f and of f * (x - shift) over each channel, (C,) and (C,), where f is dy or else x - shift itself."""
    x_rows, dy_rows, line = rows(x), None if dy is None else rows(dy), lines(x).shape[1]
    shift_row = tiled(shift, x_rows)

    def piece(part: slice) -> Array:
        if start is not None:
            start(part)
        values = x_rows[part]
        deviation = xp.subtract(values, shift_row, out=scratch(xp, "term", values.shape, values.dtype))
        f = deviation if dy is None else dy_rows[part]
        f, deviation = f.reshape(-1, line), deviation.reshape(-1, line)  # for sums, shorter rows are better
        return xp.stack([column_sums(xp, f), xp.einsum("ij,ij->j", f, deviation)])

    total = sum(map_pieces(xp, len(x_rows), 2 * x_rows[:1].nbytes, piece))
    return tuple(total.reshape(2, -1, x.shape[1]).sum(axis=1))


def affine(
    xp: ModuleType, offset: Array, *terms: tuple[Array, Array], finish: Callable[[slice, Array], None] | None = None
) -> Array:
    """offset + sum of x * factor over the terms (x, factor): x (N, C, ...), factor and offset (C,)."""
    result = xp.empty_like(terms[0][0])
    result_rows = rows(result)
    (x, factor), *others = [(rows(array), tiled(factor, result_rows)) for array, factor in terms]
    offset = tiled(offset, result_rows)

    def piece(part: slice) -> None:
        out = xp.multiply(x[part], factor, out=result_rows[part])
        out += offset
        for other, its_factor in others:
            out += xp.multiply(other[part], its_factor, out=scratch(xp, "term", out.shape, out.dtype))
        if finish is not None:
            finish(part, out)

    map_pieces(xp, len(x), 2 * x[:1].nbytes, piece)
    return result
