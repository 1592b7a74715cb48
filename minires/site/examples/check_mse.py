"""Mean squared error: is this backward right?

The mean of (prediction - target)² over all numbers.
"""


def mse_forward(prediction, target):
    difference = prediction - target
    return (difference**2).mean(), difference


def mse_backward(dy, cache):
    return dy * cache / cache.size
