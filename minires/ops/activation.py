"""Activations: functions applied to every number by itself, y = f(x), so that dx = dy * f'(x).

    relu        y = max(x, 0)                    f' = 1 where x > 0, else 0    (at x = 0 we take 0, as PyTorch does)
    leaky_relu  y = x where x > 0, else slope*x  f' = 1 where x > 0, else slope
    tanh        y = tanh(x)                      f' = 1 - y^2
    sigmoid     y = 1 / (1 + exp(-x))            f' = y (1 - y)

Where it can be, the derivative is written in the output y, which the next layer keeps alive anyway, so that x can be
forgotten. For relu, y > 0 exactly where x > 0. For complex numbers (the complex step) the gates look at the real part.

Sources: Nair, Hinton 2010 (relu); Maas, Hannun, Ng 2013 (leaky relu).
"""

from minires.backend import Array
from minires.checks import cache_of, check_arrays, check_elementwise, check_number, check_upstream


def relu_forward(x: Array) -> tuple[Array, Array]:
    """x of any shape -> y, cache (which is y)."""
    xp = check_arrays(x=x)
    y = xp.where(x.real > 0, x, 0) if x.dtype.kind == "c" else xp.maximum(x, 0)
    return y, y


def relu_backward(dy: Array, cache: Array) -> Array:
    """dy like x -> dx. The gate is `y != 0`, not `y > 0`: a NaN of the forward pass shows in the gradient, too."""
    check_elementwise(dy, cache)
    return dy * (cache != 0)


def leaky_relu_forward(x: Array, slope: float = 0.01) -> tuple[Array, tuple[Array, float]]:
    """x of any shape, slope >= 0 -> y, cache."""
    xp, slope = check_arrays(x=x), check_number("slope", slope, 0)
    return xp.where(x.real > 0, x, x * slope), (x, slope)


def leaky_relu_backward(dy: Array, cache: tuple[Array, float]) -> Array:
    """dy like x -> dx."""
    x, slope = cache_of(cache, tuple, 2)
    xp = check_upstream(dy, x.shape, x)
    return xp.where(x.real > 0, dy, dy * slope)


def tanh_forward(x: Array) -> tuple[Array, Array]:
    """x of any shape -> y, cache (which is y)."""
    xp = check_arrays(x=x)
    y = xp.tanh(x)
    return y, y


def tanh_backward(dy: Array, cache: Array) -> Array:
    """dy like x -> dx."""
    check_elementwise(dy, cache)
    return dy * (1 - cache * cache)


def sigmoid_forward(x: Array) -> tuple[Array, Array]:
    """x of any shape -> y, cache (which is y). For x < 0 written as exp(x) / (1 + exp(x)): nothing overflows."""
    xp = check_arrays(x=x)
    positive = x.real > 0
    e = xp.exp(xp.where(positive, -x, x))
    y = xp.where(positive, 1, e) / (1 + e)
    return y, y


def sigmoid_backward(dy: Array, cache: Array) -> Array:
    """dy like x -> dx."""
    check_elementwise(dy, cache)
    return dy * (cache * (1 - cache))
