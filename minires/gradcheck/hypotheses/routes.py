"""Which output gives what to which entry: facts of the two Jacobians that hold for any function.

J[j, e] is what dy_j is multiplied by on its way to entry e; `right` is that of forward, `theirs` that of backward.
"""

from __future__ import annotations

import numpy as np

from minires.backend import Array
from minires.gradcheck.hypotheses.comparison import Comparison, counted, position
from minires.gradcheck.hypotheses.coupling import both_jacobians
from minires.gradcheck.hypotheses.factors import named

EXACT = 1e-6
"""How exactly entries of two Jacobians have to agree, relative to the largest."""


def looked_up(c: Comparison) -> str | None:
    """dy meets single numbers of another input (a product): here those at other places than it should."""
    pair = both_jacobians(c)
    if pair is None or c.evidence.dy.ndim == 0:
        return None
    right, theirs, nothing = pair
    size = np.max(np.abs(right))
    off = np.abs(theirs - right) > EXACT * size
    for k, array in enumerate(c.evidence.inputs):
        if k == c.index or not 3 <= array.size <= 5000 or len(np.unique(array)) < array.size:
            continue
        where, hit = _found(array, right, size)
        if not np.all(hit[np.abs(right) > nothing]):
            continue
        mine, found = _found(array, theirs, size)
        clear = off & found & (np.abs(right) > nothing) & (np.abs(theirs) > nothing)
        if not np.all(found[np.abs(theirs) > 1e3 * nothing]) or clear.sum() < 3:
            continue
        j, e = (int(i) for i in np.argwhere(clear)[0])
        name, shape = c.names[k], c.evidence.dy.shape
        steps = np.subtract(*(np.array(np.unravel_index(w[clear], array.shape)) for w in (mine, where)))
        same = bool(np.all(np.ptp(steps, axis=1) == 0))
        shift = f"; all are off by {tuple(int(s) for s in steps[:, 0])}" if same else ""
        return (
            f"{c.name} meets the wrong numbers of {name}: for {c.name}{position(e, c.yours.shape)}, "
            f"dy{position(j, shape)} is multiplied by {name}{position(int(mine[j, e]), array.shape)}, and should be by "
            f"{name}{position(int(where[j, e]), array.shape)}{shift}. Check the index (its row, its column, their "
            "order, where it starts)"
        )
    return None


def _found(array: Array, matrix: Array, size: float) -> tuple[Array, Array]:
    """At which entry of `array` each number of a matrix stands, and whether it does."""
    order = np.argsort(array, axis=None)
    values = array.ravel()[order]
    right = np.clip(np.searchsorted(values, matrix), 1, len(values) - 1)
    nearest = np.where(np.abs(values[right] - matrix) < np.abs(values[right - 1] - matrix), right, right - 1)
    return order[nearest], np.abs(values[nearest] - matrix) <= EXACT * size


def counts_of_dy(c: Comparison) -> str | None:
    """Every number of dy should count once (the gradient is a sum of dy): here some count several times, or not."""
    pair = both_jacobians(c)
    if pair is None or c.evidence.dy.ndim == 0:
        return None
    right, theirs, _ = pair
    values = np.unique(np.round(right, 6))
    counts = np.round(theirs)
    if not set(values) <= {0.0, 1.0} or len(values) < 1 or np.max(np.abs(theirs - counts)) > EXACT:
        return None
    different = [(int(j), int(e)) for j, e in np.argwhere(counts != np.round(right))]
    if not different or len(np.unique(counts[right > 0.5])) < 2:
        return None
    j, e = max(different, key=lambda at: abs(counts[at] - right[at]))
    shape, lost = c.evidence.dy.shape, int(np.sum((counts == 0) & (right > 0.5)))
    none = f", and {lost} of {int(np.sum(right > 0.5))} numbers of dy do not count at all" if lost else ""
    return (
        f"{c.name} adds up the wrong numbers of dy: in {c.name}{position(e, c.yours.shape)}, dy{position(j, shape)} "
        f"counts {_times(counts[j, e])} and should count {_times(right[j, e])}{none}. Check the index that dy is read "
        "with"
    )


def _times(count: float) -> str:
    return {0: "not at all", 1: "once", 2: "twice"}.get(round(count), f"{count:.0f} times")


