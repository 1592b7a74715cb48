"""Dropout (Srivastava et al. 2014), in its inverted form: nothing has to be rescaled at test time.

    keep[i] = 1 with probability 1 - p, else 0          y = x * keep / (1 - p)          so that E y = x

Backward: y is x times a constant, so dx = dy * keep / (1 - p), with the same mask.
"""

import numpy as np

from minires.backend import Array
from minires.checks import check_arrays, check_elementwise, check_number


def dropout_forward(x: Array, p: float, *, rng: np.random.Generator) -> tuple[Array, Array]:
    """x of any shape, p the probability that a number is dropped -> y, cache (the mask, scaled).

    The mask is drawn on the host, so that a seed gives the same mask on every device.
    Raises ValueError unless 0 <= p < 1, TypeError unless rng is a numpy.random.Generator.
    """
    xp = check_arrays(x=x)
    p = check_number("p", p, 0, below=1)
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng is {rng!r}; expected a numpy.random.Generator, as from np.random.default_rng(0)")
    keep = rng.random(x.shape, dtype=np.float32) >= p
    mask = xp.empty_like(x)  # in the memory order of x
    mask[...] = xp.asarray(keep)
    mask /= 1 - p
    return x * mask, mask


def dropout_backward(dy: Array, cache: Array) -> Array:
    """dy like x -> dx."""
    check_elementwise(dy, cache)
    return dy * cache
