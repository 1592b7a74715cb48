"""Convolution, as fast as matrix products allow. `im2col.py` says what a convolution is; this file computes the same.

Row columns. im2col copies all kh*kw neighbors of a pixel side by side. Here only the kw horizontal ones are copied,

    xcols[n, r, j, (b, c)] = xpad[n, r, j*s + b*d, c]               shape (N, H, W_out, kw*C), channels last

and kernel row a then joins input row r to output row i wherever r = i*s + a*d - p lies in the image. So a convolution
is a sum of kh matrix products on slices of rows, with W_a[(b, c), o] = weight[o, c, a, b]:

    y[n, i, j, :] += xcols[n, r, j, :] @ W_a                        for every a and every (r, i) that it joins

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

from __future__ import annotations

from types import ModuleType
from typing import NamedTuple

from minires.backend import Array
from minires.checks import check_upstream
from minires.ops.im2col import check_convolution
from minires.ops.layout import (
    Fill,
    Finish,
    Joined,
    Pair,
    Window,
    channels_first,
    channels_last,
    joined_rows,
    nothing,
    row_columns,
)
from minires.parallel import map_pieces, scratch


class ConvCache(NamedTuple):
    x: Array
    weight: Array
    has_bias: bool
    window: Window


def conv2d_forward(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    fill: Fill = nothing,
    finish: Finish = nothing,
) -> tuple[Array, ConvCache]:
    """Two-dimensional convolution (cross-correlation, as in every deep-learning library), zero padding.

    x (N, C, H, W), weight (O, C, kh, kw), bias (O,) or None -> y (N, O, H_out, W_out), cache,
    H_out = floor((H + 2*padding - dilation*(kh-1) - 1) / stride) + 1.
    fill(part) may write each piece of x just before it is read, finish(part, y[part]) read or change each piece of y.

    Raises TypeError for dtypes that differ or cannot be computed in, ValueError for shapes that do not fit.
    """
    xp, window = check_convolution(x, weight, bias, stride, padding, dilation)
    (kh, kw), (_, stride), (_, padding), (_, dilation), (ho, wo) = window
    pixels, joined = channels_last(xp, x), joined_rows(window, x.shape[2])
    n, h, _, c = pixels.shape
    row_weights = weight.transpose(2, 3, 1, 0).reshape(kh, kw * c, -1)
    y = xp.empty((n, ho, wo, len(weight)), x.dtype)

    def piece(part: slice) -> None:
        fill(part)
        xcols = row_columns(xp, pixels[part], padding, 1, (wo, kw, stride, dilation))
        add_products(xp, xcols, row_weights, joined, y[part])
        if bias is not None:
            y[part] += bias
        finish(part, channels_first(y[part]))

    map_pieces(xp, n, h * wo * kw * c * x.itemsize, piece)
    return channels_first(y), ConvCache(channels_first(pixels), weight, bias is not None, window)


def conv2d_backward(
    dy: Array, cache: ConvCache, *, fill: Fill = nothing, finish: Finish = nothing
) -> tuple[Array, Array, Array | None]:
    """dy (N, O, H_out, W_out) -> dx (N, C, H, W), dweight (O, C, kh, kw), dbias (O,) or None.

    fill(part) may write each piece of dy just before it is read, finish(part, dx[part]) read or change each of dx.
    """
    x, weight, has_bias, window = cache
    (n, c, h, w), (o, _, kh, kw), dilation = x.shape, weight.shape, window.dilation[1]
    xp = check_upstream(dy, (n, o, *window.out), x)
    pixels, dy_pixels = channels_last(xp, x), channels_last(xp, dy)
    flipped = weight[:, :, :, ::-1].transpose(2, 3, 0, 1).reshape(kh, kw * o, c)
    joined = tuple((a, i, r) for a, r, i in joined_rows(window, h))
    offset = (kw - 1) * dilation - window.padding[1]
    dx = xp.empty((n, h, w, c), dy.dtype)

    def piece(part: slice) -> Array:
        """Writes its part of dx; returns its part of dweight, flipped along the row, as (kh, C, kw*O)."""
        fill(part)
        dycols = row_columns(xp, dy_pixels[part], offset, window.stride[1], (w, kw, 1, dilation))
        add_products(xp, dycols, flipped, joined, dx[part])
        dweight = xp.zeros((kh, c, kw * o), dy.dtype)
        for a, i, r in joined:
            left = pixels[part, r].reshape(len(dycols), -1, c).transpose(0, 2, 1)
            dweight[a] = xp.matmul(left, dycols[:, i].reshape(len(dycols), -1, kw * o)).sum(axis=0)
        finish(part, channels_first(dx[part]))
        return dweight

    dweight = sum(map_pieces(xp, n, window.out[0] * w * kw * o * dy.itemsize, piece))
    dweight = dweight.reshape(kh, c, kw, o)[:, :, ::-1].transpose(3, 1, 0, 2)
    dbias = dy_pixels.sum(axis=(0, 1, 2)) if has_bias else None
    return channels_first(dx), xp.ascontiguousarray(dweight), dbias


def add_products(xp: ModuleType, cols: Array, matrices: Array, joined: Joined, y: Array) -> None:
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
            term = scratch(xp, "term", (n, left.shape[1], o), y.dtype)
            y[:, q] += xp.matmul(left, matrices[a], out=term).reshape(n, -1, places, o)
