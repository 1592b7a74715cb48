"""Convolution with row columns (see `columns.py`), forward and backward.

Forward, with W_a[(b, c), o] = weight[o, c, a, b]:

    y[n, i, j, :] += xcols[n, r, j, :] @ W_a                        for every a and every (r, i) that it joins

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

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from minires.backend import Array
from minires.fast.columns import Along, Moves, add_products, place, row_columns
from minires.fast.memory import aligned_copy
from minires.fast.nodes import Node, check_fit
from minires.fast.norm import NormNode
from minires.fast.piece import Piece
from minires.nn import Layer

COLUMN_BYTES, GPU_COLUMN_BYTES = 2**20, 2**29
"""Memory for the row columns that are made at once: about half of what a core's own cache holds."""


class Conv(Node):
    """A convolution; with the BatchNorm behind it folded into its weights, if `norm` is given (inference)."""

    def __init__(self, layer: Layer, norm: NormNode | None = None) -> None:
        super().__init__(layer)
        self.norm = norm
        self.comes_first = False
        """Whether dx is the gradient of the model's input, which not everybody wants."""

    def forward(self, x: Array, piece: Piece) -> Array:
        xp, moves = piece.xp, self._moves(x, piece)
        matrices, bias = piece.once((self, "forward"), lambda: self._matrices(piece))
        kw, places = moves.across.kernel, moves.out[1]
        y = piece.memory.take(xp, (len(x), *moves.out, matrices.shape[2]), x.dtype)
        for part in _parts(x, piece, x.shape[1] * places * kw * x.shape[3]):
            cols = row_columns(xp, piece.memory, x[part], moves.across.padding, 1, places, moves.across)
            add_products(xp, piece.memory, cols, matrices, moves.joined, y[part])
        if bias is not None:
            lines = y.reshape(len(x), -1, bias.size * places)
            lines += piece.once((self, "row"), lambda: xp.tile(bias, places))
        piece.keep((x, moves))
        return y

    def _moves(self, x: Array, piece: Piece) -> Moves:
        layer, weight = self.layer, self.layer.weight.value
        check_fit(x, weight, 1, (4,), piece)
        down, across = zip(weight.shape[2:], layer.stride, layer.padding, layer.dilation, strict=True)
        return place(x.shape[1:3], Along(*down), Along(*across))

    def _matrices(self, piece: Piece) -> tuple[Array, Array | None]:
        """The W_a, one for each kernel row, and the bias."""
        weight, bias = self.layer.weight.value, None if self.layer.bias is None else self.layer.bias.value
        if self.norm is not None:
            scale, offset = self.norm.line()
            weight, bias = weight * scale[:, None, None, None], offset if bias is None else offset + scale * bias
        o, c, kh, kw = weight.shape
        return aligned_copy(piece.xp, weight.transpose(2, 3, 1, 0).reshape(kh, kw * c, o)), bias

    def backward(self, dy: Array, piece: Piece) -> Array:
        (x, moves), weight = piece.tape.pop(), self.layer.weight.value
        xp, memory, (_, _, w, c), (o, _, kh, kw) = piece.xp, piece.memory, x.shape, weight.shape
        across, joined = moves.across, [(a, i, r) for a, r, i in moves.joined]
        offset, back = (kw - 1) * across.dilation - across.padding, Along(kw, 1, 0, across.dilation)
        flipped = piece.once(
            (self, "backward"),
            lambda: aligned_copy(xp, weight[:, :, :, ::-1].transpose(2, 3, 0, 1).reshape(kh, kw * o, c)),
        )
        dx, dweight = piece.memory.take(xp, x.shape, dy.dtype), xp.zeros((kh, c * kw * o), dy.dtype)
        for part in _parts(dy, piece, moves.out[0] * w * kw * o):
            cols = row_columns(xp, memory, dy[part], offset, across.stride, w, back)
            if piece.wants_dx or not self.comes_first:
                add_products(xp, memory, cols, flipped, joined, dx[part])
            m = len(cols)
            for a, i, r in joined:
                left, right = x[part, r].reshape(m, -1, c).transpose(0, 2, 1), cols[:, i].reshape(m, -1, kw * o)
                products = xp.matmul(left, right, out=memory.scratch(xp, "products", (m, c, kw * o), dy.dtype))
                dweight[a] += xp.ones(m, dy.dtype) @ products.reshape(m, -1)
        piece.add_gradient((self, "weight"), dweight)
        if self.layer.bias is not None:
            piece.add_gradient((self, "bias"), dy.sum(axis=(0, 1, 2)))
        return dx

    def add_gradients(self, gradients: dict[Any, Array]) -> None:
        o, c, kh, kw = self.layer.weight.value.shape
        dweight = gradients[self, "weight"].reshape(kh, c, kw, o)[:, :, ::-1].transpose(3, 1, 0, 2)
        self.layer.weight.add_grad(dweight)
        if self.layer.bias is not None:
            self.layer.bias.add_grad(gradients[self, "bias"])


def _parts(images: Array, piece: Piece, numbers: int) -> Iterator[slice]:
    """Slices of the images, each of them few enough for its columns (`numbers` of them an image) to stay in cache."""
    limit = COLUMN_BYTES if piece.xp is np else GPU_COLUMN_BYTES
    step = max(1, limit // (numbers * images.itemsize))
    step = math.ceil(len(images) / math.ceil(len(images) / step))
    for start in range(0, len(images), step):
        yield slice(start, start + step)
