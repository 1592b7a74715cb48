"""BatchNorm for a piece: what it tells the other pieces, and what it does with their sums.

Every image has a mean and a mean square of its own in each channel; those of the batch are their means over all
images. They are summed in float64, so that var = mean square - mean^2 keeps its digits, and image by image, so that
the statistics have the same bits however the batch is divided. Where an image's mean is large against its standard
deviation, the float32 sums within the image would lose digits: there they are taken about the mean.

Backward, with m values in each channel (see `ops/batchnorm.py` for the derivation):

    dx = weight * inv * (dy - dbias/m - xhat * dweight/m) = scale * dy + slope * x + offset
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from minires.backend import Array
from minires.fast.columns import Refused
from minires.fast.memory import aligned_copy
from minires.fast.nodes import Node, check_fit
from minires.fast.piece import Pass, Piece
from minires.nn import Layer

LONG = 8192
"""Numbers in a row, if possible: NumPy's loops are fastest on long ones."""

FAR = 64
"""A mean is large if its square is FAR times the variance: two of the seven digits of float32 are lost by then."""


class Fit(NamedTuple):
    """What BatchNorm knows of a channel; the rows are repeated for the pixels of a row of x."""

    mean: Array
    inv: Array
    count: int
    """Values in each channel of the batch; 0 where the running statistics are used, which do not depend on x."""
    far: bool
    """Whether a mean is large: scale * x and scale * mean would then be large numbers with a small difference."""
    mean_row: Array
    scale_row: Array
    offset_row: Array


