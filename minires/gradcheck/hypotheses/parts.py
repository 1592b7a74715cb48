"""Right in one part and wrong in another, and where the wrong part lies."""

from __future__ import annotations

import numpy as np

from minires.backend import Array
from minires.gradcheck.hypotheses.comparison import Comparison, listed


def zero_block(c: Comparison) -> str | None:
    """yours is right wherever it is not 0."""
    wrong = c.wrong()
    if not wrong.any() or np.any(c.yours[wrong]) or wrong.mean() > 0.9:
        return None
    return f"{c.name} is right where it is not zero, but it is zero {place(c)}: that part is never computed"


def part_right(c: Comparison) -> str | None:
    """Right for some indices along the first axis and wrong for all others."""
    if c.yours.ndim < 2 or len(c.yours) < 2:
        return None
    wrong = c.wrong().reshape(len(c.yours), -1)
    good, bad = np.flatnonzero(~wrong.any(axis=1)), np.flatnonzero(wrong.mean(axis=1) > 0.5)
    if not len(good) or not len(bad) or len(good) + len(bad) < len(c.yours):
        return None
    noun = c.axis_names[0]
    return (
        f"{c.name} is right for {noun} {listed(good)}, wrong for {noun} {listed(bad)}: only part of it is treated right"
    )


def place(c: Comparison) -> str:
    """Where the wrong entries are, in words: "only at border pixels", "only in channel 0", "everywhere"."""
    if c.yours.shape != c.expected.shape:
        return "everywhere"
    wrong = c.wrong()
    if wrong[c.known].all():
        return "everywhere"
    words = [_indices(noun, wrong, axis) for axis, noun in enumerate(c.axis_names)]
    told = [w for w in words if w]
    if (border := _border(wrong)) is not None:
        told = [border, *(w for w, axis in zip(words, range(wrong.ndim - 2), strict=False) if w)]
    if told:
        return ", ".join(told)
    first = tuple(int(i) for i in np.argwhere(wrong)[0]) if wrong.any() else ()
    return f"at {int(wrong.sum())} of {wrong.size} entries scattered about, the first at {first}"


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
    return f"only in {noun} {listed(hit)}"


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