def not_shared_out(c: Comparison) -> str | None:
    """Each number of dy goes to few entries, where it has to be shared out in equal parts among more."""
    found = _fewer_entries(c)
    if found is None:
        return None
    right, theirs, should, does = found
    if max(np.ptp(right[should]), np.ptp(theirs[does])) > EXACT * np.max(np.abs(right)):
        return None
    count = int(does[0].sum())
    few = "one entry" if count == 1 else f"{count} entries"
    return (
        f"{c.name} gives each number of dy, times {theirs[does][0]:.4g}, to {few} only ({_first_route(c, does)}): it "
        f"has to go to {int(should[0].sum())} entries, {right[should][0]:.4g} times it to each"
    )


def to_one_entry_only(c: Comparison) -> str | None:
    """Each number of dy goes to one entry, where it has to reach several."""
    found = _fewer_entries(c)
    if found is None or found[3][0].sum() > 1:
        return None
    right, theirs, should, does = found
    e = int(np.flatnonzero(does[0])[0])
    return (
        f"{c.name} gives each number of dy to one entry only ({_first_route(c, does)}, times {theirs[0, e]:.4g}): it "
        f"has to reach {int(should[0].sum())} entries, that one times {right[0, e]:.4g}"
    )


def _fewer_entries(c: Comparison) -> tuple[Array, Array, Array, Array] | None:
    """The Jacobians, and where they are not 0, if backward has only part of what forward has, the same for all dy."""
    pair = both_jacobians(c)
    if pair is None or c.evidence.dy.ndim == 0:
        return None
    right, theirs, nothing = pair
    should, does = np.abs(right) > nothing, np.abs(theirs) > 1e3 * nothing
    few, many = does.sum(axis=1), should.sum(axis=1)
    if np.any(does & ~should) or np.any(few >= many) or np.any(few == 0) or np.ptp(few):
        return None
    return right, theirs, should, does


def _first_route(c: Comparison, does: Array) -> str:
    e = int(np.flatnonzero(does[0])[0])
    return f"dy{position(0, c.evidence.dy.shape)} to {c.name}{position(e, c.yours.shape)}"


def factor_for_each_output(c: Comparison) -> str | None:
    """The right gradient for dy times a factor of its own at each output."""
    pair = both_jacobians(c)
    if pair is None or c.evidence.dy.ndim == 0 or c.evidence.dy.size < 4 or c.yours.size < 2:
        return None
    right, theirs, nothing = pair
    square = np.sum(right * right, axis=1)
    live = square > nothing**2
    if np.any((np.abs(right) > nothing).sum(axis=1)[live] < 2) or live.sum() < 4:
        return None  # with one entry for each output, a factor can always be found
    factor = np.where(live, np.sum(theirs * right, axis=1) / np.where(live, square, 1), 1.0)
    if np.max(np.abs(factor[:, None] * right - theirs)) > EXACT * np.max(np.abs(theirs)):
        return None
    shape = c.evidence.dy.shape
    if np.ptp(factor[live]) <= 1e-5:
        return None
    low, high = (int(np.flatnonzero(live)[f(factor[live])]) for f in (np.argmin, np.argmax))
    off = np.abs(factor - 1).reshape(shape) > 1e-5
    where = _where(c, factor.reshape(shape))
    fine = "" if off.all() else f" and 1 (which is right) at {int((~off).sum())} of {off.size}"
    return (
        f"{c.name} is right for dy times a factor of its own at each output: {factor[low]:.4g} at "
        f"dy{position(low, shape)}, {factor[high]:.4g} at dy{position(high, shape)}{fine}{where}"
    )


def _where(c: Comparison, factor: Array) -> str:
    """Along which axes the factor changes, and whether it does at the border only."""
    nouns = c.nouns(factor.shape)
    changes = [a for a in range(factor.ndim) if np.max(np.ptp(factor, axis=a)) > 1e-5]
    told = f"; it depends on the {' and the '.join(nouns[a] for a in changes)}"
    if factor.ndim > 2 and changes and min(changes) >= factor.ndim - 2 and min(factor.shape[-2:]) > 2:
        inside = factor[..., 1:-1, 1:-1]
        if np.max(np.abs(inside - 1), initial=0.0) <= 1e-5:
            return f"{told}, and is 1 away from the border: is padding counted in one pass and not in the other?"
    return told


