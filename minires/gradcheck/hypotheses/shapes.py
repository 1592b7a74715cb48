"""What shows before any number is compared: a wrong shape, NaN, all zeros, the wrong dtype."""

from __future__ import annotations

from itertools import permutations

import numpy as np

from minires.gradcheck.hypotheses.comparison import Comparison, close, listed, subsets
from minires.gradcheck.precision import looks_single


def shapes_differ(name: str, yours: tuple[int, ...], needed: tuple[int, ...]) -> str:
    """What can be said without a look at the numbers."""
    start = f"{name} has shape {yours} where {needed} is needed"
    return f"{start}: it is empty, as x[p:-p] is where p is 0" if 0 in yours else start


def wrong_shape(c: Comparison) -> str:
    """Transposed, not summed, its padding left on, axes of length 1 kept or dropped."""
    yours, shape = c.yours, c.expected.shape
    start = shapes_differ(c.name, yours.shape, shape)
    if yours.size == 0:
        return start
    bound = float(np.max(c.bound))
    for order in permutations(range(yours.ndim)):
        if yours.transpose(order).shape == shape and close(yours.transpose(order), c.expected, bound):
            return f"{start}: it is transposed; the numbers are right"
    if yours.size == c.expected.size and close(yours.reshape(shape), c.expected, bound):
        return f"{start}: the numbers are right, {_other_shape(yours.shape, shape)}"
    if (padding := _padding_left(c, bound)) is not None:
        return f"{start}: {padding}"
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


def _other_shape(yours: tuple[int, ...], shape: tuple[int, ...]) -> str:
    if [s for s in yours if s > 1] != [s for s in shape if s > 1]:
        return "but in another shape; reshape it to that of the input"
    if len(yours) > len(shape):
        return "but axes of length 1 were kept; reshape it"
    return "but an axis of length 1 is missing (np.squeeze, or a sum without keepdims?)"


def _padding_left(c: Comparison, bound: float) -> str | None:
    """Whether a larger array holds the right numbers in its middle."""
    yours, shape = c.yours, c.expected.shape
    if yours.ndim != len(shape) or any(a < b for a, b in zip(yours.shape, shape, strict=True)):
        return None
    extra = [a - b for a, b in zip(yours.shape, shape, strict=True)]
    starts = [e // 2 for e in extra]
    if any(e % 2 for e in extra):
        return None
    middle = tuple(slice(s, s + n) for s, n in zip(starts, shape, strict=True))
    if not close(yours[middle], c.expected, bound):
        return None
    cut = ", ".join(f"{s} on each side along axis {axis}" for axis, s in enumerate(starts) if s)
    return f"it still has its padding; the numbers inside are right. Cut off {cut}"


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
    if not np.any(c.yours):
        return f"{c.name} is all zeros: it is never computed, or computed into an array that is not returned"
    if c.is_far and np.max(np.abs(c.yours)) <= 1e-13 * np.max(np.abs(c.expected), where=c.known, initial=0.0):
        return f"{c.name} is 0 up to rounding: what is added up in it cancels"
    return None


def whole_numbers(c: Comparison) -> str | None:
    """Right numbers put into an array of integers, which cuts off their fractions (or rounds them)."""
    if c.yours.dtype.kind not in "iu" or np.any(np.abs(c.yours - c.expected)[c.known] > 1):
        return None
    return (
        f"{c.name} holds whole numbers ({c.yours.dtype}): its fractions were cut off or rounded. Make it with "
        "dtype=dy.dtype"
    )


def nearly_right(c: Comparison) -> str | None:
    """Off by next to nothing, in many entries: an epsilon inside a log, a root or a division."""
    if not np.all(c.known):
        return None
    size = float(np.max(np.abs(c.expected), initial=0.0))
    off = float(np.max(np.abs(c.yours - c.expected), initial=0.0))
    if not 0 < off <= 1e-4 * size or c.wrong().mean() < 0.25:
        return None
    return (
        f"{c.name} is nearly right: it is off by up to {off / size:.1g} of its largest entry. Is there an epsilon "
        "(1e-8 or so) inside a log, a root or a division in only one of the two passes?"
    )


def single_precision(c: Comparison) -> str | None:
    """Right up to the rounding of float32."""
    scale = np.maximum(np.abs(c.expected), np.nanmax(np.abs(c.expected)) * 0.1)
    close = np.abs(c.yours - c.expected)[c.known] <= 2.0**-20 * scale[c.known]
    if not np.all(close) or not looks_single(c.yours):
        return None
    kept = "the dtype of the inputs" if c.name == "y" else "the dtype of dy"
    return f"{c.name} is right, but rounded to float32: keep {kept} (look for astype and np.float32)"
