"""Right for another dy: permuted, cut down to a part, multiplied by an input, summed.

The Jacobian J gives the right gradient for every dy'. Where J^T dy' is what was returned, dy' is what the backward pass
has made of dy.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations

import numpy as np

from minires.backend import Array
from minires.gradcheck.hypotheses.comparison import Comparison, along, along_axes, listed, plural, subsets

REWRITTEN = "in the wrong order"
"""How the words for a reshape in the place of a transpose begin."""

Candidates = Iterator[tuple[str, Array]]


def another_dy(c: Comparison, candidates: Candidates) -> str | None:
    """The sentence of the first dy' for which the right gradient is what was returned."""
    if c.evidence is None or not c.is_far or c.evidence.numeric(c.index) is None:
        return None
    seen: set[bytes] = {c.evidence.dy.tobytes()}
    for sentence, dy in candidates:
        key = np.ascontiguousarray(dy).tobytes()
        if key not in seen and c.near(c.evidence.gradient(c.index, dy)):
            return sentence
        seen.add(key)
    return None


def dy_rearranged(c: Comparison) -> str | None:
    """dy's numbers in another order: a transpose too many or too few, a reshape in its place."""
    return another_dy(c, _rearranged_dy(c)) if c.evidence is not None else None


def _rearranged_dy(c: Comparison) -> Candidates:
    dy = c.evidence.dy
    for words, array in rearrangements(dy, c.nouns(dy.shape)):
        yield f"{c.name} is right for dy {words}: the numbers of dy are in the wrong order when they are used", array
    yield from _moved_by_one(c.name, dy, c.nouns(dy.shape))
    if dy.ndim > 2 and dy.shape[-1] != dy.shape[-2]:
        yield (
            f"{c.name} takes the wrong pixel of dy: the index of a pixel is row * height + column, where it has to be "
            "row * width + column",
            _wrong_side(dy),
        )


def _moved_by_one(name: str, dy: Array, names: tuple[str, ...]) -> Candidates:
    """dy moved by one along an axis: what belongs to one step meets the numbers of its neighbour."""
    for axis, noun in enumerate(names):
        if dy.shape[axis] < 3:
            continue
        for step, words in ((1, "next"), (-1, "one before")):
            for lost in (False, True):
                moved = np.roll(dy, step, axis)
                if lost:
                    moved = _kept(moved, axis, range(1, dy.shape[axis]) if step == 1 else range(dy.shape[axis] - 1))
                yield (
                    f"{name} treats each number of dy as if it stood at the {words} along {plural(noun)}: "
                    "an index is off by one",
                    moved,
                )


def _wrong_side(dy: Array) -> Array:
    """dy with pixel (i, j) sent where i * height + j is: what belongs to that pixel comes from another, or several."""
    h, w = dy.shape[-2:]
    rows = dy.reshape(*dy.shape[:-2], h * w)
    i, j = np.indices((h, w)).reshape(2, -1)
    sent = np.zeros_like(rows)
    sent[..., i * w + j] = rows[..., (i * h + j) % (h * w)]
    return sent.reshape(dy.shape)


def rearrangements(a: Array, names: tuple[str, ...]) -> Iterator[tuple[str, Array]]:
    """(words, array): `a` transposed, flipped, or read in one order of axes and written in another (a reshape)."""
    if a.ndim < 2:
        if a.size > 1:
            yield "back to front", a[::-1]
        return
    orders = list(permutations(range(a.ndim)))
    for order in orders[1:]:
        if a.transpose(order).shape == a.shape:
            moved = [names[k] for k, j in enumerate(order) if k != j]
            yield f"transposed ({listed(moved)} exchanged)", a.transpose(order)
    for axes in subsets(a.ndim):
        yield f"flipped along {listed([names[k] for k in axes])}", np.flip(a, axes)
    for read in orders:
        for write in orders:
            if read != write:
                yield _orders(names, read, write), _rewritten(a, read, write)


def _orders(names: tuple[str, ...], read: tuple[int, ...], write: tuple[int, ...]) -> str:
    come, taken = ", ".join(names[k] for k in read), ", ".join(names[k] for k in write)
    return f"{REWRITTEN} (reshape where a transpose is needed: its axes come as {come} and are taken as {taken})"


