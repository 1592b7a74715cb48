"""The right gradient, changed in each entry by one rule: a sign lost, a mask the wrong way round, a factor too many."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from minires.backend import Array
from minires.gradcheck.hypotheses.comparison import NEAR, Comparison, fitted_factor
from minires.gradcheck.hypotheses.parts import by_sign, place

POWERS = {2.0: "the square of", 3.0: "the cube of", 0.5: "the root of", -1.0: "one over"}


def inverted_mask(c: Comparison) -> str | None:
    """0 where the right gradient is not, and not 0 where it is."""
    if not c.is_far or not np.all(c.known):
        return None
    yours, right = (np.abs(a) > np.max(c.bound) for a in (c.yours, c.expected))
    if min(yours.sum(), right.sum()) < 3 or np.any(yours & right) or (yours | right).mean() < 0.9:
        return None
    return (
        f"{c.name} is 0 where it should be something, and something where it should be 0: the mask (or the condition "
        "of a gate) is the wrong way round"
    )


def factor_where_wrong(c: Comparison) -> str | None:
    """Right in many entries, and one and the same factor off in all others."""
    wrong = c.wrong()
    if wrong.sum() < 3 or wrong[c.known].all() or not c.is_far:
        return None
    if np.any(np.abs(c.expected[wrong]) <= np.max(c.bound)):
        return None
    factor, doubt = fitted_factor(c.yours[wrong], c.expected[wrong], np.broadcast_to(c.bound, wrong.shape)[wrong])
    if factor is None or not c.fits(np.where(wrong, factor, 1.0) * c.expected, factor):
        return None
    few = len(np.unique(np.round(c.expected[wrong], 12))) < 3 and wrong.sum() < 6
    if few and abs(factor + 1) > doubt:
        return None  # few different numbers prove no factor
    where = by_sign(c, wrong) or _which(c, wrong)
    if abs(factor) <= doubt:
        return f"{c.name} is 0 {where}, where it should be something, and right elsewhere"
    if abs(factor + 1) <= doubt:
        if np.array_equal(wrong, c.known & (c.expected < 0) & wrong) and np.all(c.expected[c.known & ~wrong] >= 0):
            return f"{c.name} is the absolute value of what it should be: where it should be negative, its sign is lost"
        return f"{c.name} has the wrong sign {where}, and is right elsewhere"
    return f"{c.name} is {factor:.6g} times what it should be {where}, and right elsewhere"


def _which(c: Comparison, wrong: Array) -> str:
    """Which entries these are: by the size or the sign of the right gradient, else by their place."""
    size, rest = np.abs(c.expected), c.known & ~wrong
    nothing = np.max(c.bound)
    if size[wrong].min() > size[rest].max() + nothing:
        return f"where it is largest ({int(wrong.sum())} of {wrong.size} entries)"
    for words, part in (("negative", c.expected < 0), ("positive", c.expected > 0)):
        if np.array_equal(wrong, part & c.known):
            return f"where it should be {words}"
    nonzero = rest & (size > nothing)
    if nonzero.any() and size[wrong].max() < size[nonzero].min() - nothing:
        return f"where it is smallest ({int(wrong.sum())} of {wrong.size} entries)"
    rows = [np.flatnonzero(wrong.any(axis=tuple(k for k in range(wrong.ndim) if k != a))) for a in range(wrong.ndim)]
    if np.all(wrong[np.ix_(*rows)]):
        return place(c)
    first = tuple(int(k) for k in np.argwhere(wrong)[0])
    return f"at {int(wrong.sum())} of {wrong.size} entries, the first at {first}"


def spread_too_far(c: Comparison) -> str | None:
    """Given to entries that do not move y as well, and a factor off where it belongs: shared out among all."""
    if not c.is_far or not np.all(c.known) or c.name == "y":
        return None
    nothing = c.known & (np.abs(c.expected) <= np.max(c.bound))
    stray = nothing & (np.abs(c.yours) > np.max(c.bound))
    if stray.sum() < 3 or (~nothing).sum() < 3:
        return None
    factor, _ = fitted_factor(
        c.yours[~nothing], c.expected[~nothing], np.broadcast_to(c.bound, nothing.shape)[~nothing]
    )
    if factor is None or not c.fits(np.where(nothing, c.yours, factor * c.expected), factor):
        return None
    return (
        f"{c.name} has to be 0 at {int(stray.sum())} of {stray.size} entries that do not move y, and is {factor:.6g} "
        "times what it should be at the others: it is shared out among all, where only some (the largest, those that "
        "are kept) get dy"
    )


def not_clipped(c: Comparison) -> str | None:
    """The right gradient is yours, cut off at some size: a case of the function is forgotten."""
    if not c.is_far or not np.all(c.known) or c.yours.size < 4:
        return None
    low, high = float(c.expected.min()), float(c.expected.max())
    cut = (c.yours > high) | (c.yours < low)
    bound = 4 * float(np.max(c.bound))
    if cut.sum() < 2 or cut.all() or np.max(np.abs(np.clip(c.yours, low, high) - c.expected)) > bound:
        return None
    return (
        f"{c.name} is right up to a certain size, but should not go beyond {low:.4g} .. {high:.4g}: a case of the "
        "function (its linear part, its upper end) is forgotten"
    )


def power(c: Comparison) -> str | None:
    """A power of the right gradient, entry by entry, times one number."""
    if not c.is_far or not np.all(c.known) or c.yours.size < 4:
        return None
    if np.any(np.abs(c.yours) <= np.max(c.bound)) or np.any(np.abs(c.expected) <= np.max(c.bound)):
        return None
    yours, right = np.log(np.abs(c.yours)), np.log(np.abs(c.expected))
    if np.ptp(right) < 0.1 or len(np.unique(np.round(right, 6))) < 4:
        return None
    for exponent, words in POWERS.items():
        rest = yours - exponent * right
        if np.ptp(rest) <= 1e-6 * max(1.0, np.ptp(right)):
            return f"{c.name} goes like {words} what it should be ({np.exp(rest.mean()):.4g} times it)"
    return None


def times_function(c: Comparison) -> str | None:
    """The right gradient times a known function of an input or of y, entry by entry: too many factors, or too few."""
    if not c.is_far or not np.all(c.known) or c.yours.size < 3:
        return None
    clear = np.abs(c.expected) > np.max(c.bound)
    if clear.sum() < 3:
        return None
    for name, array in _beside(c):
        if len(np.unique(array[clear])) < 3:
            continue
        for words, values in _functions(name, array):
            with np.errstate(all="ignore"):
                multiplied, undone = c.expected * values, c.yours * values
            if c.near(multiplied):
                return f"{c.name} is the right one times {words}: a factor too many, or a division by it is missing"
            if _equal(undone, c.expected, c) and np.sum(np.abs(undone) > 1e-3 * np.max(np.abs(undone))) > 2:
                return f"{c.name} is the right one divided by {words}: a factor {words} is missing"
    return None


def _equal(found: Array, right: Array, c: Comparison) -> bool:
    """Whether yours, times something, is the right gradient."""
    slack = 4 * float(np.max(c.bound, initial=0.0)) + NEAR * float(np.max(np.abs(right)))
    return bool(np.all(np.isfinite(found)) and np.max(np.abs(found - right)) <= slack)


def _beside(c: Comparison) -> Iterator[tuple[str, Array]]:
    """Arrays of the gradient's shape: its own input, the other inputs, y."""
    if c.x is not None and c.x.shape == c.yours.shape:
        yield c.own, c.x
    for name, array in c.partners.items():
        if not name.startswith("d") and array.shape == c.yours.shape:
            yield name, array
    if c.evidence is not None and c.evidence.y.shape == c.yours.shape:
        yield "y", c.evidence.y


def _functions(n: str, a: Array) -> Iterator[tuple[str, Array]]:
    with np.errstate(all="ignore"):
        sigmoid = 1 / (1 + np.exp(-a))
        yield n, a
        yield f"{n}^2", a * a
        yield f"1 - {n}", 1 - a
        yield f"{n} (1 - {n})", a * (1 - a)
        yield f"(1 - {n}^2)", 1 - a * a
        yield f"exp({n})", np.exp(a)
        yield f"sigmoid({n})", sigmoid
        yield f"(1 - sigmoid({n}))", 1 - sigmoid
        yield f"sigmoid({n}) (1 - sigmoid({n}))", sigmoid * (1 - sigmoid)
        yield f"tanh({n})", np.tanh(a)
        yield f"(1 + tanh({n}))", 1 + np.tanh(a)
        yield f"(1 - tanh({n})^2)", 1 - np.tanh(a) ** 2
        yield f"the root of {n}", np.sqrt(a)
