"""A made-up submission: everything is right."""

from __future__ import annotations

import numpy as np


def pair(value):
    return (value, value) if isinstance(value, int | np.integer) else tuple(value)


def sizes(h, w, kernel, stride, padding, dilation):
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = kernel, stride, padding, dilation
    return (h + 2 * ph - dh * (kh - 1) - 1) // sh + 1, (w + 2 * pw - dw * (kw - 1) - 1) // sw + 1


def conv2d_loops_forward(x, weight, bias=None, *, stride=1, padding=0, dilation=1):
    stride, padding, dilation = pair(stride), pair(padding), pair(dilation)
    n, c, h, w = x.shape
    o, _, kh, kw = weight.shape
    ho, wo = sizes(h, w, (kh, kw), stride, padding, dilation)
    padded = np.zeros((n, c, h + 2 * padding[0], w + 2 * padding[1]), x.dtype)
    padded[:, :, padding[0] : padding[0] + h, padding[1] : padding[1] + w] = x
    y = np.zeros((n, o, ho, wo), x.dtype)
    for image in range(n):
        for out in range(o):
            for i in range(ho):
                for j in range(wo):
                    total = 0.0 if bias is None else bias[out]
                    for a in range(kh):
                        for b in range(kw):
                            row, column = i * stride[0] + a * dilation[0], j * stride[1] + b * dilation[1]
                            for channel in range(c):
                                total += padded[image, channel, row, column] * weight[out, channel, a, b]
                    y[image, out, i, j] = total
    return y, (x, padded, weight, bias is not None, stride, padding, dilation)


def conv2d_loops_backward(dy, cache):
    x, padded, weight, has_bias, stride, padding, dilation = cache
    _, _, h, w = x.shape
    _, _, kh, kw = weight.shape
    dpadded, dweight = np.zeros_like(padded), np.zeros_like(weight)
    dbias = np.zeros(len(weight), weight.dtype)
    for image, out, i, j in np.ndindex(dy.shape):
        up = dy[image, out, i, j]
        dbias[out] += up
        for a in range(kh):
            for b in range(kw):
                row, column = i * stride[0] + a * dilation[0], j * stride[1] + b * dilation[1]
                dpadded[image, :, row, column] += up * weight[out, :, a, b]
                dweight[out, :, a, b] += up * padded[image, :, row, column]
    dx = dpadded[:, :, padding[0] : padding[0] + h, padding[1] : padding[1] + w]
    return dx, dweight, dbias if has_bias else None


def im2col(x, kernel_size, *, stride=1, padding=0, dilation=1):
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = map(pair, (kernel_size, stride, padding, dilation))
    n, c, h, w = x.shape
    ho, wo = sizes(h, w, (kh, kw), (sh, sw), (ph, pw), (dh, dw))
    padded = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    cols = np.empty((n, c, kh, kw, ho, wo), x.dtype)
    for a in range(kh):
        for b in range(kw):
            cols[:, :, a, b] = padded[:, :, a * dh : a * dh + sh * ho : sh, b * dw : b * dw + sw * wo : sw]
    return cols.reshape(n, c * kh * kw, ho * wo)


def col2im(cols, x_shape, kernel_size, *, stride=1, padding=0, dilation=1):
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = map(pair, (kernel_size, stride, padding, dilation))
    n, c, h, w = x_shape
    ho, wo = sizes(h, w, (kh, kw), (sh, sw), (ph, pw), (dh, dw))
    cols = cols.reshape(n, c, kh, kw, ho, wo)
    padded = np.zeros((n, c, h + 2 * ph, w + 2 * pw), cols.dtype)
    for a in range(kh):
        for b in range(kw):
            padded[:, :, a * dh : a * dh + sh * ho : sh, b * dw : b * dw + sw * wo : sw] += cols[:, :, a, b]
    return padded[:, :, ph : ph + h, pw : pw + w]


def conv2d_forward(x, weight, bias=None, *, stride=1, padding=0, dilation=1):
    o, _, kh, kw = weight.shape
    settings = {"stride": stride, "padding": padding, "dilation": dilation}
    cols = im2col(x, (kh, kw), **settings)
    y = np.einsum("ok,nkp->nop", weight.reshape(o, -1), cols)
    if bias is not None:
        y = y + bias[:, None]
    ho, wo = sizes(*x.shape[2:], (kh, kw), pair(stride), pair(padding), pair(dilation))
    return y.reshape(len(x), o, ho, wo), (x, cols, weight, bias is not None, settings)


def conv2d_backward(dy, cache):
    x, cols, weight, has_bias, settings = cache
    flat = dy.reshape(len(dy), len(weight), -1)
    dweight = np.einsum("nop,nkp->ok", flat, cols).reshape(weight.shape)
    dcols = np.einsum("ok,nop->nkp", weight.reshape(len(weight), -1), flat)
    dx = col2im(dcols, x.shape, weight.shape[2:], **settings)
    return dx, dweight, flat.sum(axis=(0, 2)) if has_bias else None
