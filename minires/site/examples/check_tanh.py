"""tanh: is this backward right?

The derivative of tanh is 1 - tanh², so backward needs no more than the output.
"""

import numpy as np


def tanh_forward(x):
    y = np.tanh(x)
    return y, y


def tanh_backward(dy, cache):
    return dy * (1 - cache**2)
