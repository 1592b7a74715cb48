"""Which output sends its gradient where: the Jacobian of forward beside the one that backward has."""

from __future__ import annotations

import numpy as np

from minires.backend import Array
from minires.gradcheck.hypotheses.comparison import Comparison, listed, plural, position
from minires.gradcheck.hypotheses.contributions import TINY, passes_on


def misplaced(c: Comparison) -> str | None:
    """Each output sends the right amounts, but to the wrong entries."""
    pair = both_jacobians(c)
    if pair is None or c.evidence.dy.ndim == 0:
        return None
    right, theirs, nothing = pair
    same = np.max(np.abs(np.sort(right, axis=1) - np.sort(theirs, axis=1))) <= 1e-6 * np.max(np.abs(right))
    moved = np.flatnonzero(np.max(np.abs(right - theirs), axis=1) > 1e3 * nothing)
    if not same or len(moved) < 2 or np.all(np.abs(right) > nothing):
        return None
    j = int(moved[0])
    here, there = _route(right[j], theirs[j])
    shape, y_shape = c.yours.shape, c.evidence.dy.shape
    return (
        f"{c.name} passes the right amounts on to the wrong positions, for {len(moved)} of {len(right)} outputs: "
        f"dy{position(j, y_shape)} goes to {c.name}{position(here, shape)} and belongs to "
        f"{c.name}{position(there, shape)}{_shift(right, theirs, moved, shape, nothing)}. Check the index "
        "(its row, its column, their order) and every reshape and transpose"
    )


def _route(right: Array, theirs: Array) -> tuple[int, int]:
    """Where the largest misplaced amount of one output goes, and where an amount of the same size belongs."""
    moved = np.abs(theirs - right) > 1e-6 * np.max(np.abs(right))
    here = int(np.argmax(np.where(moved, np.abs(theirs), -1.0)))
    there = int(np.argmin(np.where(moved, np.abs(right - theirs[here]), np.inf)))
    return here, there


def _shift(right: Array, theirs: Array, moved: Array, shape: tuple[int, ...], nothing: float) -> str:
    """One displacement for all outputs, if it is one."""
    index = np.indices(shape).reshape(len(shape), -1).astype(float)
    steps = []
    for j in moved:
        centers = [
            (index * (np.abs(m[j]) > nothing)).sum(axis=1) / (np.abs(m[j]) > nothing).sum() for m in (theirs, right)
        ]
        steps.append(centers[0] - centers[1])
    first = steps[0]
    if (
        len(steps) < 3
        or np.max(np.abs(np.array(steps) - first)) > 1e-9
        or not np.allclose(first, np.round(first))
        or not np.any(first)
    ):
        return ""
    return f"; all are off by {tuple(int(s) for s in first)}"


def coupled(c: Comparison) -> str | None:
    """Yours lets entries depend on dy along another axis than they do: a sum runs over the wrong axis."""
    pair = both_jacobians(c)
    if pair is None or c.yours.ndim < 2 or c.evidence.dy.ndim == 0:
        return None
    right, theirs, nothing = pair
    names = c.nouns(c.yours.shape)
    should, does = (_spread(m, c.evidence.dy.shape, c.yours.shape, nothing) for m in (right, theirs))
    extra = [names[a] for a in does if a not in should]
    lacking = [names[a] for a in should if a not in does]
    if extra and lacking:
        return (
            f"an entry of {c.name} depends on dy at {_others(extra)}, where it should depend on it at "
            f"{_others(lacking)}: a sum runs over the wrong axis"
        )
    if extra:
        told = f"an entry of {c.name} depends on dy at {_others(extra)}"
        return f"{told}: does a sum run over the wrong axis, or over too many?"
    if lacking:
        told = f"an entry of {c.name} does not depend on dy at {_others(lacking)}, but it should"
        return f"{told}: {_missing(right, theirs)}"
    return None


def _missing(right: Array, theirs: Array) -> str:
    """What to say where dependences are missing: whether those that are there are right."""
    there = theirs != 0
    if np.max(np.abs(theirs - right)[there], initial=0.0) <= 1e-6 * np.max(np.abs(right)):
        return "a sum is missing, and only the part with the same index is there"
    return "a sum, or a whole path (through a mean, a gate), is missing, or it runs over another axis"


def _others(nouns: list[str]) -> str:
    """The plural of some axes' names: "other samples and other indices along axis 1"."""
    return listed([f"other {plural(noun)}" for noun in nouns])


def _spread(matrix: Array, y_shape: tuple[int, ...], shape: tuple[int, ...], nothing: float) -> tuple[int, ...]:
    """The axes, of those that both arrays have, along which an entry depends on outputs with another index."""
    out, into = (np.indices(s).reshape(len(s), -1) for s in (y_shape, shape))
    present = np.abs(matrix) > nothing
    shared = [a for a in range(min(len(shape), len(y_shape))) if shape[a] == y_shape[a]]
    return tuple(a for a in shared if np.any(present & (out[a][:, None] != into[a][None, :])))


def right_for_first_step(c: Comparison) -> str | None:
    """Right while dy is 0 beyond its first index along an axis (a time), and wrong once later ones count."""
    pair = both_jacobians(c)
    if pair is None or c.evidence.dy.ndim < 2:
        return None
    right, theirs, nothing = pair
    shape = c.evidence.dy.shape
    off = (np.max(np.abs(right - theirs), axis=1) > 1e3 * nothing).reshape(shape)
    for axis, noun in enumerate(c.nouns(shape)):
        count = shape[axis]
        share = np.moveaxis(off, axis, 0).reshape(count, -1).mean(axis=1)
        if count < 3 or share[0] or np.any(share[1:] < 0.5):
            continue
        same_axis = c.yours.ndim == len(shape) and c.yours.shape[axis] == count
        if same_axis and not passes_on(right, shape, c.yours.shape, axis, -1):
            continue
        return (
            f"{c.name} is right as long as only {noun} 0 of dy is not zero: what the later ones add to it (directly, "
            "or handed back from step to step) is wrong or missing. Is it overwritten (= where += is needed)?"
        )
    return None


def sign_between(c: Comparison) -> str | None:
    """The Jacobian off its diagonal has the wrong sign: a subtraction where an addition is needed, or the reverse."""
    pair = both_jacobians(c)
    if pair is None or c.yours.shape != c.evidence.dy.shape:
        return None
    right, theirs, nothing = pair
    off = ~np.eye(len(right), dtype=bool) & (np.abs(right) > nothing)
    if off.sum() < 4 or np.max(np.abs(theirs + right)[off]) > 1e-6 * np.max(np.abs(right)):
        return None
    return (
        f"{c.name} has the wrong sign wherever an entry moves another entry's output (the Jacobian off its diagonal): "
        "a sum or product is added that has to be subtracted, or the reverse"
    )


def both_jacobians(c: Comparison) -> tuple[Array, Array, float] | None:
    """The right Jacobian, that of backward, and what counts as 0 in them."""
    if c.evidence is None or not c.is_far or c.yours.shape != c.expected.shape:
        return None
    right, theirs = c.evidence.numeric(c.index), c.evidence.theirs(c.index)
    if right is None or theirs is None:
        return None
    return right, theirs, TINY * float(np.max(np.abs(right), initial=0.0))
