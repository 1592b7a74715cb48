"""Convolution, as fast as matrix products allow. `im2col.py` says what a convolution is; this file computes the same.

Row columns. im2col copies all kh*kw neighbours of a pixel side by side. Here only the kw horizontal ones are copied:

    cols[n, r, j, (b, c)] = xpad[n, r, j*s + b*d, c]                shape (N, H + 2p, W_out, kw*C), channels last

The vertical neighbours need no copy: what kernel row a meets are the rows r = a*d, a*d + s, a*d + 2s, ... of `cols`.
So a convolution is a sum of kh matrix products, with W_a[(b, c), o] = weight[o, c, a, b]:

    y[n, i, j, :] = sum over a of  cols[n, i*s + a*d, j, :] @ W_a

It is im2col with one of its two loops left to slicing: kw-fold memory instead of kh*kw-fold, and it is made for a
few images at a time, so that it stays in the cache. One product is made per image, for BLAS has a faster way for
small products.

Backward. Let up[n, u, v, o] be dy with s - 1 zeros between its rows and columns, up[i*s] = dy[i]. Pixel r of x took
part in output i through tap a if r = i*s + a*d - p, so with q = k - 1 - a (the kernel flipped)

    dx[r] = sum over a of  up[r + p - a*d] @ weight_a.T = sum over q of  uppad[r + q*d] @ weight_{k-1-q}.T

where uppad is `up` moved down by L = (k-1)*d - p: again a convolution, of stride 1, with the flipped kernel, input
and output channels exchanged. Its row columns serve the weights as well: dweight correlates x with the same `uppad`,

    dweight_{k-1-q} = sum over n, r of  x[n, r].T @ uppad[n, r + q*d]

so nothing but x has to be kept from the forward pass, and nothing is scattered.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import NamedTuple

import numpy as np

from minires.backend import Array
from minires.ops.im2col import Pair
from minires.ops.layout import (
    channels_first,
    channels_last,
    check_arrays,
    check_ndim,
    check_shape,
    check_upstream,
    column_sums,
    output_size,
    pair,
)
from minires.parallel import map_shares, pieces, scratch

COLUMN_BYTES, GPU_COLUMN_BYTES = 2**21, 2**29
"""Row columns made at a time. Much less costs calls; much more falls out of the processor's cache."""


class ConvCache(NamedTuple):
    x: Array
    weight: Array
    has_bias: bool
    y_shape: tuple[int, int, int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]


def conv2d_forward(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
) -> tuple[Array, ConvCache]:
    """Two-dimensional convolution (cross-correlation, as in every deep-learning library), zero padding.

    x (N, C, H, W), weight (O, C, kh, kw), bias (O,) or None -> y (N, O, H_out, W_out), cache,
    H_out = floor((H + 2*padding - dilation*(kh-1) - 1) / stride) + 1.

    Raises TypeError for dtypes that differ or cannot be computed in, ValueError for shapes that do not fit.
    """
    xp = check_arrays({"bias": bias}, x=x, weight=weight)
    check_ndim("x", x, "N, C, H, W")
    check_ndim("weight", weight, "out_channels, in_channels, kernel_h, kernel_w")
    n, c, h, w = x.shape
    o, _, kh, kw = weight.shape
    check_shape("weight", weight, (o, c, kh, kw), f"since x has {c} channels")
    if bias is not None:
        check_shape("bias", bias, (o,), f"since weight has {o} output channels")
    stride, padding = pair("stride", stride, 1), pair("padding", padding, 0)
    dilation = pair("dilation", dilation, 1)
    ho, wo = output_size((h, w), (kh, kw), stride, padding, dilation)

    rows = channels_last(xp, x)
    row_weights = weight.transpose(2, 3, 1, 0).reshape(kh, kw * c, o)
    padded = (h + 2 * padding[0], w + 2 * padding[1])
    y = xp.empty((n, ho, wo, o), x.dtype)

    def share(images: range) -> None:
        window = (wo, kw, stride[1], dilation[1])
        for part, cols in _row_columns(xp, rows, images, padded, padding, (1, 1), window):
            _sum_of_products(xp, cols, row_weights, y[part], stride[0], dilation[0])
            if bias is not None:
                y[part] += bias

    map_shares(xp, n, share, elements=rows.size * kw)
    y = channels_first(y)
    return y, ConvCache(channels_first(rows), weight, bias is not None, y.shape, stride, padding, dilation)


