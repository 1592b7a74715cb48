"""Global average pooling: is this backward right?

One number for each channel of each image: y[n, c] is the mean of x[n, c].
"""

import numpy as np


def global_avg_pool_forward(x):
    return x.mean(axis=(2, 3)), x.shape


def global_avg_pool_backward(dy, cache):
    n, c, h, w = cache
    return np.broadcast_to(dy[:, :, None, None], cache) / (h * w)
