"""Convolution, as fast as matrix products allow.

Row columns. im2col copies all kh*kw neighbors of a pixel side by side. Here only the kw horizontal ones are copied,

    cols[n, r, j, (b, c)] = xpad[n, r, j*s + b*d, c]                shape (N, H, W_out, kw*C), channels last

and kernel row a joins input row r to output row i wherever r = i*s + a*d - p lies in the image. So a convolution is
a sum of kh matrix products on slices of rows, with W_a[(b, c), o] = weight[o, c, a, b]:

    y[n, i, j, :] += cols[n, r, j, :] @ W_a                         for every a and every (r, i) that it joins

It is im2col with one of its two loops left to slicing: kw-fold memory instead of kh*kw-fold, and it is made for a
few images at a time, so that it stays in the cache. Rows outside the image are never touched.

Backward. Along a row, let up[n, i, v] be dy with s - 1 zeros between its pixels, up[j*s] = dy[j]. Pixel v of x took
part in output j through tap b if v = j*s + b*d - p, so with q = kw - 1 - b (the kernel flipped)

    dx[v] = sum over b of  weight_b.T dy[(v + p - b*d) / s] = sum over q of  weight_{kw-1-q}.T uppad[v + q*d]

where uppad is `up` moved right by (kw-1)*d - p: again a convolution along the row, of stride 1. Its row columns
dycols[n, i, v, (q, o)] serve both gradients, joined by the same rows (r, i) as in the forward pass:

    dx[n, r, v, :] += dycols[n, i, v, :] @ V_a         V_a[(q, o), c] = weight[o, c, a, kw-1-q]
    dV_a.T         += x[n, r].T @ dycols[n, i]         summed over all joined rows and images

so nothing but x has to be kept from the forward pass, and nothing is scattered. The products are made one image at
a time: BLAS has a faster way for small ones.

Neighbors. Between two convolutions, the images and gradients are made where they are loaded, a few at a time, while
they are in the cache anyway. So relu(BatchNorm(x)) is never kept: it is computed again on the way back.
"""

import math

import numpy as np

from minires.backend import Array
from minires.fast.nodes import Node, check_fit, gate, rectify
from minires.fast.worker import Worker, channels_first, setitem
from minires.threads import divide

COLUMN_BYTES, GPU_COLUMN_BYTES = 2**21, 2**29
"""Bytes of columns that are made at once: about what a core's own cache holds; on a GPU, half a gigabyte."""

Joined = list[tuple[int, slice, slice]]
"""(kernel row a, input rows r, output rows i)"""


