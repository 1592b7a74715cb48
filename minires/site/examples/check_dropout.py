"""Dropout: is this backward right?

Each number is dropped with probability p; those that stay are divided by 1 - p, so that the mean stays as it was.
"""


def dropout_forward(x, p, rng):
    mask = rng.random(x.shape) >= p
    return x * mask / (1 - p), (mask, p)


def dropout_backward(dy, cache):
    mask, p = cache
    return dy * mask
