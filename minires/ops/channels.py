"""What BatchNorm does with the channels of a batch, over all images and pixels: sums, and a straight line for each.

Channels-last memory is viewed as rows of W*C numbers, with the C parameters repeated W times: long rows are what
NumPy is fast at. A batch without pixels (N, C) has rows of C numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

from minires.backend import Array
from minires.parallel import map_pieces, scratch


def rows(x: Array) -> Array:
    """(N, C, H, W) in channels-last memory -> its view as rows (N*H, W*C); (N, C) as it is."""
    return x if x.ndim == 2 else x.transpose(0, 2, 3, 1).reshape(len(x) * x.shape[2], -1)


def tiled(parameter: Array, x: Array) -> Array:
    """A parameter (C,) repeated for the W pixels of a row of x: (W*C,)."""
    return parameter if x.ndim == 2 else parameter[None].repeat(x.shape[3], axis=0).ravel()


def column_sums(xp: ModuleType, values: Array) -> Array:
    """(M, K) -> (K,): the sum over rows, as a product with ones (BLAS is faster at it than `sum(0)`)."""
    return xp.ones(len(values), values.dtype) @ values


def sums(
    xp: ModuleType, x: Array, shift: Array, dy: Array | None = None, start: Callable[[slice], None] | None = None
) -> tuple[Array, Array]:
    """Sum of f and of f * (x - shift) over each channel, (C,) and (C,), where f is dy or else x - shift itself."""
    x_rows, shift_row, dy_rows = rows(x), tiled(shift, x), None if dy is None else rows(dy)

    def piece(part: slice) -> Array:
        if start is not None:
            start(part)
        values = x_rows[part]
        deviation = xp.subtract(values, shift_row, out=scratch(xp, "term", values.shape, values.dtype))
        f = deviation if dy is None else dy_rows[part]
        return xp.stack([column_sums(xp, f), xp.einsum("ij,ij->j", f, deviation)])

    total = sum(map_pieces(xp, len(x_rows), 2 * x_rows[:1].nbytes, piece))
    return tuple(total.reshape(2, -1, x.shape[1]).sum(axis=1))


def affine(
    xp: ModuleType, offset: Array, *terms: tuple[Array, Array], finish: Callable[[slice, Array], None] | None = None
) -> Array:
    """offset + sum of x * factor over the terms (x, factor): x (N, C, ...), factor and offset (C,)."""
    (x, factor), *others = [(rows(array), tiled(factor, array)) for array, factor in terms]
    result, offset = xp.empty_like(terms[0][0]), tiled(offset, terms[0][0])
    result_rows = rows(result)

    def piece(part: slice) -> None:
        out = xp.multiply(x[part], factor, out=result_rows[part])
        out += offset
        for other, its_factor in others:
            out += xp.multiply(other[part], its_factor, out=scratch(xp, "term", out.shape, out.dtype))
        if finish is not None:
            finish(part, out)

    map_pieces(xp, len(x), 2 * x[:1].nbytes, piece)
    return result
