"""Two small functions in which paths meet, for the faults that no single op can have.

    residual        y = x + relu(x W1^T) W2^T          x reaches y by two ways: dx is the sum of two gradients
    shared_linear   y = relu(x W^T) W^T                W is used twice: dW is the sum of two gradients

They follow the contract of `minires.ops`, and `like=` knows them.
"""

from __future__ import annotations

from minires.backend import Array
from minires.ops import linear_backward, linear_forward, relu_backward, relu_forward


def residual_forward(x: Array, weight1: Array, weight2: Array) -> tuple[Array, tuple]:
    """x (N, D), weight1 (H, D), weight2 (D, H) -> y (N, D), cache."""
    z, first = linear_forward(x, weight1)
    hidden, gate = relu_forward(z)
    branch, second = linear_forward(hidden, weight2)
    return x + branch, (first, gate, second)


def residual_backward(dy: Array, cache: tuple) -> tuple[Array, Array, Array]:
    """dy (N, D) -> dx, dweight1, dweight2."""
    first, gate, second = cache
    dhidden, dweight2, _ = linear_backward(dy, second)
    dx, dweight1, _ = linear_backward(relu_backward(dhidden, gate), first)
    return dy + dx, dweight1, dweight2


def shared_linear_forward(x: Array, weight: Array) -> tuple[Array, tuple]:
    """x (N, D), weight (D, D) -> y (N, D), cache."""
    z, first = linear_forward(x, weight)
    hidden, gate = relu_forward(z)
    y, second = linear_forward(hidden, weight)
    return y, (first, gate, second)


def shared_linear_backward(dy: Array, cache: tuple) -> tuple[Array, Array]:
    """dy (N, D) -> dx, dweight."""
    first, gate, second = cache
    dhidden, dweight, _ = linear_backward(dy, second)
    dx, from_first_use, _ = linear_backward(relu_backward(dhidden, gate), first)
    return dx, dweight + from_first_use
