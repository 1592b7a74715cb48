"""ReLU: is this backward right?

y = max(x, 0). One line of backward, and one of the most common mistakes.
"""


def relu_forward(x):
    return x * (x > 0), x


def relu_backward(dy, cache):
    return dy * (dy > 0)
