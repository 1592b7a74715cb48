"""Convolution (cross-correlation, as in every deep-learning library): im2col and one matrix product.

    y[n, o, i, j] = sum over c, a, b of  weight[o, c, a, b] * xpad[n, c, i*s + a*d, j*s + b*d]  +  bias[o]

with kernel rows a and columns b, stride s, dilation d, and xpad the input with p zeros around it. At one place (i, j)
of the window this is a dot product of two vectors of length K = C*kh*kw: filter o, and the patch of the image under
the window. **im2col** writes each patch as a column of a matrix,

    cols[n, (c, a, b), (i, j)] = xpad[n, c, i*s + a*d, j*s + b*d]            (N, K, P), P = H_out*W_out places

and the convolution is a product of matrices. With k = (c, a, b), p = (i, j) and each filter a row of filters (O, K),

    y[n, p, o] = sum over k of  cols[n, k, p] * filters[o, k]  +  bias[o]

Backward. The product is linear in each of its two factors, so their gradients are products with dy again. Each is a sum
over the indices that the factor does not have:

    dfilters[o, k]  = sum over n and p of  dy[n, p, o] * cols[n, k, p]
    dcols[n, k, p]  = sum over o of        filters[o, k] * dy[n, p, o]
    dbias[o]        = sum over n and p of  dy[n, p, o]

The formula of im2col is one of strides: from window to window it moves on by s pixels, from tap to tap by d. So cols is
a view of xpad (`as_strided`, no pixel is copied yet), and reshape makes the copy, each pixel as often as there are
windows over it. **col2im** is the adjoint, the way back of gradients: a pixel receives the sum of what its copies
received, and <im2col(x), v> = <x, col2im(v)> for every x and v. So dx = col2im(dcols). It runs over the taps: for one
tap, the pixels under all windows are a slice in which no pixel occurs twice, and `+=` is safe.

`tensordot(a, b, axes)` is a sum over the named axes of a and b. It lays all others side by side and makes one matrix
product, of views if memory allows. A sum may go over k in any order, as long as patch and filter list it in the same
one. PyTorch's `unfold` lists (c, a, b). The code below lists (a, b, c), since all channels of a pixel lie side by side:
kw neighboring pixels, kw*C numbers, are one piece of memory in xpad and in cols, (N, P, K). So y and dy, (N, P, O), are
channels-last images. dcols comes out tap by tap, each tap a channels-last image: col2im adds whole lines of it. cols is
kh*kw times as large as x: the cache holds x, and backward makes the columns again.

With `groups` = G, channels and filters fall into G blocks that have nothing to do with each other: the first C/G
channels meet the first O/G filters, and so on (G = C is called depthwise). These are G convolutions side by side, and
that is what the code computes.

Source: Chellapilla, Puri, Simard 2006, "High Performance Convolutional Neural Networks for Document Processing".
"""

from typing import Any, NamedTuple

from minires import checks
from minires.backend import Array, array_namespace
from minires.checks import cache_of, check_arrays, check_axes, check_channels, check_shape, check_upstream, whole_shape
from minires.ops.window import Pair, Window, channels_last, channels_last_memory, inside, pad, pad_shape, place_window


def im2col(
    x: Array, kernel_size: Pair | Window, *, stride: Pair = 1, padding: Pair = 0, dilation: Pair = 1, order: str = "cab"
) -> Array:
    """Every patch of x as a column.

    x (N, C, H, W) -> cols (N, C*kh*kw, H_out*W_out), its rows in the order (c, a, b), as in PyTorch's `unfold`, or
    with order="abc" in the order (a, b, c), as they lie in a channels-last image.

    Raises TypeError or ValueError for a wrong dtype or shape, and for a window larger than the padded image.
    """
    xp = check_arrays(x=x)
    check_axes("x", x, "N, C, H, W")
    window = place_window(x.shape[2:], kernel_size, stride, padding, dilation)
    xpad = pad(xp, x, window)
    (sh, sw), (dh, dw), (n, c, _, _) = window.stride, window.dilation, x.shape
    image, channel, row, pixel = xpad.strides
    strides = image, sh * row, sw * pixel, dh * row, dw * pixel, channel
    patches = xp.lib.stride_tricks.as_strided(xpad, (n, *window.out, *window.kernel, c), strides)
    if order != "abc" and checks.choice("order", order, ("cab", "abc")):
        patches = patches.transpose(0, 1, 2, 5, 3, 4)
    return patches.reshape(n, -1, c * len(window.taps)).transpose(0, 2, 1)


