"""Losses with a label in each row: the label's entry is wrong, or what is subtracted there and elsewhere."""

from __future__ import annotations

import numpy as np

from minires.gradcheck.hypotheses.comparison import Comparison, listed


def one_in_each_row(c: Comparison) -> str | None:
    """Exactly one entry of every row is wrong, as the label's entry of a loss would be; or two, by opposite amounts."""
    if c.expected.ndim != 2 or min(c.expected.shape) < 3 or not np.all(c.known) or not c.is_far:
        return None
    wrong = c.wrong()
    columns = [np.flatnonzero(row) for row in wrong]
    error = c.yours - c.expected
    noun = c.axis_names[0]
    if all(len(hit) <= 1 for hit in columns) and sum(len(hit) for hit in columns) >= 3:
        if len({int(hit[0]) for hit in columns if len(hit)}) == 1:
            return None  # one and the same column: no label
        where = listed([int(hit[0]) if len(hit) else "none" for hit in columns])
        row = next(k for k, hit in enumerate(columns) if len(hit))
        first = int(columns[row][0])
        return (
            f"{c.name} is wrong at no more than one entry of each {noun}: at {c.axis_names[1]} {where}. Are those the "
            f"labels? At [{row}, {first}] yours is {c.yours[row, first]:.4g}, right is {c.expected[row, first]:.4g}"
        )
    pairs = [e[hit] for e, hit in zip(error, columns, strict=True)]
    hit_rows = [p for p in pairs if len(p)]
    if len(hit_rows) < 2 or any(len(p) != 2 for p in hit_rows):
        return None
    size = abs(hit_rows[0][0])
    if any(np.max(np.abs(np.abs(p) - size)) > 1e-6 * size or abs(p.sum()) > 1e-6 * size for p in hit_rows):
        return None
    row = next(k for k, p in enumerate(pairs) if len(p))
    low, high = int(columns[row][np.argmin(pairs[row])]), int(columns[row][np.argmax(pairs[row])])
    return (
        f"in {c.name}, {size:.4g} is taken off at the wrong {c.axis_names[1]} of a {noun}: in {noun} {row} at {low}, "
        f"where it belongs to {high}. Is the index of the label off?"
    )


def target_off(c: Comparison) -> str | None:
    """The error is one number at one entry of each row and another number at all others: the target is another one."""
    if c.expected.ndim != 2 or min(c.expected.shape) < 3 or not np.all(c.known) or not c.is_far:
        return None
    error, bound = c.yours - c.expected, 4 * float(np.max(c.bound))
    rest = np.median(error)
    special = np.abs(error - rest) > bound
    if not np.all(special.sum(axis=1) == 1):
        return None
    columns = special.argmax(axis=1)
    peaks = error[special]
    if np.ptp(peaks) > 2 * bound or len(set(columns.tolist())) < 2 or np.abs(rest) <= bound:
        return None
    return (
        f"{c.name} is off by {peaks[0]:.4g} at one entry of each {c.axis_names[0]} ({c.axis_names[1]} "
        f"{listed(columns.tolist())}: the labels?) and by {rest:.4g} at all others: the target that is subtracted "
        "(one-hot, or smoothed) is another one than forward's"
    )
