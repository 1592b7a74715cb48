"""Convolution: is this backward right?

A convolution in plain loops: x (N, C, H, W), weight (O, C, KH, KW), bias (O,). A pixel lies in several windows.
"""

import numpy as np


def conv_forward(x, weight, bias, stride=1, padding=0):
    n, c, h, w = x.shape
    o, _, kh, kw = weight.shape
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    oh, ow = (h + 2 * padding - kh) // stride + 1, (w + 2 * padding - kw) // stride + 1
    y = np.zeros((n, o, oh, ow))
    for i in range(oh):
        for j in range(ow):
            window = padded[:, :, i * stride : i * stride + kh, j * stride : j * stride + kw]
            y[:, :, i, j] = np.tensordot(window, weight, axes=((1, 2, 3), (1, 2, 3))) + bias
    return y, (x, weight, padded, stride, padding)


def conv_backward(dy, cache):
    x, weight, padded, stride, padding = cache
    kh, kw = weight.shape[2:]
    dpadded, dweight = np.zeros_like(padded), np.zeros_like(weight)
    for i in range(dy.shape[2]):
        for j in range(dy.shape[3]):
            rows, columns = slice(i * stride, i * stride + kh), slice(j * stride, j * stride + kw)
            dweight += np.tensordot(dy[:, :, i, j], padded[:, :, rows, columns], axes=(0, 0))
            dpadded[:, :, rows, columns] = np.tensordot(dy[:, :, i, j], weight, axes=(1, 0))
    h, w = x.shape[2:]
    return dpadded[:, :, padding : padding + h, padding : padding + w], dweight, dy.sum(axis=(0, 2, 3))