def col2im(
    cols: Array,
    x_shape: tuple[int, int, int, int],
    kernel_size: Pair | Window,
    *,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
) -> Array:
    """The adjoint of im2col: adds every entry of cols to the pixel that it was copied from.

    cols (N, C*kh*kw, H_out*W_out), or with axes of their own for channels and taps, (N, C, kh*kw, H_out*W_out), and
    x_shape (N, C, H, W) -> (N, C, H, W). What was copied from the padding is dropped. Raises TypeError or ValueError
    where these do not fit together.
    """
    xp = check_arrays(cols=cols)
    if len(whole_shape(x_shape)) != 4:
        raise ValueError(f"x_shape is {tuple(x_shape)}; expected (N, C, H, W)")
    window = place_window(x_shape[2:], kernel_size, stride, padding, dilation)
    (n, c, _, _), (ho, wo), taps = x_shape, window.out, len(window.taps)
    entries = (c, taps) if cols.ndim == 4 else (c * taps,)
    check_shape("cols", cols, (n, *entries, ho * wo), "(N, C*kh*kw, H_out*W_out) for this x_shape and window")
    cols = cols.reshape(n, c, taps, ho, wo)
    dxpad = xp.zeros_like(cols[:, :, 0], shape=pad_shape(x_shape, window))  # in memory, in the order of cols
    for tap, (rows, columns) in enumerate(window.taps):
        dxpad[:, :, rows, columns] += cols[:, :, tap]
    return channels_last_memory(xp, inside(dxpad, x_shape, window))


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
    padding: Pair | str = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> tuple[Array, ConvCache | list[ConvCache]]:
    """Two-dimensional convolution with zero padding.

    x (N, C, H, W), weight (O, C/groups, kh, kw), bias (O,) or None -> y (N, O, H_out, W_out), cache,
    H_out = floor((H + 2*padding - dilation*(kh - 1) - 1) / stride) + 1. padding "same" (stride 1): y as large as x.

    Raises TypeError for dtypes that differ or cannot be computed in, ValueError for shapes that do not fit.
    """
    xp = check_arrays({"bias": bias}, x=x, weight=weight)
    check_axes("x", x, "N, C, H, W")
    check_axes("weight", weight, "out_channels, in_channels, kernel_h, kernel_w")
    check_channels(x.shape, weight.shape, groups)
    if bias is not None:
        check_shape("bias", bias, weight.shape[:1], f"since weight has {len(weight)} output channels")
    if groups != 1:
        return grouped_forward(x, weight, bias, groups, stride=stride, padding=padding, dilation=dilation)
    window = place_window(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    cols, filters = im2col(x, window, order="abc"), weight.transpose(0, 2, 3, 1).reshape(len(weight), -1)
    y = xp.tensordot(cols, filters, axes=(1, 1))
    if bias is not None:
        y += bias
    y = y.reshape(len(x), *window.out, len(weight)).transpose(0, 3, 1, 2)
    return y, ConvCache(x, weight, bias is not None, window)


def conv2d_backward(dy: Array, cache: ConvCache | list[ConvCache]) -> tuple[Array, Array, Array | None]:
    """dy (N, O, H_out, W_out) -> dx (N, C, H, W), dweight (O, C/groups, kh, kw), dbias (O,) or None."""
    if isinstance(cache, list) and cache:
        return grouped_backward(dy, cache)
    x, weight, has_bias, window = cache_of(cache, ConvCache)
    xp = check_upstream(dy, (len(x), len(weight), *window.out), x)
    cols, filters = im2col(x, window, order="abc"), weight.transpose(0, 2, 3, 1)
    dy = channels_last(xp, dy).reshape(len(x), -1, len(weight))  # (N, P, O)
    dweight = xp.tensordot(dy, cols, axes=((0, 1), (0, 2))).reshape(filters.shape).transpose(0, 3, 1, 2)
    taps = filters.reshape(len(filters), len(window.taps), -1).transpose(1, 0, 2)  # (kh*kw, O, C)
    dcols = dy.reshape(-1, len(weight)) @ taps  # (kh*kw, N*P, C)
    dx = col2im(dcols.reshape(len(taps), *dy.shape[:2], -1).transpose(1, 3, 0, 2), x.shape, window)
    dbias = dy.sum(axis=(0, 1)) if has_bias else None
    return dx, dweight, dbias


def grouped_forward(x: Array, weight: Array, bias: Array | None, groups: int, **settings: Any) -> tuple[Array, list]:
    """A convolution for each group, side by side; a list of their caches."""
    xp = array_namespace(x)
    biases = [None] * groups if bias is None else xp.split(bias, groups)
    parts = zip(xp.split(x, groups, axis=1), xp.split(weight, groups), biases, strict=True)
    y, caches = zip(*(conv2d_forward(*part, **settings) for part in parts), strict=True)
    return channels_last_memory(xp, xp.concatenate(y, axis=1)), list(caches)


def grouped_backward(dy: Array, caches: list[ConvCache]) -> tuple[Array, Array, Array | None]:
    """Each group's part of dy goes back through its own cache."""
    x, weight, has_bias, window = cache_of(caches[0], ConvCache)
    xp = check_upstream(dy, (len(x), len(weight) * len(caches), *window.out), x)
    dx, dweight, dbias = zip(*map(conv2d_backward, xp.split(dy, len(caches), axis=1), caches), strict=True)
    dx = channels_last_memory(xp, xp.concatenate(dx, axis=1))
    return dx, xp.concatenate(dweight), xp.concatenate(dbias) if has_bias else None
