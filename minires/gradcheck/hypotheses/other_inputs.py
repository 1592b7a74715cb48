"""Right for other inputs: another input transposed, flipped, exchanged, set to 1 or to 0."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from minires.backend import Array
from minires.gradcheck.hypotheses.comparison import Comparison
from minires.gradcheck.hypotheses.upstream import rearrangements


def other_input(c: Comparison) -> str | None:
    """The gradient at inputs that differ from those of the check: which it is, tells what backward has used."""
    if c.evidence is None or not c.is_far or not c.evidence.fits(c.index):
        return None
    inputs = c.evidence.inputs
    direction = np.cos(np.arange(c.yours.size) ** 2 + 1.0).reshape(c.yours.shape)
    claim = float(np.sum(c.yours * direction))
    slack = 1e-6 * float(np.sum(np.abs(c.yours * direction))) + 4 * float(np.max(c.bound)) * c.yours.size
    for words, k, array in _variants(c):
        changed = tuple(array if j == k else a for j, a in enumerate(inputs))
        try:
            if abs(c.evidence.slope(c.index, direction, changed) - claim) > slack:
                continue
            if c.near(c.evidence.gradient_at(c.index, changed)):
                return f"{c.name} is right for {words}"
        except (ValueError, TypeError):
            continue
    return None


def _variants(c: Comparison) -> Iterator[tuple[str, int, Array]]:
    for k, (name, array) in enumerate(zip(c.names, c.evidence.inputs, strict=True)):
        if k == c.index or array.size < 2:
            continue
        if not np.all(array == 1):
            yield f"{name} = 1: {name} is forgotten in it", k, np.ones_like(array)
        if np.any(array):
            yield f"{name} = 0: the part with {name} in it is forgotten", k, np.zeros_like(array)
            yield f"{name}^2 in place of {name}: it is multiplied in twice", k, array * array
        if array.ndim > 1:
            for words, changed in _reordered(array):
                wrong = "runs backwards" if "flipped" in words else "has its axes in the wrong order"
                yield f"{name} {words}: {name} {wrong} where it is used", k, changed
        for axis, count in enumerate(array.shape):
            for step in (1, -1) if count > 2 else ():
                where = f" along axis {axis}" if array.ndim > 1 else ""
                words = f"{name} moved by one{where} (np.roll): its index is off by one"
                yield words, k, np.roll(array, step, axis)
        for j, (other, replacement) in enumerate(zip(c.names, c.evidence.inputs, strict=True)):
            if j not in (k, c.index) and replacement.shape == array.shape:
                yield f"{other} in place of {name}: the wrong array is used", k, replacement
        if array.shape == c.evidence.y.shape:
            yield f"y in place of {name}: the wrong array is used", k, c.evidence.y


def _reordered(array: Array) -> Iterator[tuple[str, Array]]:
    names = tuple(f"axis {a}" for a in range(array.ndim))
    for count, (words, changed) in enumerate(rearrangements(array, names)):
        if count > 60:
            return  # pure transposes and flips come first
        yield words, changed