class Conv(Node):
    """A convolution, and what it does for BatchNorms beside it.

    folded: at inference, the layer behind it, which goes into its weights. before: the Norm whose line, and the ReLU
    behind it, it applies to the images as it loads them. after: the Norm whose dx it finishes as it loads dy.
    """

    fresh = True
    folded = before = after = None

    def forward(self, x: Array, worker: Worker) -> Array:
        layer, weight = self.layer, self.layer.weight.value
        check_fit(x, weight, 1, (4,), worker)
        (o, c, kh, kw), (sh, sw), (ph, pw), (dh, dw) = weight.shape, layer.stride, layer.padding, layer.dilation
        ho, wo = layer._output_shape(channels_first(x).shape)[2:]
        joined = [(a, *landing(ho, a * dh - ph, sh, x.shape[1])) for a in range(kh)]
        joined = sorted(((a, r, i) for a, r, i in joined if i.start < i.stop), key=lambda j: j[2].start - j[2].stop)
        matrices = worker.scratch("matrices", (kh, kw * c, o), x.dtype)
        row = worker.scratch("bias", (wo * o,), x.dtype)
        worker.do(self._set_weights, matrices.reshape(kh, kw, c, o), row.reshape(wo, o))
        y = worker.take((len(x), ho, wo, o), x.dtype)
        for part in in_parts(x, x.shape[1] * wo * kw):
            cols = row_columns(worker, self._images(x[part], worker), pw, 1, (wo, kw, sw, dw))
            add_products(worker, cols, matrices, joined, y[part])
        if layer.bias is not None or self.folded is not None:
            lines = y.reshape(len(x), ho, wo * o)
            worker.do(worker.xp.add, lines, row, out=lines)
        self.x, self.joined = x, joined
        return y

    def _images(self, x: Array, worker: Worker) -> Array:
        """x, or the activations of the BatchNorm before: they are computed wherever they are needed."""
        if self.before is None:
            return x
        images = self.before.line(x, worker.scratch("images", x.shape, x.dtype), worker)
        return rectify(images, images, worker)

    def _set_weights(self, matrices: Array, row: Array) -> None:
        """The W_a, one for each kernel row, and the bias: as they are now."""
        weight, bias = self.layer.weight.value, 0 if self.layer.bias is None else self.layer.bias.value
        if self.folded is not None:
            scale = self.folded.weight.value / (self.folded.running_var + self.folded.eps) ** 0.5
            weight = weight * scale[:, None, None, None]
            bias = self.folded.bias.value + (bias - self.folded.running_mean) * scale
        matrices[...], row[...] = weight.transpose(2, 3, 1, 0), bias

    def backward(self, dy: Array, worker: Worker) -> Array:
        weight, layer, xp, x = self.layer.weight, self.layer, worker.xp, self.x
        (_, _, w, c), (o, _, kh, kw), (_, sw), (_, dw) = x.shape, weight.value.shape, layer.stride, layer.dilation
        matrices = worker.scratch("matrices", (kh, kw * o, c), dy.dtype)
        dmatrices = worker.scratch("dmatrices", (kh, c, kw, o), dy.dtype)
        worker.do(self._begin_backward, matrices.reshape(kh, kw, o, c), dmatrices)
        wants_dx = worker.program.wants_dx or self is not worker.program.nodes[0]
        dx = worker.take(x.shape, dy.dtype) if wants_dx else x[:0]
        for part in in_parts(dy, dy.shape[1] * w * kw):
            gradient = self.after.inner_gradient(self.after.x[part], dy[part], worker) if self.after else dy[part]
            cols = row_columns(worker, gradient, (kw - 1) * dw - layer.padding[1], sw, (w, kw, 1, dw))
            images = self._images(x[part], worker)
            self._add_dmatrices(images, cols, dmatrices, worker)
            if wants_dx:
                add_products(worker, cols, matrices, [(a, i, r) for a, r, i in self.joined], dx[part])
                if self.before:
                    gate(dx[part], images, dx[part], worker)
        if self.after:
            worker.give_back(self.after.x)
        worker.do(self._end_backward, dmatrices, worker.gradient(weight))
        if layer.bias is not None:
            worker.do(lambda dbias: xp.add(dbias, dy.sum(axis=(0, 1, 2)), out=dbias), worker.gradient(layer.bias))
        return dx

    def _begin_backward(self, taps: Array, dmatrices: Array) -> None:
        """The V_a, as they are now, and no gradient yet. Before a BatchNorm dy is in units of its `scale`."""
        taps[...], dmatrices[...] = self.layer.weight.value[:, :, :, ::-1].transpose(2, 3, 0, 1), 0
        if self.after:
            taps *= self.after.scale[:, None]

    def _end_backward(self, dmatrices: Array, dweight: Array) -> None:
        if self.after:
            dmatrices *= self.after.scale
        dweight += dmatrices[:, :, ::-1].transpose(3, 1, 0, 2)

    def _add_dmatrices(self, x: Array, cols: Array, dmatrices: Array, worker: Worker) -> None:
        """dV_a += x[:, r].T @ cols[:, i], for all a and images."""
        xp, rows, n, dtype = worker.xp, dmatrices.reshape(len(dmatrices), -1), len(x), cols.dtype
        for a, r, i in self.joined:
            left, right = lines_of(x, r, worker), lines_of(cols, i, worker)
            products = worker.scratch("products", (n, x.shape[3], cols.shape[3]), dtype)
            worker.do(xp.matmul, left.transpose(0, 2, 1), right, out=products)
            term = worker.scratch("dV", rows[a].shape, dtype)
            worker.do(xp.matmul, xp.ones(n, dtype), products.reshape(n, -1), out=term)  # faster than `sum`
            worker.do(xp.add, rows[a], term, out=rows[a])


