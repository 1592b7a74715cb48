"""What shows before any number is compared: a wrong shape, NaN, all zeros, the wrong dtype."""

from __future__ import annotations

from itertools import permutations

import numpy as np

from minires.gradcheck.hypotheses.comparison import Comparison, close, listed, subsets
from minires.gradcheck.numerical import is_single


def wrong_shape(c: Comparison) -> str:
    """Transposed, not summed, or kept axes."""
    yours, shape = c.yours, c.expected.shape
    start = f"{c.name} has shape {yours.shape} where {shape} is needed"
    bound = float(np.max(c.bound))
    for order in permutations(range(yours.ndim)):
        if yours.transpose(order).shape == shape and close(yours.transpose(order), c.expected, bound):
            return f"{start}: it is transposed; the numbers are right"
    if yours.size == c.expected.size and close(yours.reshape(shape), c.expected, bound):
        return f"{start}: the numbers are right, but axes of length 1 were kept; reshape it"
    for axes in subsets(yours.ndim):
        summed = yours.sum(axis=axes)
        if summed.size == c.expected.size and close(summed.reshape(shape), c.expected, bound * yours.size):
            return f"{start}: it was not summed over axis {listed(axes)}"
    try:
        spread = np.broadcast_to(yours, shape)
    except ValueError:
        return start
    if close(spread, c.expected, bound):
        return f"{start}: the numbers are right where they are, but broadcasting has to be written out"
    return start


def not_finite(c: Comparison) -> str | None:
    bad = ~np.isfinite(c.yours)
    if not bad.any():
        return None
    where = tuple(int(i) for i in np.argwhere(bad)[0])
    return (
        f"{c.name} holds {int(bad.sum())} NaN or infinite numbers, the first at {where}: "
        "look for a division by 0, a log of 0, an exp of a large number, or memory that was never filled (np.empty)"
    )


def all_zero(c: Comparison) -> str | None:
    if np.any(c.yours):
        return None
    return f"{c.name} is all zeros: it is never computed, or computed into an array that is not returned"


def whole_numbers(c: Comparison) -> str | None:
    """Right numbers put into an array of integers, which cuts off their fractions."""
    if c.yours.dtype.kind not in "iu" or not c.fits(np.trunc(c.expected)):
        return None
    return f"{c.name} holds whole numbers ({c.yours.dtype}): fractions were cut off; make it with dtype=dy.dtype"


def single_precision(c: Comparison) -> str | None:
    """Right up to the rounding of float32."""
    scale = np.maximum(np.abs(c.expected), np.nanmax(np.abs(c.expected)) * 0.1)
    close = np.abs(c.yours - c.expected)[c.known] <= 2.0**-20 * scale[c.known]
    if not np.all(close) or not (is_single(c.yours) or c.yours.dtype == np.float32):
        return None
    return f"{c.name} is right, but rounded to float32: keep the dtype of dy (look for astype and np.float32)"
