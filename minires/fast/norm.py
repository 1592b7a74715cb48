"""BatchNorm for a worker: what it tells the others, and what it does with their sums.

Every image has a mean and a mean square of its own in each channel; those of the batch are their means over all
images. They are summed in float64, so that var = mean square - mean^2 keeps its digits, and image by image, so that
the statistics have the same bits however the batch is divided. Within an image the sums are float32, and lose digits
where a mean is large against its standard deviation: there they are taken once more, in float64.

Backward, with m values in each channel (see `ops/batchnorm.py` for the derivation):

    dx = weight * inv * (dy - dbias/m - xhat * dweight/m) = scale * (dy + slope * x + back)

Between two convolutions a BatchNorm writes nothing. The next one applies its line and the ReLU behind it to the images
that it loads, and does so again on the way back, so that neither has to be kept; and the one before takes
dy + slope * x + back as the gradient that it loads, and `scale` into its weights. See `conv.py`.
"""

import math

import numpy as np

from minires.backend import Array
from minires.fast.nodes import Node, check_fit
from minires.fast.worker import Meeting, Plan, Refused, Worker, setitem

LONG = 8192
"""Numbers in a row, if possible: NumPy's loops are fastest on long ones."""

FAR = 64
"""A mean is large if its square is FAR times the variance: two of the seven digits of float32 are lost by then."""


