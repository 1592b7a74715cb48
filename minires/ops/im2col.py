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

from types import ModuleType
from typing import NamedTuple

from minires.backend import Array
from minires.checks import check_arrays, check_axes, check_shape, check_upstream
from minires.ops.layout import Pair, Window, channels_first, pad, place_window


def im2col(x: Array, kernel_size: Pair, *, stride: Pair = 1, padding: Pair = 0, dilation: Pair = 1) -> Array:
    """Every patch of x as a column.

    x (N, C, H, W) -> (N, C*kh*kw, H_out*W_out), the rows of it ordered (c, a, b) as in PyTorch's `unfold`.
    Raises TypeError or ValueError for a wrong dtype, shape, or a window larger than the padded input.
    """
    xp = check_arrays(x=x)
    check_axes("x", x, "N, C, H, W")
    window = place_window(x.shape[2:], kernel_size, stride, padding, dilation)
    xpad = channels_first(pad(xp, x.transpose(0, 2, 3, 1), window.padding))
    cols = xp.empty((*x.shape[:2], *window.kernel, *window.out), x.dtype)
    for a, b, rows, columns in window.taps():
        cols[:, :, a, b] = xpad[:, :, rows, columns]
    return cols.reshape(len(x), -1, window.out[0] * window.out[1])


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
    if len(x_shape) != 4:
        raise ValueError(f"x_shape is {tuple(x_shape)}; expected (N, C, H, W)")
    n, c, h, w = x_shape
    (kh, kw), _, (ph, pw), _, (ho, wo) = window = place_window((h, w), kernel_size, stride, padding, dilation)
    check_shape("cols", cols, (n, c * kh * kw, ho * wo), "(N, C*kh*kw, H_out*W_out) for this x_shape and window")
    cols = cols.reshape(n, c, kh, kw, ho, wo)
    xpad = xp.zeros((n, c, h + 2 * ph, w + 2 * pw), cols.dtype)
    for a, b, rows, columns in window.taps():
        xpad[:, :, rows, columns] += cols[:, :, a, b]
    return xpad[:, :, ph : ph + h, pw : pw + w]


class Im2colCache(NamedTuple):
    cols: Array
    weight: Array
    has_bias: bool
    x_shape: tuple[int, int, int, int]
    window: Window


def conv2d_im2col_forward(
    x: Array, weight: Array, bias: Array | None = None, *, stride: Pair = 1, padding: Pair = 0, dilation: Pair = 1
) -> tuple[Array, Im2colCache]:
    """Convolution by the book; arguments, result and errors are those of `conv2d_forward`."""
    _, window = check_convolution(x, weight, bias, stride, padding, dilation)
    cols = im2col(x, window.kernel, stride=stride, padding=padding, dilation=dilation)
    y = weight.reshape(len(weight), -1) @ cols
    if bias is not None:
        y = y + bias[:, None]
    y = y.reshape(len(x), len(weight), *window.out)
    return y, Im2colCache(cols, weight, bias is not None, x.shape, window)


def conv2d_im2col_backward(dy: Array, cache: Im2colCache) -> tuple[Array, Array, Array | None]:
    """dy (N, O, H_out, W_out) -> dx, dweight, dbias."""
    cols, weight, has_bias, x_shape, window = cache
    check_upstream(dy, (len(cols), len(weight), *window.out), weight)
    dy = dy.reshape(len(cols), len(weight), -1)
    dweight = (dy @ cols.transpose(0, 2, 1)).sum(axis=0).reshape(weight.shape)
    dcols = weight.reshape(len(weight), -1).T @ dy
    _, stride, padding, dilation, _ = window
    dx = col2im(dcols, x_shape, window.kernel, stride=stride, padding=padding, dilation=dilation)
    return dx, dweight, dy.sum(axis=(0, 2)) if has_bias else None


def check_convolution(
    x: Array, weight: Array, bias: Array | None, stride: Pair, padding: Pair, dilation: Pair
) -> tuple[ModuleType, Window]:
    """The library of the arguments of a convolution and its window; TypeError or ValueError if they do not fit."""
    xp = check_arrays({"bias": bias}, x=x, weight=weight)
    check_axes("x", x, "N, C, H, W")
    check_axes("weight", weight, "out_channels, in_channels, kernel_h, kernel_w")
    o, c, (kh, kw) = len(weight), x.shape[1], weight.shape[2:]
    check_shape("weight", weight, (o, c, kh, kw), f"since x has {c} channels")
    if bias is not None:
        check_shape("bias", bias, (o,), f"since weight has {o} output channels")
    return xp, place_window(x.shape[2:], (kh, kw), stride, padding, dilation)