def by_other_outputs(c: Comparison) -> str | None:
    """What reaches an entry through the outputs at other indices is one factor too large."""
    pair = both_jacobians(c)
    if pair is None or c.yours.shape != c.evidence.dy.shape:
        return None
    right, theirs, nothing = pair
    off = ~np.eye(len(right), dtype=bool)
    several = off & (np.abs(right) > nothing)
    if several.sum() < 6 or len(np.unique(np.round(right[several] / np.max(np.abs(right)), 6))) < 3:
        return None
    factor = float(np.sum(theirs[several] * right[several]) / np.sum(right[several] ** 2))
    if abs(factor - 1) < 1e-5 or abs(factor) < 1e-5:
        return None
    if np.max(np.abs(theirs - factor * right)[off]) > EXACT * max(1, abs(factor)) * np.max(np.abs(right[off])):
        return None
    known = c.sizes | {"the number of outputs that depend on an entry": float(several.sum(axis=0).max() + 1)}
    return (
        f"what reaches an entry of {c.name} by way of other outputs than its own (through a mean, a sum, a gate) is "
        f"{factor:.6g} times what it should be{named(factor, 1e-6, known)}"
    )


def direct_path(c: Comparison) -> str | None:
    """The two Jacobians differ on the diagonal only: what goes straight from an entry to the same entry of y."""
    pair = both_jacobians(c)
    if pair is None or c.yours.shape != c.evidence.dy.shape or c.yours.size < 4:
        return None
    right, theirs, nothing = pair
    off, error = ~np.eye(len(right), dtype=bool), np.diagonal(theirs - right)
    if np.max(np.abs(theirs - right)[off]) > EXACT * np.max(np.abs(right)) or np.sum(np.abs(right[off]) > nothing) < 4:
        return None
    first = int(np.argmax(np.abs(error)))
    at = position(first, c.yours.shape)
    return (
        f"the error of {c.name} is dy times a number for each entry ({error[first]:.4g} at {at}, where dy{at} reaches "
        f"it times {theirs[first, first]:.4g} and should {right[first, first]:.4g}): the direct way from an entry of "
        f"{c.own} to the same entry of y (a shortcut, a product with it) is missing or wrong, the ways to all others "
        "are right"
    )


def before_activation(c: Comparison) -> str | None:
    """What dy is multiplied by is taken before an activation, or after it, where it should be the other."""
    pair = both_jacobians(c)
    if pair is None or c.evidence.dy.ndim == 0:
        return None
    right, theirs, nothing = pair
    live = (np.abs(right) > nothing) | (np.abs(theirs) > 1e3 * nothing)
    a, b = theirs[live], right[live]
    if live.sum() < 6 or len(np.unique(np.round(b, 9))) < 4:
        return None
    for words, f in (
        ("the ReLU", lambda z: np.maximum(z, 0)),
        ("the tanh", np.tanh),
        ("the sigmoid", lambda z: 1 / (1 + np.exp(-np.clip(z, -700, 700)))),
    ):
        for before, given, needed in ((True, a, b), (False, b, a)):
            if np.max(np.abs(f(given) - needed)) <= EXACT * np.max(np.abs(needed)) and np.any(given != needed):
                used, belongs = ("before", "after") if before else ("after", "before")
                return (
                    f"in {c.name}, dy is multiplied by values from {used} {words}, where those from {belongs} it belong"
                )
    return None


def reached_by(c: Comparison) -> str | None:
    """Which indices of dy reach the gradient at all: one that should not, or one that should and does not."""
    pair = both_jacobians(c)
    if pair is None or c.evidence.dy.ndim < 2:
        return None
    right, theirs, nothing = pair
    shape = c.evidence.dy.shape
    should, does = (
        (np.abs(m).max(axis=1) > level).reshape(shape) for m, level in ((right, nothing), (theirs, 1e3 * nothing))
    )
    for axis, noun in enumerate(c.nouns(shape)):
        rest = tuple(k for k in range(len(shape)) if k != axis)
        needed, there = should.any(axis=rest), does.any(axis=rest)
        stray, lost = np.flatnonzero(there & ~needed), np.flatnonzero(needed & ~there)
        if len(stray):
            return (
                f"{c.name} depends on dy at {counted(noun, stray)}, and should not: is an index off "
                "(the value after a step used where that before it belongs), or a slice?"
            )
        if len(lost):
            return f"{c.name} does not depend on dy at {counted(noun, lost)}, but should"
    return None