def _rewritten(a: Array, read: tuple[int, ...], write: tuple[int, ...]) -> Array:
    shape = tuple(a.shape[k] for k in write)
    return a.transpose(read).reshape(shape).transpose(np.argsort(write))


def other_direction(c: Comparison) -> str | None:
    """Right where both dy and the gradient are read backwards: what comes before is added up, not what comes after."""
    if c.evidence is None or not c.is_far or c.evidence.dy.ndim == 0 or c.evidence.numeric(c.index) is None:
        return None
    dy, shape = c.evidence.dy, c.yours.shape
    names = c.nouns(shape)
    for axis in range(min(dy.ndim, len(shape))):
        if dy.shape[axis] != shape[axis] or shape[axis] < 3:
            continue
        if c.near(np.flip(c.evidence.gradient(c.index, np.flip(dy, axis)), axis)):
            return (
                f"{c.name} runs through the {plural(names[axis])} in the wrong direction: it adds up what comes before "
                "an entry where it has to add up what comes after it, or the reverse"
            )
    return None


def part_of_dy(c: Comparison) -> str | None:
    """Only some of dy's entries count: the last sample, every second pixel, all but the last row."""
    if c.evidence is None or c.evidence.dy.ndim == 0:
        return None
    return another_dy(c, _parts_of_dy(c))


def _parts_of_dy(c: Comparison) -> Candidates:
    dy = c.evidence.dy
    names = c.nouns(dy.shape)
    for axis, noun in enumerate(names):
        count = dy.shape[axis]
        if count < 2:
            continue
        for k in (count - 1, *range(count - 1)):
            which = f"the last {noun}" if k == count - 1 else f"{noun} {k}"
            yield (
                f"{c.name} is what {which} of dy gives alone: the others do not count. "
                "Are they overwritten (= where += is needed), or is a loop too short?",
                _kept(dy, axis, [k]),
            )
        for k in (count - 1, 0):
            which = f"the last {noun}" if k else f"{noun} 0"
            yield (
                f"{c.name} leaves out {which} of dy: is the loop one step too short (off by one)?",
                _kept(dy, axis, [i for i in range(count) if i != k]),
            )
        for k in range(1, count - 1):
            yield f"{c.name} counts only {plural(noun)} 0 to {k} of dy, not the rest", _kept(dy, axis, range(k + 1))
            yield (
                f"{c.name} counts only {plural(noun)} {k} to {count - 1} of dy, not the rest",
                _kept(dy, axis, range(k, count)),
            )
    yield from _corners(c.name, dy, names)
    for axes in subsets(dy.ndim):
        for words, k in (("last", -1), ("first", 0)) if len(axes) > 1 else ():
            part = dy
            for axis in axes:
                part = _kept(part, axis, [range(dy.shape[axis])[k]])
            where = listed([f"the {words} {names[a]}" for a in axes])
            yield (
                f"{c.name} is what {where} of dy give alone: the others do not count. Are they overwritten (= where += "
                "is needed)?",
                part,
            )
        for step in (2, 3):
            if all(dy.shape[a] > step for a in axes):
                yield _combed(c.name, dy, axes, names, step)


def _corners(name: str, dy: Array, names: tuple[str, ...]) -> Candidates:
    """All but one of the four pixels of each block of two by two."""
    if dy.ndim < 3 or min(dy.shape[-2:]) < 2:
        return
    for i, row in enumerate(("even", "odd")):
        for j, column in enumerate(("even", "odd")):
            part = dy.copy()
            part[..., i::2, j::2] = 0
            yield f"{name} leaves out the pixels of dy in {row} {names[-2]} and {column} {names[-1]}", part


def _kept(dy: Array, axis: int, indices: object) -> Array:
    keep = np.zeros(dy.shape[axis], dtype=bool)
    keep[list(indices)] = True
    return dy * keep.reshape([-1 if k == axis else 1 for k in range(dy.ndim)])


def _combed(name: str, dy: Array, axes: tuple[int, ...], names: tuple[str, ...], step: int) -> tuple[str, Array]:
    part = dy
    for axis in axes:
        part = _kept(part, axis, range(0, dy.shape[axis], step))
    which = {2: "second", 3: "third"}[step]
    where = listed([names[a] for a in axes])
    return f"{name} counts only every {which} {where} of dy (a stride or step where every one counts)", part


