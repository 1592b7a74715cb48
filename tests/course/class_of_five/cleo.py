"""A made-up submission: only the loops are written, and backward never ends."""

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
    while True:
        dbias += 1
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
