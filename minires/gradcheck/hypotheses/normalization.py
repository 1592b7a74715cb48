"""Normalization: dx has three terms, and each of them can be wrong by itself.

    y = gain * xhat + bias,  xhat = (x - mean) / std,  mean and std of the m entries of a group:
    dx = (gain / std) * (dy - mean(dy) - xhat * mean(dy * xhat))        for a gain that is one number in the group

Where the Jacobian of forward has this form, whatever the groups are (batch, layer, group norm), the one of backward is
taken apart into the same terms.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from minires.backend import Array
from minires.gradcheck.hypotheses.comparison import Comparison, along_axes, listed
from minires.gradcheck.hypotheses.coupling import both_jacobians
from minires.gradcheck.hypotheses.factors import named
from minires.gradcheck.hypotheses.statistics import EPS

EXACT = 1e-6
"""How exactly the terms have to add up, relative to the largest entry of the Jacobian."""

TERMS = (
    "dy's own part (dy * gain / std)",
    "the path through the mean (minus the mean of dy * gain)",
    "the path through the variance (minus xhat times the mean of dy * gain * xhat)",
)


@dataclass
class Group:
    """The entries that are normalized together."""

    entries: Array
    xhat: Array
    std: float
    strength: Array
    """gain / std of each entry, and whatever else dy is multiplied by."""

    def terms(self, of_mean: Array, of_variance: Array) -> Array:
        """(3, m, m): what output j gives to entry e by each of the terms."""
        m = len(self.entries)
        return np.stack(
            [
                np.diag(self.strength),
                -np.outer(of_mean, np.ones(m)) / m,
                -np.outer(of_variance * self.xhat, self.xhat) / m,
            ]
        )


def terms_of_normalization(c: Comparison) -> str | None:
    """One of the terms is missing, or has another factor."""
    pair = both_jacobians(c)
    if pair is None or c.evidence.dy.shape != c.yours.shape:
        return None
    right, theirs, _ = pair
    groups = _groups(c, right)
    if not groups or np.any(theirs[~_together(groups, len(right))]):
        return None
    for gains in _gains(c, groups):
        weights = [_weights(theirs, group, gain, right) for group, gain in zip(groups, gains, strict=True)]
        if all(w is not None for w in weights):
            return _sentence(c, groups, np.array(weights), gains[0])
    return None


def _together(groups: list[Group], size: int) -> Array:
    mask = np.zeros((size, size), dtype=bool)
    for group in groups:
        mask[np.ix_(group.entries, group.entries)] = True
    return mask


def _groups(c: Comparison, right: Array) -> list[Group]:
    """The groups, if the Jacobian is that of a normalization, else none."""
    linked = np.abs(right) > 1e-12 * np.max(np.abs(right))
    linked |= linked.T
    for _ in range(3):
        linked = (linked.astype(float) @ linked) > 0
    labels = linked.argmax(axis=1)
    x = c.evidence.inputs[c.index].ravel()
    found = []
    for label in np.unique(labels):
        entries = np.flatnonzero(labels == label)
        group = _group(entries, x[entries], right[np.ix_(entries, entries)]) if len(entries) > 2 else None
        if group is None:
            return []
        found.append(group)
    return found


def _group(entries: Array, x: Array, right: Array) -> Group | None:
    m, best, rest = len(x), None, EXACT * np.max(np.abs(right))
    for eps in EPS:
        std = float(np.sqrt(x.var() + eps))
        if std == 0:
            continue
        xhat = (x - x.mean()) / std
        form = np.eye(m) - (1 + np.outer(xhat, xhat)) / m
        strength = np.sum(right * form, axis=1) / np.sum(form * form, axis=1)
        off = np.max(np.abs(strength[:, None] * form - right))
        if off <= rest:
            best, rest = Group(entries, xhat, std, strength), off
    return best


def _gains(c: Comparison, groups: list[Group]) -> Iterator[list[tuple[Array, Array, str]]]:
    """What dy may have been multiplied by before the mean and before the variance: as it should be, or not at all."""
    yield [(g.strength, g.strength, "") for g in groups]
    shape = c.yours.shape
    for k, array in enumerate(c.evidence.inputs):
        if k == c.index or array.ndim != 1 or not np.all(array):
            continue
        for aligned in along_axes(array, shape):
            gain = np.broadcast_to(aligned, shape).ravel()
            for off in ((True, False), (False, True), (True, True)):
                words = f"{c.names[k]}:{int(off[0])}{int(off[1])}"
                yield [(*(g.strength / gain[g.entries] if o else g.strength for o in off), words) for g in groups]


def _weights(theirs: Array, group: Group, gain: tuple[Array, Array, str], right: Array) -> Array | None:
    """By which factor each term is there, if nothing else is."""
    mine = theirs[np.ix_(group.entries, group.entries)]
    terms = group.terms(*gain[:2]).reshape(3, -1)
    weights, *_ = np.linalg.lstsq(terms.T, mine.ravel(), rcond=None)
    rest = np.max(np.abs(weights @ terms - mine.ravel()))
    return weights if rest <= EXACT * max(np.max(np.abs(mine)), np.max(np.abs(right))) else None


def _sentence(c: Comparison, groups: list[Group], weights: Array, gain: tuple[Array, Array, str]) -> str | None:
    """weights: (groups, 3)."""
    name, _, off = gain[2].partition(":")
    told, fine = [], []
    gained = any(np.max(np.abs(g.strength * g.std - 1)) > EXACT for g in groups)
    for k, words in enumerate(TERMS if gained else [words.replace(" * gain", "") for words in TERMS]):
        column = weights[:, k]
        forgotten = bool(off) and k > 0 and off[k - 1] == "1"
        if np.max(np.abs(column - 1)) <= 1e-5 and not forgotten:
            fine.append(words.partition(" (")[0])
            continue
        if np.max(np.abs(column)) <= 1e-5:
            told.append((words, "missing"))
        elif np.max(np.abs(column - 1)) <= 1e-5:
            told.append((words, f"taken of dy alone: {name} is forgotten there"))
        else:
            without = f" without {name}" if forgotten else ""
            told.append((words, f"{_factor(c, groups, column)}{without}"))
    if not told or len(told) + len(fine) != 3:
        return None
    rest = f"; {listed(fine)} {'is' if len(fine) == 1 else 'are'} right" if fine else ""
    alike: dict[str, list[str]] = {}
    for words, fault in told:
        alike.setdefault(fault, []).append(words)
    parts = [f"{listed(who)} {'is' if len(who) == 1 else 'are both'} {fault}" for fault, who in alike.items()]
    return f"in {c.name}, {'; '.join(parts)}{rest}"


def _factor(c: Comparison, groups: list[Group], column: Array) -> str:
    """In words, what a term is too large by: one number, or one for each group."""
    if np.ptp(column) <= 1e-5 * np.max(np.abs(column)):
        factor = float(column.mean())
        sizes = {"the number m of entries that are normalized together": len(groups[0].entries)} | c.sizes
        if abs(factor + 1) < 1e-5:
            return "there with the wrong sign"
        return f"{factor:.5g} times what is right{named(factor, 1e-5, sizes)}"
    std = np.array([g.std for g in groups])
    for power, words in (
        (1, "multiplied by std once too often"),
        (2, "multiplied by std^2 too often"),
        (-1, "divided by std once too often"),
        (-2, "divided by std^2 too often"),
    ):
        level = column / std**power
        if np.ptp(level) <= 1e-5 * np.max(np.abs(level)):
            return words if abs(level[0] - 1) < 1e-5 else f"{words}, and {level[0]:.5g} times what is right"
    for k, array in enumerate(c.evidence.inputs):
        if k == c.index or array.ndim != 1:
            continue
        for aligned in along_axes(array, c.yours.shape):
            spread = np.broadcast_to(aligned, c.yours.shape).ravel()
            own = [spread[g.entries] for g in groups]
            if all(np.ptp(v) == 0 for v in own):
                first = np.array([v[0] for v in own])
                if np.allclose(column * first, 1, rtol=1e-5):
                    return f"made without {c.names[k]}, which is forgotten there"
                if np.allclose(column, first, rtol=1e-5):
                    return f"multiplied by {c.names[k]} once too often"
    some = ", ".join(f"{v:.4g}" for v in column[:4])
    return f"there with a factor of its own for each group ({some}{', ...' if len(column) > 4 else ''})"


def statistics_are_constants(c: Comparison) -> str | None:
    """Forward takes mean and variance as given (eval mode); backward differentiates them as those of x."""
    pair = both_jacobians(c)
    if pair is None or c.evidence.dy.shape != c.yours.shape or c.yours.size < 4:
        return None
    right, theirs, nothing = pair
    own = np.diagonal(right)
    if np.any(np.abs(right - np.diag(own)) > nothing) or np.any(own == 0):
        return None
    x = c.evidence.inputs[c.index].ravel()
    extra = (theirs - right) / own[:, None]
    linked = np.abs(extra) > 1e-9 * np.max(np.abs(extra))
    if not linked.any() or np.any(np.ptp(np.sort(linked.sum(axis=1)))):
        return None
    paths = set()
    for entries in {tuple(np.flatnonzero(row)) for row in linked}:
        block, z = extra[np.ix_(entries, entries)], x[list(entries)]
        if len(entries) < 3 or not np.all(linked[np.ix_(entries, entries)]):
            return None
        forms = np.stack([np.ones_like(block), np.add.outer(z, z), np.outer(z, z)]).reshape(3, -1)
        (a, b, square), *_ = np.linalg.lstsq(forms.T, block.ravel(), rcond=None)
        if np.max(np.abs(np.array([a, b, square]) @ forms - block.ravel())) > EXACT * np.max(np.abs(block)):
            return None
        of_variance = abs(square) * z.var() > 1e-6 * np.max(np.abs(block))
        of_mean = not of_variance or abs(a * square - b * b) > 1e-6 * abs(a * square)
        paths.add((bool(of_mean), bool(of_variance)))
    if len(paths) > 1:
        return None
    through = listed([words for words, there in zip(("the mean", "the variance"), paths.pop(), strict=True) if there])
    return (
        f"{c.name} holds a path through {through} of x, but forward treats that as constant (given, or running "
        f"statistics): here dy only has to be multiplied by dy/dx, which is {own[0]:.4g} at the first entry"
    )
