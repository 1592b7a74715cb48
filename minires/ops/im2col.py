"""im2col: convolution as one matrix product. The textbook form, and the definition of this engine's convolution.

    y[n, o, i, j] = sum over c, a, b of  weight[o, c, a, b] * xpad[n, c, i*s + a*d, j*s + b*d]   (+ bias[o])

with kernel rows a and columns b, stride s, dilation d, and xpad the input with p zeros around it. For one place
(i, j) of the window that is a dot product of two vectors of length C*kh*kw: the filter and the patch it lies on.
im2col writes every patch as a column,

    cols[n, (c, a, b), (i, j)] = xpad[n, c, i*s + a*d, j*s + b*d]            shape (N, C*kh*kw, H_out*W_out)

and then y = W @ cols with W = weight.reshape(O, C*kh*kw). Backward, from y = W @ cols + bias:

    dW = sum over n of  dy[n] @ cols[n].T          dcols = W.T @ dy          dbias = sum of dy over n and places

and since cols only copies pixels of x, dx adds up, for each pixel, what came back to each of its copies. That is
col2im, the mirror (the adjoint) of im2col: <im2col(x), v> = <x, col2im(v)> for every x and v.

Both run over the few taps (a, b) of the kernel, not over the many pixels: for one tap all places of the window are
one strided slice of xpad. Within a slice no pixel occurs twice, so `+=` on slices is safe and no scatter is needed.

`conv.py` computes the same faster and with less memory; it is tested against this file.
Source: Chellapilla, Puri, Simard 2006, "High Performance Convolutional Neural Networks for Document Processing".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from minires.backend import Array
from minires.ops.layout import (
    check_arrays,
    check_ndim,
    check_shape,
    check_upstream,
    output_size,
    pair,
)

Pair = int | tuple[int, int]


def taps(
    kernel: tuple[int, int], out: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
) -> Iterator[tuple[int, int, slice, slice]]:
    """For each tap (a, b): the rows and columns of the padded input that it meets, over all places of the window."""
    for a in range(kernel[0]):
        for b in range(kernel[1]):
            top, left = a * dilation[0], b * dilation[1]
            rows = slice(top, top + stride[0] * (out[0] - 1) + 1, stride[0])
            columns = slice(left, left + stride[1] * (out[1] - 1) + 1, stride[1])
            yield a, b, rows, columns


def im2col(x: Array, kernel_size: Pair, *, stride: Pair = 1, padding: Pair = 0, dilation: Pair = 1) -> Array:
    """Every patch of x as a column.

    x (N, C, H, W) -> (N, C*kh*kw, H_out*W_out), the rows of it ordered (c, a, b) as in PyTorch's `unfold`.
    Raises TypeError or ValueError for a wrong dtype, shape, or a window larger than the padded input.
    """
    xp = check_arrays(x=x)
    check_ndim("x", x, "N, C, H, W")
    (kh, kw), (sh, sw) = pair("kernel_size", kernel_size, 1), pair("stride", stride, 1)
    (ph, pw), (dh, dw) = pair("padding", padding, 0), pair("dilation", dilation, 1)
    n, c, h, w = x.shape
    ho, wo = output_size((h, w), (kh, kw), (sh, sw), (ph, pw), (dh, dw))
    xpad = xp.zeros((n, c, h + 2 * ph, w + 2 * pw), x.dtype)
    xpad[:, :, ph : ph + h, pw : pw + w] = x
    cols = xp.empty((n, c, kh, kw, ho, wo), x.dtype)
    for a, b, rows, columns in taps((kh, kw), (ho, wo), (sh, sw), (dh, dw)):
        cols[:, :, a, b] = xpad[:, :, rows, columns]
    return cols.reshape(n, c * kh * kw, ho * wo)


def col2im(
    cols: Array,
    x_shape: tuple[int, int, int, int],
    kernel_size: Pair,
    *,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
) -> Array:
    """The adjoint of im2col: every entry of cols is added to the pixel it was copied from.

    cols (N, C*kh*kw, H_out*W_out), x_shape (N, C, H, W) -> (N, C, H, W). Entries copied from padding are dropped.
    """
    xp = check_arrays(cols=cols)
    (kh, kw), (sh, sw) = pair("kernel_size", kernel_size, 1), pair("stride", stride, 1)
    (ph, pw), (dh, dw) = pair("padding", padding, 0), pair("dilation", dilation, 1)
    if len(x_shape) != 4:
        raise ValueError(f"x_shape is {tuple(x_shape)}; expected (N, C, H, W)")
    n, c, h, w = x_shape
    ho, wo = output_size((h, w), (kh, kw), (sh, sw), (ph, pw), (dh, dw))
    check_shape(
        "cols", cols, (n, c * kh * kw, ho * wo), "(N, C*kh*kw, H_out*W_out) for this x_shape and window"
    )
    cols = cols.reshape(n, c, kh, kw, ho, wo)
    xpad = xp.zeros((n, c, h + 2 * ph, w + 2 * pw), cols.dtype)
    for a, b, rows, columns in taps((kh, kw), (ho, wo), (sh, sw), (dh, dw)):
        xpad[:, :, rows, columns] += cols[:, :, a, b]
    return xpad[:, :, ph : ph + h, pw : pw + w]


class Im2colCache(NamedTuple):
    cols: Array
    weight: Array
    has_bias: bool
    x_shape: tuple[int, int, int, int]
    y_shape: tuple[int, int, int, int]
    window: dict[str, tuple[int, int]]


def conv2d_im2col_forward(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
) -> tuple[Array, Im2colCache]:
    """Convolution by the book; same arguments and result as `conv2d_forward`, which checks its input better."""
    o, c, kh, kw = weight.shape
    window = {"stride": pair("stride", stride, 1), "padding": pair("padding", padding, 0)}
    window["dilation"] = pair("dilation", dilation, 1)
    size = output_size(x.shape[2:], (kh, kw), window["stride"], window["padding"], window["dilation"])
    cols = im2col(x, (kh, kw), **window)
    y = weight.reshape(o, c * kh * kw) @ cols
    if bias is not None:
        y = y + bias[:, None]
    y = y.reshape(len(x), o, *size)
    return y, Im2colCache(cols, weight, bias is not None, x.shape, y.shape, window)


def conv2d_im2col_backward(dy: Array, cache: Im2colCache) -> tuple[Array, Array, Array | None]:
    """dy (N, O, H_out, W_out) -> dx, dweight, dbias."""
    check_upstream(dy, cache.y_shape, cache.weight)
    o, c, kh, kw = cache.weight.shape
    dy = dy.reshape(len(dy), o, -1)
    dweight = (dy @ cache.cols.transpose(0, 2, 1)).sum(axis=0).reshape(cache.weight.shape)
    dcols = cache.weight.reshape(o, c * kh * kw).T @ dy
    dx = col2im(dcols, cache.x_shape, (kh, kw), **cache.window)
    return dx, dweight, dy.sum(axis=(0, 2)) if cache.has_bias else None
