"""Right in one part and wrong in another, and where the wrong part lies."""

from __future__ import annotations

import numpy as np

from minires.backend import Array
from minires.gradcheck.hypotheses.comparison import Comparison, counted, listed, position


def zero_block(c: Comparison) -> str | None:
    """yours is right wherever it is not 0."""
    wrong = c.wrong()
    if not wrong.any() or np.any(c.yours[wrong]) or wrong.mean() > 0.9:
        return None
    return f"{c.name} is right where it is not zero, but wrongly zero {place(c)}: that part is never computed"


def mask_missing(c: Comparison) -> str | None:
    """Right wherever the right gradient is not 0, and something where it is."""
    wrong = c.wrong()
    if wrong.sum() < 3 or wrong[c.known].all() or np.any(np.abs(c.expected[wrong]) > np.max(c.bound)):
        return None
    return (
        f"{c.name} has to be 0 {place(c)}, and is right elsewhere: a mask is missing there (the gate of a ReLU, where "
        "the largest is, what was dropped)"
    )


def wrong_part(c: Comparison) -> tuple[str, str, Comparison] | None:
    """Where a gradient is right for some indices along an axis and wrong for all others: which, and the wrong ones.

    The right ones are not told ("") where the gradient is 0 in all of them, so that nothing could be got wrong.
    """
    if c.yours.ndim < 2 or c.yours.shape != c.expected.shape:
        return None
    for axis, noun in enumerate(c.axis_names):
        wrong = np.moveaxis(c.wrong(), axis, 0).reshape(c.yours.shape[axis], -1)
        good, bad = np.flatnonzero(~wrong.any(axis=1)), np.flatnonzero(wrong.mean(axis=1) > 0.5)
        if not len(good) or not len(bad) or len(good) + len(bad) < len(wrong):
            continue
        off = counted(noun, bad)

        def taken(array: Array, axis: int = axis, bad: Array = bad) -> Array:
            return np.take(array, bad, axis=axis)

        partners = {n: taken(a) for n, a in c.partners.items() if a.shape == c.yours.shape}
        if c.x is not None and c.x.shape == c.yours.shape and len(good) == len(bad):
            partners[f"{c.own} at {counted(noun, good)}"] = np.take(c.x, good, axis=axis)
        part = Comparison(
            f"{c.name} ({off})",
            *map(taken, (c.yours, c.expected, np.broadcast_to(c.bound, c.yours.shape))),
            x=taken(c.x) if c.x is not None and c.x.shape == c.yours.shape else None,
            x_name=c.own,
            axes=c.axis_names,
            partners=partners,
        )
        nothing = np.all(np.abs(np.take(c.expected, good, axis=axis)) <= np.max(c.bound))
        return "" if nothing else counted(noun, good), off, part
    return None


def facts(c: Comparison) -> str:
    """What is known of an error that nothing explains: where it lies, its worst entry, its signs, its size."""
    wrong = c.wrong()
    error = np.where(wrong, np.abs(c.yours - np.where(c.known, c.expected, 0)), 0)
    worst = int(np.argmax(error))
    yours, right = c.yours.flat[worst], c.expected.flat[worst]
    name = c.name.partition(" (")[0]
    entry = f"{name}{' at ' if ' ' in name else ''}{position(worst, c.yours.shape)}"
    told = [f"{c.name} is wrong {place(c)}: {entry} is {yours:.4g} and should be {right:.4g}"]
    pairs = wrong & (np.abs(np.where(c.known, c.expected, 0)) > np.max(c.bound))
    if pairs.sum() > 1:
        ratios = c.yours[pairs] / c.expected[pairs]
        low, high = float(ratios.min()), float(ratios.max())
        count = int(np.sum(ratios < 0))
        signs = f"{count} of {len(ratios)} signs are wrong" if count else "no sign is wrong"
        told.append(f"{signs}, yours / right lies between {low:.3g} and {high:.3g}")
    told += _zeros(c, wrong)
    return "; ".join(told)


