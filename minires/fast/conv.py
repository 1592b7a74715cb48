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
"""

import math
from collections.abc import Iterator

import numpy as np

from minires.backend import Array
from minires.fast.nodes import Node, check_fit
from minires.fast.piece import Refused, Way, setitem
from minires.nn import BatchNorm2d

COLUMN_BYTES, GPU_COLUMN_BYTES = 2**20, 2**29
"""Memory for the row columns that are made at once: about half of what a core's own cache holds."""


class Conv(Node):
    """A convolution; at inference with the BatchNorm behind it, `norm`, folded into its weights."""

    fresh = True
    norm: BatchNorm2d | None = None

    def forward(self, x: Array, way: Way) -> Array:
        layer, weight = self.layer, self.layer.weight.value
        check_fit(x, weight, 1, (4,), way)
        (o, c, kh, kw), (sh, sw), (ph, pw), (dh, dw) = weight.shape, layer.stride, layer.padding, layer.dilation
        ho = (x.shape[1] + 2 * ph - dh * (kh - 1) - 1) // sh + 1
        wo = (x.shape[2] + 2 * pw - dw * (kw - 1) - 1) // sw + 1
        if min(ho, wo) < 1:
            raise Refused
        joined = [(a, *landing(ho, a * dh - ph, sh, x.shape[1])) for a in range(kh)]
        joined = sorted(((a, r, i) for a, r, i in joined if i.start < i.stop), key=lambda j: j[2].start - j[2].stop)
        matrices = way.scratch((self, "W"), (kh, kw * c, o), x.dtype)
        row = way.scratch((self, "bias"), (wo * o,), x.dtype)
        if way.leads:
            way.do(self._load, matrices.reshape(kh, kw, c, o), row.reshape(wo, o))
        y = way.take((len(x), ho, wo, o), x.dtype)
        for part in in_parts(x, x.shape[1] * wo * kw):
            cols = row_columns(way, x[part], pw, 1, (wo, kw, sw, dw))
            add_products(way, cols, matrices, joined, y[part])
        if layer.bias is not None or self.norm is not None:
            lines = y.reshape(len(x), ho, wo * o)
            way.do(way.xp.add, lines, row, out=lines)
        way.tape.append((x, joined))
        return y

    def _load(self, matrices: Array, row: Array) -> None:
        """The W_a, one for each kernel row, and the bias: as they are now."""
        weight, bias = self.layer.weight.value, 0 if self.layer.bias is None else self.layer.bias.value
        if self.norm is not None:
            scale = self.norm.weight.value / (self.norm.running_var + self.norm.eps) ** 0.5
            weight = weight * scale[:, None, None, None]
            bias = self.norm.bias.value + (bias - self.norm.running_mean) * scale
        matrices[...], row[...] = weight.transpose(2, 3, 1, 0), bias

    def backward(self, dy: Array, way: Way) -> Array:
        layer, weight, xp, (x, joined) = self.layer, self.layer.weight, way.xp, way.tape.pop()
        (_, _, w, c), (o, _, kh, kw) = x.shape, weight.value.shape
        (_, sw), (_, pw), (_, dw) = layer.stride, layer.padding, layer.dilation
        matrices = way.scratch((self, "V"), (kh, kw * o, c), dy.dtype)
        unflip = lambda g: g.reshape(kh, c, kw, o)[:, :, ::-1].transpose(3, 1, 0, 2)  # noqa: E731
        dweight = way.gradient(weight, (kh, c * kw * o), unflip)
        if way.leads:
            taps = matrices.reshape(kh, kw, o, c)
            way.do(lambda: setitem(taps, ..., weight.value[:, :, :, ::-1].transpose(2, 3, 0, 1)))
        dx = way.take(x.shape, dy.dtype)
        for part in in_parts(dy, dy.shape[1] * w * kw):
            cols = row_columns(way, dy[part], (kw - 1) * dw - pw, sw, (w, kw, 1, dw))
            if way.wants_dx or self is not way.worker.program.nodes[0]:
                add_products(way, cols, matrices, [(a, i, r) for a, r, i in joined], dx[part])
            for a, r, i in joined:
                left, right = (side_by_side(side, r.step) for side in (x[part, r], cols[:, i]))
                products = way.scratch("products", (*left.shape[:-2], c, kw * o), dy.dtype)
                way.do(xp.matmul, left.transpose((0, 2, 1) if left.ndim == 3 else (0, 1, 3, 2)), right, out=products)
                rows, term = products.reshape(-1, c * kw * o), way.scratch("dweight", dweight[a].shape, dy.dtype)
                way.do(xp.matmul, xp.ones(len(rows), dy.dtype), rows, out=term)  # faster than `sum`
                way.do(xp.add, dweight[a], term, out=dweight[a])
        if layer.bias is not None:
            way.do(lambda dbias: xp.add(dbias, dy.sum(axis=(0, 1, 2)), out=dbias), way.gradient(layer.bias))
        return dx