class NormNode(Node):
    """BatchNorm of images (n, H, W, C) or of (n, C)."""

    def __init__(self, layer: Layer, in_place: bool) -> None:
        super().__init__(layer)
        self.in_place = in_place
        """Whether the backward pass may write dx over x: nobody else has kept it."""

    def line(self) -> tuple[Array, Array]:
        """(scale, offset): in evaluation each channel goes through the straight line y = scale * x + offset."""
        layer = self.layer
        scale = layer.weight.value / (layer.running_var + layer.eps) ** 0.5
        return scale, layer.bias.value - layer.running_mean * scale

    def forward(self, x: Array, piece: Piece) -> Pass:
        layer, xp = self.layer, piece.xp
        check_fit(x, layer.weight.value, 0, (2, 4), piece)
        total = (yield image_moments(xp, x)) if layer.training else None
        fit = piece.once((self, "fit"), lambda: self._fit(x, total, piece))
        y, x_rows = piece.memory.take(xp, x.shape, x.dtype), rows(x)
        y_rows = y.reshape(x_rows.shape)
        if fit.far:
            xp.subtract(x_rows, fit.mean_row, out=y_rows)
            y_rows *= fit.scale_row
        else:
            xp.multiply(x_rows, fit.scale_row, out=y_rows)
        y_rows += fit.offset_row
        piece.keep((x, fit))
        return y

    def _fit(self, x: Array, total: Array | None, piece: Piece) -> Fit:
        layer, wide = self.layer, np.result_type(x.dtype, np.float64)
        mean, var, count = layer.running_mean.astype(wide), layer.running_var.astype(wide), 0
        if total is not None:
            mean, var, count = self._statistics(total, x, piece)
        scale = (var + layer.eps) ** -0.5 * layer.weight.value
        far = is_far(piece.xp, mean, var + layer.eps)
        offset = layer.bias.value - (0 if far else mean * scale)
        lines = (repeated(piece.xp, values, rows(x)) for values in (mean, scale, offset))
        return Fit(mean, (var + layer.eps) ** -0.5, count, far, *lines)

    def _statistics(self, total: Array, x: Array, piece: Piece) -> tuple[Array, Array, int]:
        """Mean and variance of the batch, and the number of values in each channel; the running ones follow."""
        layer, n = self.layer, round(float(total[0].real))
        count = n * (x[0].size // x.shape[-1])
        if count < 2:
            raise Refused
        mean, square = total[1:].reshape(2, -1) / n
        var = square - mean * mean
        if var.dtype.kind == "f":
            var = var.clip(0)  # a rounding error below it
        if piece.leads:
            momentum, like = layer.momentum, layer.running_mean.dtype
            layer.running_mean = (1 - momentum) * layer.running_mean + (momentum * mean).astype(like)
            unbiased = var * (count / (count - 1))
            layer.running_var = (1 - momentum) * layer.running_var + (momentum * unbiased).astype(like)
        return mean, var, count

    def backward(self, dy: Array, piece: Piece) -> Pass:
        xp, (x, fit) = piece.xp, piece.tape.pop()
        x_rows = rows(x)
        dx = x if self.in_place else piece.memory.take(xp, x.shape, x.dtype)
        dx_rows, dy_rows, center = dx.reshape(x_rows.shape), dy.reshape(x_rows.shape), fit.mean
        if fit.far:
            x_rows, x, center = xp.subtract(x_rows, fit.mean_row, out=dx_rows), dx, 0 * fit.mean
        sums = image_sums(xp, dy, x).astype(center.dtype)
        sums[:, 1] = (sums[:, 1] - center * sums[:, 0]) * fit.inv
        piece.add_gradient((self, "both"), sums.sum(axis=0))
        if not fit.count:
            return xp.multiply(dy_rows, fit.scale_row, out=dx_rows).reshape(x.shape)
        total = yield sums.reshape(len(x), -1)
        slope, offset = piece.once((self, "slope"), lambda: self._slope(xp, total, fit, center, x_rows))
        xp.multiply(x_rows, slope, out=dx_rows)
        dx_rows += offset
        dx_rows += xp.multiply(dy_rows, fit.scale_row, out=piece.memory.scratch(xp, "term", dy_rows.shape, dy.dtype))
        return dx

    def _slope(self, xp: ModuleType, total: Array, fit: Fit, center: Array, x_rows: Array) -> tuple[Array, Array]:
        """dx = scale * dy + slope * (x - mean) - scale * dbias / m: slope and offset, as rows."""
        scale = self.layer.weight.value * fit.inv
        dbias, dweight = total.reshape(2, -1) / fit.count
        slope = -scale * fit.inv * dweight
        return repeated(xp, slope, x_rows), repeated(xp, -scale * dbias - slope * center, x_rows)

    def add_gradients(self, gradients: dict[Any, Array]) -> None:
        dbias, dweight = gradients[self, "both"].astype(self.layer.weight.value.dtype)
        self.layer.weight.add_grad(dweight)
        self.layer.bias.add_grad(dbias)


def rows(x: Array) -> Array:
    """x as rows of several lines of an image each: as many as it takes to be LONG, and as divide those of an image."""
    if x.ndim == 2:
        return x
    n, h, w, c = x.shape
    joined = math.gcd(h, 2 ** math.ceil(math.log2(max(1, LONG / (w * c)))))
    return x.reshape(n * h // joined, joined * w * c)


def repeated(xp: ModuleType, parameters: Array, x_rows: Array) -> Array:
    """Parameters (C,) repeated for the pixels of a row, in the dtype of x."""
    return aligned_copy(xp, xp.tile(parameters.astype(x_rows.dtype), x_rows.shape[1] // len(parameters)))


def image_sums(xp: ModuleType, f: Array, g: Array) -> Array:
    """For each image, the sums over its pixels of f and of f * g: (n, H, W, C) twice -> (n, 2, C)."""
    n, c = len(f), f.shape[-1]
    f = f.reshape(n, 1 if f.ndim == 2 else f.shape[1], -1)
    columns = xp.empty((n, 2, f.shape[2]), f.dtype)
    xp.matmul(xp.ones((1, f.shape[1]), f.dtype), f, out=columns[:, :1])  # a product is faster than `sum`
    columns[:, 1] = xp.einsum("nij,nij->nj", f, g.reshape(f.shape))
    return (xp.ones((1, f.shape[2] // c), f.dtype) @ columns.reshape(n, 2, -1, c))[:, :, 0]


def image_moments(xp: ModuleType, x: Array) -> Array:
    """A row for each image: 1, its mean and its mean square in each channel: (n, 1 + 2C), float64 or wider."""
    n, c = len(x), x.shape[-1]
    moments = xp.ones((n, 1 + 2 * c), np.result_type(x.dtype, np.float64))
    pixels = x[0].size // c
    moments[:, 1:] = image_sums(xp, x, x).reshape(n, -1) / pixels
    mean, square = moments[:, 1 : c + 1], moments[:, c + 1 :]
    if is_far(xp, mean, square - mean * mean) and pixels > 1:
        far = (abs(mean) ** 2 > FAR * abs(square - mean * mean)).any(axis=1)
        shift = mean[far].astype(x.dtype)
        d = x[far] - shift[:, None, None]
        away, squares = image_sums(xp, d, d).swapaxes(0, 1).astype(moments.dtype) / pixels
        mean[far] = shift + away
        square[far] = squares - away * away + mean[far] * mean[far]
    return moments


def is_far(xp: ModuleType, mean: Array, var: Array) -> bool:
    """Whether any mean is large against its standard deviation. (A GPU is not waited for: there, all count as such.)"""
    return xp is not np or bool((abs(mean) ** 2 > FAR * abs(var)).any())
