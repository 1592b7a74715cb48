"""What a gradient depends on: an input that it should change with and does not, or the reverse."""

from __future__ import annotations

import numpy as np

from minires.backend import Array
from minires.gradcheck.hypotheses.comparison import Comparison, position
from minires.gradcheck.hypotheses.parts import place

LITTLE = 2.0**-10
"""Relative size of a small change of an input."""

REDRAWS = 6
"""Large changes of an input; what stays the same under all of them may be said not to depend on it."""


def does_not_change(c: Comparison) -> str | None:
    """yours stays the same when an input changes, and the right gradient does not: that input is missing in it."""
    if c.evidence is None or c.rerun is None or not c.is_far or not c.evidence.fits(c.index):
        return None
    order = [c.index, *(k for k in range(len(c.names)) if k != c.index)]
    for k in order:
        little = _moved(c, k, LITTLE)
        if not _stays(c, little) or not _right_moves(c, little):
            continue
        told = f"{c.name} stays the same when {c.names[k]} changes"
        if all(_stays(c, _moved(c, k, 3.0, draw)) for draw in range(REDRAWS)):
            return f"{told}, but it should change with it: what depends on {c.names[k]} is missing in it"
        return (
            f"{told} a little, where the right one changes with it: what depends on {c.names[k]} is missing in it, or "
            "rounded, or compared with a threshold"
        )
    return None


def without_dy(c: Comparison) -> str | None:
    """Some entries are not made from dy at all: a value is put where dy has to be multiplied by it."""
    if c.evidence is None or not c.is_far or c.yours.shape != c.expected.shape:
        return None
    alone = c.evidence.backward(np.zeros_like(c.evidence.dy))[c.index]
    wrong = c.wrong()
    if alone is None or alone.shape != c.yours.shape or not np.array_equal(alone != 0, wrong) or wrong.sum() < 2:
        return None
    if np.any(alone[wrong] != c.yours[wrong]) or wrong[c.known].all():
        return None
    first = int(np.flatnonzero(wrong)[0])
    values = c.yours[wrong]
    what = f"{values[0]:.4g} at each of them" if np.ptp(values) <= 1e-12 else f"{values[0]:.4g} at the first of them"
    if c.x is not None and c.x.shape == wrong.shape and np.ptp(values) > 1e-12 and np.all(c.x[wrong]):
        ratio = values / c.x[wrong]
        if np.ptp(ratio) <= 1e-9 * abs(ratio[0]):
            what = f"{ratio[0]:.4g} times {c.own}"
    return (
        f"{c.name} is wrong {place(c)}, and there it stays the same whatever dy is ({what}; "
        f"{c.name}{position(first, wrong.shape)} should be {c.expected.flat[first]:.4g}): a value is put there, where "
        "dy has to be multiplied by it"
    )


def _moved(c: Comparison, k: int, size: float, draw: int = 0) -> tuple[Array, ...]:
    """The inputs, with a random change of input k; `size` is relative to its entries."""
    inputs = list(c.evidence.inputs)
    noise = np.random.default_rng([k, 3, draw]).standard_normal(inputs[k].shape)
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