def conv2d_backward(dy: Array, cache: ConvCache) -> tuple[Array, Array, Array | None]:
    """dy (N, O, H_out, W_out) -> dx (N, C, H, W), dweight (O, C, kh, kw), dbias (O,) or None."""
    x, weight = cache.x, cache.weight
    xp = check_upstream(dy, cache.y_shape, x)
    n, c, h, w = x.shape
    o, _, kh, kw = weight.shape
    dh, dw = cache.dilation

    rows, up = channels_last(xp, x), channels_last(xp, dy)
    flipped = weight[:, :, ::-1, ::-1].transpose(2, 3, 0, 1).reshape(kh, kw * o, c)
    padded = (h + (kh - 1) * dh, w + (kw - 1) * dw)
    offset = ((kh - 1) * dh - cache.padding[0], (kw - 1) * dw - cache.padding[1])
    dx = xp.empty((n, h, w, c), dy.dtype)

    def share(images: range) -> Array:
        """Writes its part of dx; returns its part of dweight, kernel flipped, as (kh, C, kw*O)."""
        total = xp.zeros((kh, c, kw * o), dy.dtype)
        for part, cols in _row_columns(xp, up, images, padded, offset, cache.stride, (w, kw, 1, dw)):
            _sum_of_products(xp, cols, flipped, dx[part], 1, dh)
            pixels = rows[part].reshape(-1, h * w, c).transpose(0, 2, 1)
            for q in range(kh):
                met = cols[:, q * dh : q * dh + h].reshape(-1, h * w, kw * o)
                total[q] += xp.matmul(pixels, met).sum(axis=0)
        return total

    shares = map_shares(xp, n, share, elements=dx.size * kw)
    total = sum(shares[1:], start=shares[0]).reshape(kh, c, kw, o)
    dweight = total[::-1, :, ::-1].transpose(3, 1, 0, 2)
    dbias = column_sums(xp, up.reshape(-1, o)) if cache.has_bias else None
    return channels_first(dx), xp.ascontiguousarray(dweight), dbias


def _row_columns(
    xp: ModuleType,
    rows: Array,
    images: range,
    padded: tuple[int, int],
    offset: tuple[int, int],
    spread: tuple[int, int],
    window: tuple[int, int, int, int],
) -> Iterator[tuple[slice, Array]]:
    """Some `images` of rows (N, H, W, C) as row columns, a few at a time: (which of them, columns).

    The pixels are laid on zeros of size `padded`: pixel (0, 0) at `offset`, `spread` apart. `window` says how the
    kernel moves along a row: (number of places, kernel width, stride, dilation). The columns have the shape
    (n, padded height, places, kernel width * C) and are this thread's scratch: valid until the next ones are made.
    """
    (height, width), (places, kw, stride, dilation), c = padded, window, rows.shape[3]
    from_rows, to_rows = _landing(rows.shape[1], offset[0], spread[0], height)
    from_columns, to_columns = _landing(rows.shape[2], offset[1], spread[1], width)
    image_bytes = height * places * kw * c * rows.dtype.itemsize
    for part in pieces(images, image_bytes, COLUMN_BYTES if xp is np else GPU_COLUMN_BYTES):
        n = part.stop - part.start
        canvas = scratch(xp, "canvas", (n, height, width, c), rows.dtype)
        canvas[...] = 0
        canvas[:, to_rows, to_columns] = rows[part, from_rows, from_columns]
        image, row, pixel, channel = canvas.strides
        neighbors = xp.lib.stride_tricks.as_strided(
            canvas, (n, height, places, kw, c), (image, row, pixel * stride, pixel * dilation, channel)
        )
        cols = scratch(xp, "columns", neighbors.shape, rows.dtype)
        cols[...] = neighbors
        yield part, cols.reshape(n, height, places, kw * c)


def _landing(count: int, offset: int, spread: int, size: int) -> tuple[slice, slice]:
    """Pixel i of `count` lands at offset + i*spread, if that is in range(size): (which pixels do, and where)."""
    first = max(0, -(offset // spread))
    stop = max(first, min(count, (size - 1 - offset) // spread + 1))
    start_at = first * spread + offset
    return slice(first, stop), slice(start_at, start_at + (stop - first) * spread, spread)


def _sum_of_products(
    xp: ModuleType, cols: Array, row_weights: Array, y: Array, stride: int, dilation: int
) -> None:
    """y[:, i] = sum over kernel rows a of cols[:, i*stride + a*dilation] @ row_weights[a], written into y."""
    n, ho, wo, o = y.shape
    for a, w_a in enumerate(row_weights):
        met = cols[:, a * dilation : a * dilation + stride * (ho - 1) + 1 : stride].reshape(n, ho * wo, -1)
        if a == 0:
            xp.matmul(met, w_a, out=y.reshape(n, ho * wo, o))
        else:
            term = scratch(xp, "term", (n, ho * wo, o), y.dtype)
            xp.matmul(met, w_a, out=term)
            y += term.reshape(y.shape)