def landing(count: int, offset: int, spread: int, size: int) -> tuple[slice, slice]:
    """Of points i in range(count), each put at i*spread + offset, those that fall in range(size): (where, which)."""
    first = max(0, -(offset // spread))
    stop = max(first, min(count, (size - 1 - offset) // spread + 1))
    start = first * spread + offset
    return slice(start, start + (stop - first) * spread, spread), slice(first, stop)


def row_columns(way: Way, images: Array, offset: int, spread: int, moves: tuple[int, int, int, int]) -> Array:
    """The row columns of some images: (n, H, W, C) -> (n, H, places, kernel width * C), in scratch.

    Each row is laid on zeros: its pixel 0 at `offset`, the next ones `spread` apart; what falls outside is dropped.
    `moves` says how the kernel moves along it: (number of places, kernel width, stride, dilation).
    """
    xp, (n, h, w, c), (places, kw, stride, dilation) = way.xp, images.shape, moves
    if (kw, stride, spread, offset) == (1, 1, 1, 0) and places == w:
        return images
    width = (places - 1) * stride + (kw - 1) * dilation + 1
    target, source = landing(w, offset, spread, width)
    canvas = way.scratch(("canvas", h, w, c, width, offset, spread), (n, h, width, c), images.dtype)
    way.do(setitem, canvas[:, :, target], ..., images[:, :, source])  # the zeros around are still there
    cols = way.scratch("columns", (n, h, places, kw * c), images.dtype)
    image, row, pixel, number = canvas.strides
    if xp is np and dilation == 1:  # a window's pixels lie side by side: copied as one item, not number by number
        window = np.dtype(f"V{kw * pixel}")
        windows = np.ndarray((n, h, places), window, canvas, strides=(image, row, pixel * stride))
        way.do(setitem, np.ndarray(windows.shape, window, cols), ..., windows)
    else:
        shape, strides = (n, h, places, kw, c), (image, row, pixel * stride, pixel * dilation, number)
        windows = xp.lib.stride_tricks.as_strided(canvas, shape, strides)
        way.do(setitem, cols.reshape(shape), ..., windows)
    return cols


def side_by_side(rows: Array, step: int | None = 1) -> Array:
    """(n, rows, places, K) -> (n, rows * places, K) where the rows lie so; every step-th row of an image does not."""
    return rows.reshape(len(rows), -1, rows.shape[3]) if step in (None, 1) else rows


def add_products(way: Way, cols: Array, matrices: Array, joined: list[tuple[int, slice, slice]], y: Array) -> None:
    """y[:, q] = the sum of cols[:, p] @ matrices[a] over the joined rows (a, p, q), zero where there are none.

    cols (n, rows, places, K), matrices (kh, K, O), y (n, rows of its own, places, O).
    """
    xp = way.xp
    complete = bool(joined) and y[:, joined[0][2]].shape == y.shape  # the first one need not be added to anything
    if not complete:
        way.do(setitem, y, ..., 0)
    for number, (a, p, q) in enumerate(joined):
        left = side_by_side(cols[:, p], p.step)
        if complete and number == 0:
            way.do(xp.matmul, left, matrices[a], out=side_by_side(y) if left.ndim == 3 else y)
        else:
            target = y[:, q]
            term = way.scratch("term", target.shape, y.dtype)
            way.do(xp.matmul, left, matrices[a], out=side_by_side(term) if left.ndim == 3 else term)
            way.do(xp.add, target, term, out=target)


def in_parts(images: Array, windows: int, limit: int = COLUMN_BYTES) -> Iterator[slice]:
    """Slices of the images, each of them few enough for its columns to stay in the cache, or in `limit` bytes."""
    step = max(1, limit // (windows * images.shape[-1] * images.itemsize))
    step = math.ceil(len(images) / math.ceil(len(images) / step))
    return (slice(start, start + step) for start in range(0, len(images), step))