def dy_scaled(c: Comparison) -> str | None:
    """dy multiplied or divided by one of the inputs: a gain forgotten, or multiplied in twice, or at the end."""
    if c.evidence is None or not c.is_far or c.evidence.numeric(c.index) is None:
        return None
    dy, shape = c.evidence.dy, c.yours.shape
    for name, aligned in _vectors(c, dy.shape):
        with np.errstate(all="ignore"):
            divided, multiplied = dy / aligned, dy * aligned
        if np.all(np.isfinite(divided)) and c.near(c.evidence.gradient(c.index, divided)):
            return f"{c.name} is right for dy / {name}: {name} is forgotten, dy has to be multiplied by it first"
        if np.all(np.isfinite(divided)) and c.near(c.evidence.gradient(c.index, divided / aligned)):
            return f"{c.name} is right for dy / {name}^2: dy is divided by {name}, it has to be multiplied by it"
        if c.near(c.evidence.gradient(c.index, multiplied)):
            return f"{c.name} is right for dy * {name}: {name} is multiplied in once too often"
        if shape != dy.shape or not np.all(np.isfinite(divided)):
            continue
        if c.near(aligned * c.evidence.gradient(c.index, divided)):
            return (
                f"{c.name} is {name} times what dy / {name} gives: {name} is multiplied in at the end, "
                "but it has to be multiplied into dy before the sums are taken"
            )
    return None


def _vectors(c: Comparison, shape: tuple[int, ...]) -> Iterator[tuple[str, Array]]:
    """Other inputs that can stand along an axis of dy, in dy's number of axes."""
    for k, array in enumerate(c.evidence.inputs):
        if k == c.index or array.size < 2:
            continue
        if array.ndim == 1:
            for aligned in along_axes(array, shape):
                yield c.names[k], aligned
        elif array.shape == shape:
            yield c.names[k], array


def last_step_forgotten(c: Comparison) -> str | None:
    """backward is right once dy is multiplied by the derivative of what forward does last."""
    if c.evidence is None or not c.is_far or c.evidence.dy.ndim == 0 or not np.all(c.known):
        return None
    y = c.evidence.y
    steps = (
        ("(y > 0)", (y > 0) * 1.0, "the gate of the ReLU"),
        ("(y != 0)", (y != 0) * 1.0, "the gate or the mask"),
        ("y (1 - y)", y * (1 - y), "the derivative of the sigmoid"),
        ("1 - y^2", 1 - y * y, "the derivative of the tanh"),
        ("y", y, "the derivative of the exp"),
    )
    for words, factor, what in steps:
        if np.ptp(factor) == 0:
            continue
        mine = c.evidence.backward(factor * c.evidence.dy)[c.index]
        if mine is None or mine.shape != c.expected.shape:
            continue
        size = float(np.max(np.abs(c.expected)))
        if np.max(np.abs(mine - c.expected)) <= 1e-7 * size + 4 * float(np.max(c.bound)):
            return f"{c.name} is right once dy is multiplied by {words}: {what} at the end of forward is forgotten"
    return None


def dy_summed(c: Comparison) -> str | None:
    """dy replaced by its own sum or mean along some axes, or multiplied by y."""
    if c.evidence is None or c.evidence.dy.ndim == 0:
        return None
    return another_dy(c, _summed_dy(c))


def _summed_dy(c: Comparison) -> Candidates:
    dy, y = c.evidence.dy, c.evidence.y
    names = c.nouns(dy.shape)
    yield f"{c.name} is right for dy = 1: dy is not used in it", np.ones_like(dy)
    yield f"{c.name} is right for dy * y: y is multiplied in where it does not belong", dy * y
    for axes in subsets(dy.ndim):
        where = along(names[a] for a in axes)
        total = np.broadcast_to(dy.sum(axis=axes, keepdims=True), dy.shape)
        count = int(np.prod([dy.shape[a] for a in axes]))
        yield f"{c.name} is right for the sum of dy over {where} in place of dy: a sum is taken too early", total
        yield (
            f"{c.name} is right for the mean of dy over {where} in place of dy: a mean is taken too early",
            total / count,
        )
