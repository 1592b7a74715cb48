"""A made-up submission: that of bob with other names."""

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
    with_border = np.zeros((n, c, h + 2 * padding[0], w + 2 * padding[1]), x.dtype)
    with_border[:, :, padding[0] : padding[0] + h, padding[1] : padding[1] + w] = x
    y = np.zeros((n, o, ho, wo), x.dtype)
    for sample in range(n):
        for filter_ in range(o):
            for i in range(ho):
                for j in range(wo):
                    total = 0.0 if bias is None else bias[filter_]
                    for a in range(kh):
                        for b in range(kw):
                            row, column = i * stride[0] + a * dilation[0], j * stride[1] + b * dilation[1]
                            for channel in range(c):
                                total += with_border[sample, channel, row, column] * weight[filter_, channel, a, b]
                    y[sample, filter_, i, j] = total
    return y, (x, with_border, weight, bias is not None, stride, padding, dilation)


def conv2d_loops_backward(dy, cache):
    x, with_border, weight, biased, stride, padding, dilation = cache
    _, _, h, w = x.shape
    _, _, kh, kw = weight.shape
    dpadded, dweight = np.zeros_like(with_border), np.zeros_like(weight)
    dbias = np.zeros(len(weight), weight.dtype)
    for sample, filter_, i, j in np.ndindex(dy.shape):
        up = dy[sample, filter_, i, j]
        dbias[filter_] += up
        for a in range(kh):
            for b in range(kw):
                row, column = i * stride[0] + a * dilation[0], j * stride[1] + b * dilation[1]
                dpadded[sample, :, row, column] += up * weight[filter_, :, a, b]
                dweight[filter_, :, a, b] += up * with_border[sample, :, row, column]
    dx = dpadded[:, :, padding[0] : padding[0] + h, padding[1] : padding[1] + w]
    return dx, dweight, dbias if biased else None


def im2col(x, kernel_size, *, stride=1, padding=0, dilation=1):
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = map(pair, (kernel_size, stride, padding, dilation))
    n, c, h, w = x.shape
    ho, wo = sizes(h, w, (kh, kw), (sh, sw), (ph, pw), (dh, dw))
    with_border = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    columns = np.empty((n, c, kh, kw, ho, wo), x.dtype)
    for a in range(kh):
        for b in range(kw):
            columns[:, :, a, b] = with_border[:, :, a * dh : a * dh + sh * ho : sh, b * dw : b * dw + sw * wo : sw]
    return columns.reshape(n, c * kh * kw, ho * wo)


def col2im(columns, x_shape, kernel_size, *, stride=1, padding=0, dilation=1):
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = map(pair, (kernel_size, stride, padding, dilation))
    n, c, h, w = x_shape
    ho, wo = sizes(h, w, (kh, kw), (sh, sw), (ph, pw), (dh, dw))
    columns = columns.reshape(n, c, kh, kw, ho, wo)
    with_border = np.zeros((n, c, h + 2 * ph, w + 2 * pw), columns.dtype)
    for a in range(kh):
        for b in range(kw):
            with_border[:, :, a * dh : a * dh + sh * ho : sh, b * dw : b * dw + sw * wo : sw] = columns[:, :, a, b]
    return with_border[:, :, ph : ph + h, pw : pw + w]


def conv2d_forward(x, weight, bias=None, *, stride=1, padding=0, dilation=1):
    o, _, kh, kw = weight.shape
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    columns = im2col(x, (kh, kw), **options)
    y = np.einsum("ok,nkp->nop", weight.reshape(o, -1), columns)
    if bias is not None:
        y = y + bias[:, None]
    ho, wo = sizes(*x.shape[2:], (kh, kw), pair(stride), pair(padding), pair(dilation))
    return y.reshape(len(x), o, ho, wo), (x, columns, weight, bias is not None, options)


def conv2d_backward(dy, cache):
    x, columns, weight, biased, options = cache
    upstream = dy.reshape(len(dy), len(weight), -1)
    dweight = np.einsum("nop,nkp->ok", upstream, columns).reshape(weight.shape)
    dcols = np.einsum("ok,nop->nkp", weight.reshape(len(weight), -1), upstream)
    dx = col2im(dcols, x.shape, weight.shape[2:], **options)
    return dx, dweight, upstream.mean(axis=(0, 2)) if biased else None
