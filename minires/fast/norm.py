"""BatchNorm for a way: what it tells the other pieces, and what it does with their sums.

Every image has a mean and a mean square of its own in each channel; those of the batch are their means over all
images. They are summed in float64, so that var = mean square - mean^2 keeps its digits, and image by image, so that
the statistics have the same bits however the batch is divided. Within an image the sums are float32, and lose digits
where a mean is large against its standard deviation: there they are taken once more, in float64.

Backward, with m values in each channel (see `ops/batchnorm.py` for the derivation):

    dx = weight * inv * (dy - dbias/m - xhat * dweight/m) = scale * dy + slope * x + offset
"""

import math

import numpy as np

from minires.backend import Array
from minires.fast.nodes import Node, check_fit
from minires.fast.piece import Meeting, Plan, Refused, Way, setitem
from minires.nn import Layer

LONG = 8192
"""Numbers in a row, if possible: NumPy's loops are fastest on long ones."""

FAR = 64
"""A mean is large if its square is FAR times the variance: two of the seven digits of float32 are lost by then."""


class Fit:
    """What the pieces know of the channels, once the sums of all images are known. Rows are repeated along a line."""

    def __init__(self, layer: Layer, x: Array, way: Way) -> None:
        self.layer, self.pixels, self.on_host = layer, x[0].size // x.shape[-1], way.xp is np
        self.scale_row, self.offset_row, self.slope_row, self.back_row = way.new((4, _rows(x).shape[1]), x.dtype)

    def forward(self, total: Array | None, follows: bool) -> None:
        """Rows of the forward pass. follows: whether the running statistics are to follow, which is done once."""
        layer, self.count = self.layer, None
        self.mean, var = layer.running_mean, layer.running_var
        if total is not None:
            self.count = count = total[0] * self.pixels
            if self.on_host and count.real < 2:
                raise Refused
            self.mean, square = total[1:].reshape(2, -1) / count
            var = square - self.mean**2
            var = var * (var.real > 0)  # a rounding error below 0 is 0
            if follows:
                for name, new in (("running_mean", self.mean), ("running_var", var * (count / (count - 1)))):
                    old, momentum = getattr(layer, name), layer.momentum
                    setattr(layer, name, (1 - momentum) * old + (momentum * new).astype(old.dtype))
        self.inv = (var + layer.eps) ** -0.5
        self.scale = layer.weight.value * self.inv
        self._repeat(self.scale_row, self.scale)
        self._repeat(self.offset_row, layer.bias.value - self.mean * self.scale)

    def backward(self, total: Array) -> None:
        """Rows of the backward pass."""
        dbias, dweight = self.gradients(total / self.count)
        slope = -self.scale * self.inv * dweight
        self._repeat(self.slope_row, slope)
        self._repeat(self.back_row, -self.scale * dbias - slope * self.mean)

    def gradients(self, sums: Array) -> tuple[Array, Array]:
        """dbias and dweight from the sums of dy and of dy * x."""
        dbias, products = sums[1:].reshape(2, -1)
        return dbias, (products - self.mean * dbias) * self.inv

    def _repeat(self, row: Array, values: Array) -> None:
        row.reshape(-1, len(values))[...] = values


class Norm(Node):
    """BatchNorm of images (n, H, W, C) or of (n, C). in_place: whether dx may be written over x."""

    fresh = True

    def forward(self, x: Array, way: Way) -> Plan:
        check_fit(x, self.layer.weight.value, 0, (2, 4), way)
        total, y = None, way.take(x.shape, x.dtype)
        if self.layer.training:
            sums = sums_of_images(way, x, x)
            if way.xp is np and x.dtype == np.float32:
                way.do(_recount, sums, x)
            total = yield Meeting(sums)
        if way.leads:
            way.worker.shared[self] = Fit(self.layer, x, way)
            way.do(way.worker.shared[self].forward, total, way.images.start == 0)
        fit = way.worker.shared[self]
        rows = _rows(y)
        way.do(way.xp.multiply, _rows(x), fit.scale_row, out=rows)
        way.do(way.xp.add, rows, fit.offset_row, out=rows)
        way.tape.append((x, fit, total is not None))
        return y

    def backward(self, dy: Array, way: Way) -> Plan:
        xp, layer, (x, fit, trained) = way.xp, self.layer, way.tape.pop()
        sums = sums_of_images(way, dy, x)
        both = way.gradient(layer.bias), way.gradient(layer.weight)

        def add_gradients() -> None:
            for gradient, found in zip(both, fit.gradients(sums.sum(axis=0)), strict=True):
                gradient += found.astype(gradient.dtype)

        way.do(add_gradients)
        dx = x if self.in_place else way.take(x.shape, x.dtype)
        rows, dy_rows = _rows(dx), _rows(dy)
        if not trained:  # the running statistics do not depend on x
            way.do(xp.multiply, dy_rows, fit.scale_row, out=rows)
            return dx
        total = yield Meeting(sums)
        if way.leads:
            way.do(fit.backward, total)
        term = way.scratch("term", rows.shape, dy.dtype)
        way.do(xp.multiply, _rows(x), fit.slope_row, out=rows)
        way.do(xp.add, rows, fit.back_row, out=rows)
        way.do(xp.multiply, dy_rows, fit.scale_row, out=term)
        way.do(xp.add, rows, term, out=rows)
        return dx


def _rows(x: Array) -> Array:
    """x as rows of several lines of an image each: as many as it takes to be LONG, and as divide those of an image."""
    n, h, w, c = x.shape if x.ndim == 4 else (len(x), 1, 1, x.shape[1])
    joined = math.gcd(h, 2 ** math.ceil(math.log2(max(1, LONG / (w * c)))))
    return x.reshape(n * h // joined, joined * w * c)


def sums_of_images(way: Way, f: Array, g: Array) -> Array:
    """A row for each image: 1, and in each channel the sums of f and of f * g over its pixels: (n, 1 + 2C)."""
    xp, n, c, dtype = way.xp, len(f), f.shape[-1], f.dtype
    lines, others = (x.reshape(n, 1 if x.ndim == 2 else x.shape[1], -1) for x in (f, g))
    columns = way.scratch("columns of sums", (n, 2, lines.shape[2]), dtype)
    way.do(xp.matmul, xp.ones((1, lines.shape[1]), dtype), lines, out=columns[:, :1])  # a product is faster than `sum`
    way.do(lambda: setitem(columns, np.s_[:, 1], xp.einsum("nij,nij->nj", lines, others)))
    sums = way.new((n, 1 + 2 * c), np.result_type(dtype, np.float64))
    sums[:, 0] = 1
    few = way.scratch("sums", (n, 2, 1, c), dtype)
    way.do(xp.matmul, xp.ones((1, lines.shape[2] // c), dtype), columns.reshape(n, 2, -1, c), out=few)
    way.do(setitem, sums, np.s_[:, 1:], few.reshape(n, -1))
    return sums


def _recount(sums: Array, x: Array) -> None:
    """The sums of x and x * x, once more in float64, of images with a mean that is far from zero."""
    n, c, pixels = len(x), x.shape[-1], x[0].size // x.shape[-1]
    once, squares = sums[:, 1 : c + 1], sums[:, c + 1 :]
    far = (once * once * (1 + FAR) > squares * (pixels * FAR)).any(axis=1)
    values = x.reshape(n, pixels, c)[far].astype(np.float64)
    once[far], squares[far] = values.sum(axis=1), (values * values).sum(axis=1)
