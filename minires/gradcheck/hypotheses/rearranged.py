"""The right numbers in the wrong place: transposed, flipped, shifted, or given to another input."""

from __future__ import annotations

from itertools import permutations

import numpy as np

from minires.backend import Array
from minires.gradcheck.hypotheses.comparison import Comparison, listed, subsets
from minires.gradcheck.hypotheses.upstream import REWRITTEN, rearrangements


def transposed(c: Comparison) -> str | None:
    for order in permutations(range(c.expected.ndim)):
        if order != tuple(range(c.expected.ndim)) and c.fits(c.expected.transpose(order)):
            moved = [c.axis_names[i] for i, j in enumerate(order) if i != j]
            return f"{c.name} is transposed: the axes {listed(moved)} are exchanged"
    return None


def rewritten(c: Comparison) -> str | None:
    """The right numbers read in one order of axes and written in another: a reshape where a transpose is needed."""
    if not np.all(c.known) or not c.is_far or c.expected.ndim < 2:
        return None
    for words, array in rearrangements(c.expected, c.axis_names):
        if words.startswith(REWRITTEN) and c.fits(array):
            return f"{c.name} has the right numbers {words}"
    return None


def flipped(c: Comparison) -> str | None:
    for axes in subsets(c.expected.ndim):
        if c.fits(np.flip(c.expected, axes)):
            return f"{c.name} is flipped along {listed([c.axis_names[i] for i in axes])}: it runs backwards there"
    return None


def shifted(c: Comparison) -> str | None:
    """yours = expected, moved by one or two pixels along the last two axes; what moved out of sight is not compared."""
    if c.expected.ndim < 3:
        return None
    for down in (0, 1, -1, 2, -2):
        for right in (0, 1, -1, 2, -2):
            if (down or right) and c.fits(_moved(c.expected, down, right)):
                steps = [_steps(down, "down", "up"), _steps(right, "right", "left")]
                return f"{c.name} is shifted by {' and '.join(s for s in steps if s)}: check padding and offsets"
    return None


def swapped(c: Comparison) -> str | None:
    """The gradient of another input."""
    for name, array in c.partners.items():
        if name.startswith("d") and name != "dy" and c.fits(array):
            if name not in c.also_wrong:
                return (
                    f"{c.name} is the gradient {name}, which is right itself: what makes the difference between the "
                    f"two is missing, or {name} is returned twice"
                )
            return f"{c.name} is the gradient {name}: the gradients are returned in the wrong order"
    return None


def _moved(a: Array, down: int, right: int) -> Array:
    """`a` moved along its last two axes; NaN where nothing came in."""
    result = np.full(a.shape, np.nan)
    h, w = a.shape[-2:]
    if abs(down) < h and abs(right) < w:
        to = (slice(max(down, 0), h + min(down, 0)), slice(max(right, 0), w + min(right, 0)))
        here = (slice(max(-down, 0), h + min(-down, 0)), slice(max(-right, 0), w + min(-right, 0)))
        result[(..., *to)] = a[(..., *here)]
    return result


def _steps(count: int, forward: str, backward: str) -> str:
    if not count:
        return ""
    return f"{abs(count)} pixel{'s' if abs(count) > 1 else ''} {forward if count > 0 else backward}"
