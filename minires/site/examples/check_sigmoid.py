"""Sigmoid: is this backward right?

y = 1 / (1 + exp(-x)), with the derivative y (1 - y).
"""

import numpy as np


def sigmoid_forward(x):
    y = 1 / (1 + np.exp(-x))
    return y, x


def sigmoid_backward(dy, cache):
    y = cache
    return dy * y * (1 - y)
