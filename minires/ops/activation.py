"""Activations: functions applied to every number by itself, y = f(x), so that dx = dy * f'(x).

    relu        y = max(x, 0)                    f' = 1 where x > 0, else 0    (at x = 0 we take 0, as PyTorch does)
    leaky_relu  y = x where x > 0, else slope*x  f' = 1 where x > 0, else slope
    tanh        y = tanh(x)                      f' = 1 - y^2
    sigmoid     y = 1 / (1 + exp(-x))            f' = y (1 - y)

Where it can be, the derivative is written in the output y, which the next layer keeps alive anyway, so that x can be
forgotten: for relu, y > 0 exactly where x > 0. For complex numbers (the complex step) the gates look at the real part.

Sources: Nair, Hinton 2010 (relu); Maas, Hannun, Ng 2013 (leaky relu).
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import NamedTuple

from minires.backend import Array
from minires.checks import check_arrays, check_number, check_upstream
from minires.ops.layout import filled


def elementwise(f: Callable[..., object], *arrays: Array) -> Array:
    """The result of a function that works on every number by itself, for arrays of one shape (N, ...).

    f(*arrays, result) writes into its last argument, as NumPy's ufuncs do.
    """
    xp = check_arrays(**{f"operand {i}": array for i, array in enumerate(arrays, 1)})
    result = xp.empty_like(arrays[0])
    if result.ndim > 0 and result.size > 0:
        return filled(result, lambda part: f(*(a[part] for a in arrays), result[part]))
    f(*arrays, result)
    return result


def relu_forward(x: Array) -> tuple[Array, Array]:
    """x of any shape -> y, cache (which is y). What a network with BatchNorm does instead: `nn/sequential.py`."""
    xp = check_arrays(x=x)
    y = elementwise(lambda x, y: rectify(xp, x, y), x)
    return y, y


def relu_backward(dy: Array, cache: Array) -> Array:
    """dy like x -> dx."""
    xp = check_upstream(dy, cache.shape, cache)
    return elementwise(lambda dy, y, dx: gate(xp, dy, y, dx), dy, cache)


def rectify(xp: ModuleType, x: Array, y: Array) -> None:
    """y = relu(x), where y may be x. (`clip` with plain numbers is twice as fast as `maximum`.)"""
    if x.dtype.kind == "c":
        y[...] = xp.where(x.real > 0, x, 0)
    else:
        xp.clip(x, 0, xp.inf, out=y)


def gate(xp: ModuleType, dy: Array, y: Array, dx: Array) -> None:
    """dx = dy where y is not 0, else 0 * dy: not `y > 0`, so that a NaN comes through, and whoever looks sees it."""
    xp.multiply(dy, y != 0, out=dx)


class LeakyReLUCache(NamedTuple):
    x: Array
    slope: float


def leaky_relu_forward(x: Array, slope: float = 0.01) -> tuple[Array, LeakyReLUCache]:
    """x of any shape, slope >= 0 -> y, cache."""
    xp = check_arrays(x=x)
    slope = check_number("slope", slope, 0)

    def leaky_relu(x: Array, y: Array) -> None:
        y[...] = xp.where(x.real > 0, x, x * slope)

    return elementwise(leaky_relu, x), LeakyReLUCache(x, slope)


def leaky_relu_backward(dy: Array, cache: LeakyReLUCache) -> Array:
    """dy like x -> dx."""
    xp = check_upstream(dy, cache.x.shape, cache.x)

    def gate(dy: Array, x: Array, dx: Array) -> None:
        dx[...] = xp.where(x.real > 0, dy, dy * cache.slope)

    return elementwise(gate, dy, cache.x)


def tanh_forward(x: Array) -> tuple[Array, Array]:
    """x of any shape -> y, cache (which is y)."""
    xp = check_arrays(x=x)
    y = elementwise(xp.tanh, x)
    return y, y


def tanh_backward(dy: Array, cache: Array) -> Array:
    """dy like x -> dx."""
    xp = check_upstream(dy, cache.shape, cache)
    return elementwise(lambda dy, y, dx: xp.multiply(dy, 1 - y * y, out=dx), dy, cache)


def sigmoid_forward(x: Array) -> tuple[Array, Array]:
    """x of any shape -> y, cache (which is y). For x < 0 written as exp(x) / (1 + exp(x)): nothing overflows."""
    xp = check_arrays(x=x)

    def sigmoid(x: Array, y: Array) -> None:
        positive = x.real > 0
        e = xp.exp(xp.where(positive, -x, x))
        xp.divide(xp.where(positive, 1, e), 1 + e, out=y)

    y = elementwise(sigmoid, x)
    return y, y


def sigmoid_backward(dy: Array, cache: Array) -> Array:
    """dy like x -> dx."""
    xp = check_upstream(dy, cache.shape, cache)
    return elementwise(lambda dy, y, dx: xp.multiply(dy, y * (1 - y), out=dx), dy, cache)