def _zeros(c: Comparison, wrong: Array) -> list[str]:
    """Entries that are 0 and should not be, and the reverse, where there are many of them."""
    right = np.where(c.known, c.expected, np.inf)
    nothing = float(np.max(c.bound))
    missing, stray = wrong & (c.yours == 0), wrong & (np.abs(right) <= nothing)
    told = []
    if missing.sum() > 2:
        told.append(f"it is 0 at {int(missing.sum())} of {wrong.size} entries where it should not be")
    if stray.sum() > 2:
        told.append(f"it should be 0 at {int(stray.sum())} of {wrong.size} entries where it is not")
    return told


def place(c: Comparison) -> str:
    """Where the wrong entries are, in words: "only at border pixels", "only in channel 0", "everywhere"."""
    if c.yours.shape != c.expected.shape:
        return "everywhere"
    wrong = c.wrong()
    if wrong[c.known].all():
        return "everywhere"
    if (signed := by_sign(c, wrong)) is not None:
        return signed
    if wrong.ndim == 2 and wrong.any(axis=1).sum() >= 3 and wrong.sum(axis=1).max() == 1 and len(wrong[0]) > 2:
        columns = [str(row.argmax()) if row.any() else "none" for row in wrong]
        if len(set(columns) - {"none"}) > 1:
            return f"at one entry of each {c.axis_names[0]} ({c.axis_names[1]} {listed(columns)}: the labels?)"
    words = [_indices(noun, wrong, axis) for axis, noun in enumerate(c.axis_names)]
    told = [w for w in words if w]
    if (border := _border(wrong)) is not None:
        told = [border, *(w for w, axis in zip(words, range(wrong.ndim - 2), strict=False) if w)]
    if told:
        return ", ".join(told)
    first = tuple(int(i) for i in np.argwhere(wrong)[0]) if wrong.any() else ()
    return f"at {int(wrong.sum())} of {wrong.size} entries scattered about, the first at {first}"


def by_sign(c: Comparison, wrong: Array) -> str | None:
    """Whether the wrong entries are those where an array of their shape is negative, or positive."""
    arrays = {c.own: c.x} if c.x is not None else {}
    arrays |= {name: a for name, a in c.partners.items() if not name.startswith("d")}
    for name, a in arrays.items():
        if a.shape != wrong.shape or not wrong.any():
            continue
        for words, part in (("negative", a < 0), ("positive", a > 0)):
            if np.array_equal(wrong, part & c.known):
                return f"where {name} is {words}"
        if min(wrong.sum(), (~wrong).sum()) >= 3 and np.all(c.known) and wrong.ndim > 1:
            if a[wrong].min() > a[~wrong].max():
                return f"where {name} is large ({a[wrong].min():.3g} or more)"
            if a[wrong].max() < a[~wrong].min():
                return f"where {name} is small ({a[wrong].max():.3g} or less)"
    return None


def _indices(noun: str, wrong: Array, axis: int) -> str | None:
    """ "only in channel 0" where the error keeps to a few indices of one axis, "in every second row" for a comb."""
    count = wrong.shape[axis]
    hit = np.flatnonzero(wrong.any(axis=tuple(i for i in range(wrong.ndim) if i != axis)))
    if len(hit) == count or count < 2:
        return None
    gaps = set(np.diff(hit))
    if len(hit) >= 3 and len(gaps) == 1 and (gap := gaps.pop()) > 1:
        return f"in every {_ORDINAL.get(int(gap), f'{gap}th')} {noun}"
    if len(hit) == 1 and hit[0] == count - 1:
        return f"only in the last {noun}"
    return f"only in {counted(noun, hit)}"


_ORDINAL = {2: "second", 3: "third"}


def _border(wrong: Array) -> str | None:
    """Whether the error keeps to the pixels at the four sides of an image, or keeps away from them."""
    if wrong.ndim < 3 or min(wrong.shape[-2:]) < 3:
        return None
    seen = wrong.reshape(-1, *wrong.shape[-2:]).any(axis=0)
    sides = [seen[0].any(), seen[-1].any(), seen[:, 0].any(), seen[:, -1].any()]
    if not any(sides):
        return "only inside, not at border pixels"
    return "only at border pixels" if all(sides) and not seen[1:-1, 1:-1].any() else None
