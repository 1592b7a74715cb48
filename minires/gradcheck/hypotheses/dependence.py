"""What a gradient depends on: an input that it should change with and does not, or the reverse."""

from __future__ import annotations

import numpy as np

from minires.backend import Array
from minires.gradcheck.hypotheses.comparison import Comparison

LITTLE = 2.0**-10
"""Relative size of a small change of an input."""


def does_not_change(c: Comparison) -> str | None:
    """yours stays the same when an input changes, and the right gradient does not: that input is missing in it."""
    if c.evidence is None or c.rerun is None or not c.is_far or not c.evidence.fits(c.index):
        return None
    order = [c.index, *(k for k in range(len(c.names)) if k != c.index)]
    for k in order:
        little, much = (_moved(c, k, size) for size in (LITTLE, 1.0))
        if not _stays(c, little) or not _right_moves(c, little):
            continue
        told = f"{c.name} stays the same when {c.names[k]} changes"
        if _stays(c, much):
            return f"{told}, but it should change with it: what depends on {c.names[k]} is missing in it"
        return (
            f"{told} a little, where the right one changes with it: what depends on {c.names[k]} is missing in it, or "
            "rounded, or compared with a threshold"
        )
    return None


def _moved(c: Comparison, k: int, size: float) -> tuple[Array, ...]:
    """The inputs, with a random change of input k; `size` is relative to its entries."""
    inputs = list(c.evidence.inputs)
    noise = np.random.default_rng([k, 3]).standard_normal(inputs[k].shape)
    inputs[k] = inputs[k] * (1 + size * noise)
    return tuple(inputs)


def _stays(c: Comparison, inputs: tuple[Array, ...]) -> bool:
    try:
        found = c.rerun(tuple(a.copy() for a in inputs))[c.index]
    except (ValueError, TypeError):
        return False
    return found is not None and np.allclose(found, c.yours, rtol=1e-12, atol=1e-14 * np.max(np.abs(c.yours)))


def _right_moves(c: Comparison, inputs: tuple[Array, ...]) -> bool:
    """Whether the right gradient, along one direction, is another one at these inputs."""
    direction = np.cos(np.arange(c.yours.size) ** 2 + 1.0).reshape(c.yours.shape)
    here = c.evidence.slope(c.index, direction, c.evidence.inputs)
    there = c.evidence.slope(c.index, direction, inputs)
    return bool(np.isfinite(there) and abs(there - here) > 1e-5 * float(np.sum(np.abs(c.expected * direction))))