class Norm(Node):
    """BatchNorm of images (n, H, W, C) or of (n, C). in_place: whether dx may be written over x."""

    fresh = True
    before_conv = after_conv = False
    """Whether the convolution behind it applies its line, and whether the one before it finishes its dx."""

    def forward(self, x: Array, worker: Worker) -> Plan:
        check_fit(x, self.layer.weight.value, 0, (2, 4), worker)
        self.x, self.trained, total = x, self.layer.training, None
        self.scale_row, self.offset_row, self.slope_row, self.back_row = worker.new((4, _rows(x).shape[1]), x.dtype)
        if self.trained:
            sums = sums_of_images(worker, x, x)
            if worker.xp is np and x.dtype == np.float32:
                worker.do(_recount, sums, x)
            total = yield Meeting(sums)
        worker.do(self._set_line, total, worker)
        return x if self.before_conv else self.line(x, worker.take(x.shape, x.dtype), worker)

    def _set_line(self, total: Array | None, worker: Worker) -> None:
        """scale and offset, from the sums of all images, or from the running statistics, which follow the former."""
        layer = self.layer
        self.mean, var = layer.running_mean, layer.running_var
        if total is not None:
            self.count = count = total[0] * (self.x[0].size // self.x.shape[-1])
            if worker.xp is np and count.real < 2:
                raise Refused
            self.mean, square = total[1:].reshape(2, -1) / count
            var = square - self.mean**2
            var = var * (var.real > 0)  # a rounding error below 0 is 0
            if worker.images.start == 0:  # once
                for name, new in (("running_mean", self.mean), ("running_var", var * (count / (count - 1)))):
                    old, momentum = getattr(layer, name), layer.momentum
                    setattr(layer, name, (1 - momentum) * old + (momentum * new).astype(old.dtype))
        self.inv = (var + layer.eps) ** -0.5
        self.scale = layer.weight.value * self.inv
        _repeat(self.scale, self.scale_row)
        _repeat(layer.bias.value - self.mean * self.scale, self.offset_row)

    def line(self, x: Array, y: Array, worker: Worker) -> Array:
        """scale * x + offset, in y."""
        rows = _rows(y)
        worker.do(worker.xp.multiply, _rows(x), self.scale_row, out=rows)
        worker.do(worker.xp.add, rows, self.offset_row, out=rows)
        return y

    def backward(self, dy: Array, worker: Worker) -> Plan:
        x, sums = self.x, sums_of_images(worker, dy, self.x)
        worker.do(self._add_gradients, sums, worker.gradient(self.layer.bias), worker.gradient(self.layer.weight))
        if self.trained:
            worker.do(self._set_gradient, (yield Meeting(sums)))
        if self.after_conv:
            return dy
        dx = x if self.in_place else worker.take(x.shape, x.dtype)
        inner = self.inner_gradient(x, dy, worker, dx) if self.trained else dy  # the statistics do not depend on x
        worker.do(worker.xp.multiply, _rows(inner), self.scale_row, out=_rows(dx))
        return dx

    def _add_gradients(self, sums: Array, dbias: Array, dweight: Array) -> None:
        for gradient, found in zip((dbias, dweight), self._gradients(sums.sum(axis=0)), strict=True):
            gradient += found

    def _gradients(self, sums: Array) -> tuple[Array, Array]:
        """dbias and dweight from the sums of dy and of dy * x."""
        dbias, products = sums[1:].reshape(2, -1)
        return dbias, (products - self.mean * dbias) * self.inv

    def _set_gradient(self, total: Array) -> None:
        dbias, dweight = self._gradients(total / self.count)
        slope = -self.inv * dweight
        _repeat(slope, self.slope_row)
        _repeat(-dbias - slope * self.mean, self.back_row)

    def inner_gradient(self, x: Array, dy: Array, worker: Worker, out: Array | None = None) -> Array:
        """dy + slope * x + back, in `out` or in scratch: dx before it is scaled."""
        out = worker.scratch("gradient", x.shape, x.dtype) if out is None else out
        rows = _rows(out)
        worker.do(worker.xp.multiply, _rows(x), self.slope_row, out=rows)
        worker.do(worker.xp.add, rows, self.back_row, out=rows)
        worker.do(worker.xp.add, rows, _rows(dy), out=rows)
        return out


def _repeat(values: Array, row: Array) -> None:
    row.reshape(-1, len(values))[...] = values


def _rows(x: Array) -> Array:
    """x as rows of several lines of an image each: as many as it takes to be LONG, and as divide those of an image."""
    n, h, w, c = x.shape if x.ndim == 4 else (len(x), 1, 1, x.shape[1])
    joined = math.gcd(h, 2 ** math.ceil(math.log2(max(1, LONG / (w * c)))))
    return x.reshape(n * h // joined, joined * w * c)


def sums_of_images(worker: Worker, f: Array, g: Array) -> Array:
    """A row for each image: 1, and in each channel the sums of f and of f * g over its pixels: (n, 1 + 2C)."""
    xp, n, c, dtype = worker.xp, len(f), f.shape[-1], f.dtype
    lines, others = (x.reshape(n, 1 if x.ndim == 2 else x.shape[1], -1) for x in (f, g))
    columns = worker.scratch("columns of sums", (n, 2, lines.shape[2]), dtype)
    # a product is faster than `sum`
    worker.do(xp.matmul, xp.ones((1, lines.shape[1]), dtype), lines, out=columns[:, :1])
    worker.do(lambda: setitem(columns, np.s_[:, 1], xp.einsum("nij,nij->nj", lines, others)))
    sums = worker.new((n, 1 + 2 * c), np.result_type(dtype, np.float64))
    sums[:, 0] = 1
    few = worker.scratch("sums", (n, 2, 1, c), dtype)
    worker.do(xp.matmul, xp.ones((1, lines.shape[2] // c), dtype), columns.reshape(n, 2, -1, c), out=few)
    worker.do(setitem, sums, np.s_[:, 1:], few.reshape(n, -1))
    return sums


def _recount(sums: Array, x: Array) -> None:
    """The sums of x and x * x, once more in float64, of images with a mean that is far from zero."""
    once, squares = sums[:, 1:].reshape(len(x), 2, -1).transpose(1, 0, 2)
    far = once * once > squares * (x[0].size // x.shape[-1] * FAR / (1 + FAR))
    for image in np.flatnonzero(far.any(axis=1)):
        values = x[image].reshape(-1, x.shape[-1]).astype(np.float64)
        once[image], squares[image] = values.sum(axis=0), (values * values).sum(axis=0)
