"""Linear: is this backward right?

An affine layer and its backward pass, as somebody wrote them. Press Check. Then paste your own two functions: one whose
name has forward in it, and one with backward.
"""


def affine_forward(x, weight, bias):
    """x (N, I), weight (O, I), bias (O,) -> y (N, O)."""
    return x @ weight.T + bias, (x, weight)


def affine_backward(dy, cache):
    """dy (N, O) -> the gradients of x, weight and bias."""
    x, weight = cache
    return dy @ weight, dy.T @ x, dy.mean(axis=0)
