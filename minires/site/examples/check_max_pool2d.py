"""Max pooling: is this backward right?

The largest number of each window; backward sends dy to the place it came from.
"""

import numpy as np


def max_pool_forward(x, kernel_size=2, stride=2):
    kh, kw = np.broadcast_to(kernel_size, 2)
    sh, sw = np.broadcast_to(stride, 2)
    n, c, h, w = x.shape
    y = np.zeros((n, c, (h - kh) // sh + 1, (w - kw) // sw + 1))
    for i in range(y.shape[2]):
        for j in range(y.shape[3]):
            y[:, :, i, j] = x[:, :, i * sh : i * sh + kh, j * sw : j * sw + kw].max(axis=(2, 3))
    return y, (x, y, kh, kw, sh, sw)


def max_pool_backward(dy, cache):
    x, y, kh, kw, sh, sw = cache
    dx = np.zeros_like(x)
    for i in range(y.shape[2]):
        for j in range(y.shape[3]):
            rows, columns = slice(i * sh, i * sh + kh), slice(j * sw, j * sw + kw)
            largest = x[:, :, rows, columns] == y[:, :, i : i + 1, j : j + 1]
            dx[:, :, rows, columns] = largest * dy[:, :, i : i + 1, j : j + 1]
    return dx
