"""How BatchNorm sees images, as long rows of numbers with the C parameters repeated for their pixels; and its sums.

Long rows are what NumPy is fast at. All of this is for x (N, C, H, W) in channels-last memory, or x (N, C).
"""

from __future__ import annotations

import math
from types import ModuleType

import numpy as np

from minires.backend import Array
from minires.ops.layout import Fill
from minires.parallel import map_pieces, scratch

LONG = 8192
"""Numbers in a row, if possible: NumPy's buffer. It first copies a shorter row as often as it fits in there."""


EVERY = 32
"""Of so many lines of an image, one is looked at for a first idea of its mean."""


def lines(x: Array) -> Array:
    """x -> its view (N, H, W*C), a row for each line of an image; (N, C) -> (N, 1, C)."""
    return x[:, None] if x.ndim == 2 else x.transpose(0, 2, 3, 1).reshape(len(x), x.shape[2], -1)


def rows(x: Array) -> Array:
    """x -> its view as rows of several lines each: as many as it takes to be LONG, and as divide those of an image."""
    n, h, length = lines(x).shape
    joined = math.gcd(h, 2 ** math.ceil(math.log2(max(1, LONG / length))))
    return lines(x).reshape(n, h // joined, joined * length)


def repeated(parameters: Array, x_rows: Array) -> Array:
    """Parameters (..., C) repeated for the pixels of a row: (..., row length)."""
    times = x_rows.shape[2] // parameters.shape[-1]
    return parameters[..., None, :].repeat(times, axis=-2).reshape(*parameters.shape[:-1], x_rows.shape[2])


def image_sums(xp: ModuleType, channels: int, f: Array, g: Array | None = None) -> Array:
    """Sum over the pixels of each image of f, or of f * g, both given as `lines` -> (n, C)."""
    columns = ones_times(xp, f) if g is None else xp.einsum("nij,nij->nj", f, g)
    return ones_times(xp, columns.reshape(len(f), -1, channels))[:, 0]


def ones_times(xp: ModuleType, f: Array) -> Array:
    """(n, M, K) -> (n, 1, K): the sum over the rows of each matrix, as a product (faster than `sum`)."""
    return xp.ones((1, f.shape[1]), f.dtype) @ f


class Moments:
    """Mean and variance of each channel of a batch, taken image by image, in any order; see `batchnorm.py`."""

    def __init__(self, xp: ModuleType, n: int, channels: int, dtype: np.dtype) -> None:
        self.xp = xp
        self.shifts, self.away, self.squares = xp.empty((3, n, channels), dtype)

    def take(self, part: slice, x: Array) -> None:
        """The images `part` of the batch are x (n, C, ...)."""
        xp, (n, c), f, m = self.xp, x.shape[:2], lines(x), x[0, 0].size
        step = min(f.shape[1], EVERY)
        some = f[:, step // 2 :: step].reshape(n, -1, c)
        first = some[:, :1]  # a channel that is constant differs from it by 0, not by rounding errors
        shift = first + ones_times(xp, some - first) / some.shape[1]
        d = xp.subtract(f, repeated(shift, f), out=scratch(xp, "term", f.shape, f.dtype))
        self.shifts[part] = shift[:, 0]
        self.away[part], self.squares[part] = image_sums(xp, c, d) / m, image_sums(xp, c, d, d) / m

    def of_the_batch(self) -> tuple[Array, Array]:
        """Mean and biased variance, (C,) and (C,)."""
        ones, n = self.xp.ones_like(self.away[:, 0]), len(self.away)
        means, variances = self.shifts + self.away, self.squares - self.away**2
        mean = means[0] + ones @ (means - means[0]) / n
        mean = mean + ones @ (means - mean) / n  # the first image may lie far away
        return mean, ones @ (variances + (means - mean) ** 2) / n


def moments_of(xp: ModuleType, x: Array) -> Moments:
    """Those of a whole batch."""
    moments = Moments(xp, *x.shape[:2], x.dtype)
    map_pieces(xp, len(x), 2 * x[:1].nbytes, lambda part: moments.take(part, x[part]))
    return moments


def gradient_sums(xp: ModuleType, dy: Array, x: Array, mean: Array, fill: Fill) -> tuple[Array, Array]:
    """Sum of dy, and of dy * (x - mean), over each channel: (C,) and (C,). fill(part) may write each piece of dy."""
    x_rows, f, sums = rows(x), lines(dy), xp.empty((2, *x.shape[:2]), x.dtype)
    mean_row = repeated(mean, x_rows)

    def piece(part: slice) -> None:
        fill(part)
        values = x_rows[part]
        d = xp.subtract(values, mean_row, out=scratch(xp, "term", values.shape, x.dtype)).reshape(f[part].shape)
        sums[0, part], sums[1, part] = image_sums(xp, len(mean), f[part]), image_sums(xp, len(mean), f[part], d)

    map_pieces(xp, len(x), 2 * x[:1].nbytes, piece)
    return tuple(xp.ones(len(x), x.dtype) @ sums)
