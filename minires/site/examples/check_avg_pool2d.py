"""Average pooling: is this backward right?

The mean of each window; every number of a window has the same share in it.
"""

import numpy as np


def avg_pool_forward(x, kernel_size=2, stride=2):
    kh, kw = np.broadcast_to(kernel_size, 2)
    sh, sw = np.broadcast_to(stride, 2)
    n, c, h, w = x.shape
    y = np.zeros((n, c, (h - kh) // sh + 1, (w - kw) // sw + 1))
    for i in range(y.shape[2]):
        for j in range(y.shape[3]):
            y[:, :, i, j] = x[:, :, i * sh : i * sh + kh, j * sw : j * sw + kw].mean(axis=(2, 3))
    return y, (x.shape, kh, kw, sh, sw)


def avg_pool_backward(dy, cache):
    shape, kh, kw, sh, sw = cache
    dx = np.zeros(shape)
    for i in range(dy.shape[2]):
        for j in range(dy.shape[3]):
            dx[:, :, i * sh : i * sh + kh, j * sw : j * sw + kw] += dy[:, :, i : i + 1, j : j + 1]
    return dx
