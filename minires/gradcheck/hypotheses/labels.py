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


def softmax_loss(c: Comparison) -> str | None:
    """The right gradient is p - (1 at the label), as of a softmax cross-entropy; yours is another mix of the two."""
    right = c.expected
    if right.ndim != 2 or min(right.shape) < 3 or not np.all(c.known) or not c.is_far:
        return None
    if np.any((right < 0).sum(axis=1) != 1) or np.max(np.abs(right.sum(axis=1))) > 1e-6 * np.max(np.abs(right)):
        return None
    hot = (right == right.min(axis=1, keepdims=True)) * 1.0
    for scale in (1 / len(right), 1.0, 1 / right.size):
        p = right / scale + hot
        if np.min(p) <= 0:
            continue
        log = np.log(p)
        for words, mixed in (
            ("p alone: the 1 at the label is not subtracted", p),
            ("p + (1 at the label): it has to be subtracted", p + hot),
            ("-(1 at the label) alone: the probabilities p are missing", -hot),
            ("-1 / p at the label: the derivative of the log, without that of the softmax", -hot / p),
            ("log(p) - (1 at the label): the logarithm of p", log - hot),
            ("exp(p) - (1 at the label): the exponential of p", np.exp(p) - hot),
            ("p^2 - (1 at the label): the square of p", p * p - hot),
            (
                "(p - (1 at the label)) p (1 - p): a derivative of the softmax is multiplied in once more",
                (p - hot) * p * (1 - p),
            ),
        ):
            if c.near(scale * mixed):
                return f"{c.name} holds {words}. It has to hold p - (1 at the label), p being the softmax"
    return None


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


def counts_off(c: Comparison) -> str | None:
    """A vector, such as a bias of the classes, is off by one share of each sample: how often each label occurs."""
    if c.yours.ndim != 1 or c.yours.size < 3 or not np.all(c.known) or not c.is_far:
        return None
    error = c.yours - c.expected
    size = float(np.max(np.abs(error)))
    total = float(np.sum(error))
    if np.ptp(np.sign(error[np.abs(error) > 1e-6 * size])) or np.ptp(error) <= 1e-6 * size:
        return None
    for samples in range(2, 65):
        share = total / samples
        counts = error / share
        whole = np.max(np.abs(counts - np.round(counts))) <= 1e-5 and np.max(counts) < 20
        if whole and (abs(abs(share) * samples - 1) < 1e-6 or abs(abs(share) - 1) < 1e-6):
            told = listed([int(k) for k in np.round(counts)])
            return (
                f"the error of {c.name} is {share:.6g} times a whole number in each entry ({told}, {samples} "
                "together): as often as each label occurs? Then the 1 at the label is not subtracted, or twice"
            )
    return None