def landing(count: int, offset: int, spread: int, size: int) -> tuple[slice, slice]:
    """Of points i in range(count), each put at i*spread + offset, those that fall in range(size): (where, which)."""
    first = max(0, -(offset // spread))
    stop = max(first, min(count, (size - 1 - offset) // spread + 1))
    start = first * spread + offset
    return slice(start, start + (stop - first) * spread, spread), slice(first, stop, 1)


def row_columns(worker: Worker, images: Array, offset: int, spread: int, moves: tuple[int, int, int, int]) -> Array:
    """The row columns of some images: (n, H, W, C) -> (n, H, places, kernel width * C), in scratch.

    Each row is laid on zeros: its pixel 0 at `offset`, the next ones `spread` apart; what falls outside is dropped.
    `moves` says how the kernel moves along it: (number of places, kernel width, stride, dilation).
    """
    xp, (n, h, w, c), (places, kw, stride, dilation) = worker.xp, images.shape, moves
    if (kw, stride, spread, offset) == (1, 1, 1, 0) and places == w:
        return images
    width = (places - 1) * stride + (kw - 1) * dilation + 1
    target, source = landing(w, offset, spread, width)
    canvas = worker.scratch(("canvas", h, w, c, width, offset, spread), (n, h, width, c), images.dtype)
    worker.do(setitem, canvas[:, :, target], ..., images[:, :, source])  # the zeros around are still there
    cols = worker.scratch("columns", (n, h, places, kw * c), images.dtype)
    image, row, pixel, number = canvas.strides
    if xp is np and dilation == 1:  # a window's pixels lie side by side: copied as one item, not number by number
        window = np.dtype(f"V{kw * pixel}")
        windows = np.ndarray((n, h, places), window, canvas, strides=(image, row, pixel * stride))
        worker.do(setitem, np.ndarray(windows.shape, window, cols), ..., windows)
    else:
        shape, strides = (n, h, places, kw, c), (image, row, pixel * stride, pixel * dilation, number)
        windows = xp.lib.stride_tricks.as_strided(canvas, shape, strides)
        worker.do(setitem, cols.reshape(shape), ..., windows)
    return cols


def lines_of(images: Array, rows: slice, worker: Worker) -> Array:
    """images[:, rows] as (n, rows * places, K). Every other row, say, is copied first: BLAS wants them side by side."""
    lines = images[:, rows]
    if rows.step > 1:
        lines = worker.scratch("lines", lines.shape, lines.dtype)
        worker.do(setitem, lines, ..., images[:, rows])
    return lines.reshape(len(lines), -1, lines.shape[3])


def add_products(worker: Worker, cols: Array, matrices: Array, joined: Joined, y: Array) -> None:
    """y[:, q] = the sum of cols[:, p] @ matrices[a] over the joined rows (a, p, q), zero where there are none.

    cols (n, rows, places, K), matrices (kh, K, O), y (n, rows of its own, places, O).
    """
    xp = worker.xp
    complete = bool(joined) and y[:, joined[0][2]].shape == y.shape  # the first one need not be added to anything
    if not complete:
        worker.do(setitem, y, ..., 0)
    for number, (a, p, q) in enumerate(joined):
        target = y[:, q]
        term = y if complete and number == 0 else worker.scratch("term", target.shape, y.dtype)
        worker.do(xp.matmul, lines_of(cols, p, worker), matrices[a], out=term.reshape(len(y), -1, y.shape[3]))
        if term is not y:
            worker.do(xp.add, target, term, out=target)


def in_parts(images: Array, windows: int, limit: int = 0) -> list[slice]:
    """Slices of the images, few enough for their columns to take `limit` bytes, COLUMN_BYTES by default."""
    number = images[0, 0, 0].nbytes * windows * len(images) / (limit or COLUMN_BYTES)
    return divide(0, len(images), math.ceil(number))
