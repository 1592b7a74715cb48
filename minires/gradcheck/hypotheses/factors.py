"""The right gradient times a factor: one for all entries, or one for each index along an axis."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import combinations, permutations

import numpy as np

from minires.gradcheck.hypotheses.comparison import Comparison, fitted_factor, plural

COUNTED = "m / (m - 1) with"
"""How the words for m / (m - 1) begin where nobody knows of a variance: the last guess, others look the same."""

SETTINGS = ("1 - p", "the window's area")
"""Numbers that come from the options alone, beside those that tell their value: "stride (2)"."""


def constant_factor(c: Comparison) -> str | None:
    """yours = factor * expected. One number is always a multiple of another: there the factor has to have a name."""
    factor, doubt = fitted_factor(c.yours, c.expected, c.bound)
    if factor is None or f"{factor:.6g}" == "1" or not c.fits(factor * c.expected, factor):
        return None
    name = named(factor, doubt, c.sizes)
    if c.yours.size < 2 and not name and abs(factor + 1) > doubt and not _is_whole(factor, doubt):
        return None
    if abs(factor + 1) <= doubt:
        return f"{c.name} has the wrong sign"
    return f"{c.name} is {factor:.6g} times what it should be{name}"


def _is_whole(factor: float, doubt: float) -> bool:
    """Whether a factor, or one over it, is a whole number: a count, of samples perhaps, that the check cannot see."""
    size = max(abs(factor), 1 / abs(factor)) if factor else 0.0
    return 2 <= round(size) <= 1000 and doubt < 1e-6 and abs(size - round(size)) <= 1e-5 * size


def factor_along_axis(c: Comparison) -> str | None:
    """yours = expected, each index along one axis with a factor of its own (a gain forgotten, say)."""
    for axis in range(c.yours.ndim):
        count = c.yours.shape[axis]
        if count < 2 or c.yours.size < 3 * count:
            continue
        pieces = zip(*(np.moveaxis(a, axis, 0) for a in (c.yours, c.expected, c.bound)), strict=True)
        factors = [fitted_factor(*piece)[0] for piece in pieces]
        if any(f is None for f in factors):
            continue
        if len({f"{f:.4g}" for f in factors}) == 1 or np.allclose(factors, 1, atol=1e-4):
            continue
        column = np.reshape(factors, [count if i == axis else 1 for i in range(c.yours.ndim)])
        if c.fits(column * c.expected, float(np.max(np.abs(column)))):
            told = ", ".join(f"{f:.4g}" for f in factors[:4]) + (", ..." if count > 4 else "")
            return (
                f"{c.name} has a factor too many or too few for each {c.axis_names[axis]} ({told}){_whose(factors, c)}"
            )
    return None


def _whose(factors: list[float], c: Comparison) -> str:
    """Which other array of the call the factors are, or are the inverse of."""
    for name, array in c.partners.items():
        if array.shape == (len(factors),):
            if np.allclose(factors, array, rtol=1e-6):
                return f": it is multiplied by {name} where it should not be"
            if np.allclose(np.multiply(factors, array), 1, rtol=1e-6):
                return f": {name} was forgotten"
    return ""


def product_of_factors(c: Comparison) -> str | None:
    """One factor for each index along one axis times one for each along another: a weight taken along the wrong one."""
    if c.yours.ndim < 2 or not c.is_far or not np.all(c.known) or np.any(np.abs(c.expected) <= 10 * np.max(c.bound)):
        return None
    ratio = c.yours / c.expected
    if np.any(ratio <= 0):
        return None
    log = np.log(ratio)
    for first, second in combinations(range(c.yours.ndim), 2):
        rest = tuple(k for k in range(c.yours.ndim) if k not in (first, second))
        n, m = c.yours.shape[first], c.yours.shape[second]
        if min(n, m) < 3 or (rest and np.max(np.ptp(log, axis=rest)) > 1e-6):
            continue
        plane = log.mean(axis=rest) if rest else log
        of_rows, of_columns = plane.mean(axis=1, keepdims=True), plane.mean(axis=0)
        if np.max(np.abs(of_rows + of_columns - plane.mean() - plane)) > 1e-6:
            continue
        if max(np.ptp(of_rows), np.ptp(of_columns)) < 1e-4 or min(np.ptp(of_rows), np.ptp(of_columns)) < 1e-4:
            continue
        a, b = c.axis_names[first], c.axis_names[second]
        span = f"together {ratio.min():.4g} to {ratio.max():.4g}"
        return (
            f"{c.name} is the right one times a factor for each {a} and another for each {b} ({span}): is a weight, or "
            f"a statistic, taken along {plural(b)} where it belongs to {plural(a)}, or the reverse?"
        )
    return None


def named(factor: float, doubt: float, sizes: dict[str, float]) -> str:
    """What the factor may be, from the sizes at hand: one of them, else a quotient of two."""
    sign, size = ("minus " if factor < 0 else ""), abs(factor)
    found = []
    for name, value in sizes.items():
        if name.startswith(COUNTED):
            continue
        forms = [("", value), ("1 / ", 1 / value), ("root of ", value**0.5), ("1 / root of ", value**-0.5)]
        if name.endswith(")") or not float(value).is_integer():
            forms += [("the square of ", value**2), ("1 / the square of ", value**-2)]
        for form, number in forms:
            if value != 1 and abs(size - number) <= doubt * max(1.0, number):
                found.append(f"{sign}{form}{name}")
    if all(name.isdigit() for name in found):
        given = {name: value for name, value in sizes.items() if name.endswith(")") or name in SETTINGS}
        found += [f"{sign}{words}" for words, number in _quotients(given) if abs(size - number) <= doubt * number]
    if not found:
        found = [f"{sign}{words}" for words, number in _quotients(sizes) if abs(size - number) <= doubt * number]
    if found:
        return f": {' or '.join(found[:3])}"
    simple = Fraction(size).limit_denominator(20)
    near = simple.denominator > 1 and doubt < 1e-6 and abs(size - float(simple)) <= 1e-8 * size
    return f" ({sign}{simple.numerator}/{simple.denominator})" if near else ""


def _bracketed(words: str) -> str:
    return f"({words})" if " - " in words else words


def _quotients(sizes: dict[str, float]) -> Iterator[tuple[str, float]]:
    """Products and quotients of two sizes. A bare number stands in front only."""
    every = [(n, v) for n, v in sizes.items() if v != 1 and not n.startswith("m / (m - 1)")]
    every += [(f"the square of {n}", v * v) for n, v in every if n.endswith(")")]
    for (n, v), (k, w) in permutations(every, 2):
        if not k.isdigit() and v != w:
            yield f"{_bracketed(n)} / {_bracketed(k)}", v / w
    for (n, v), (k, w) in combinations(every, 2):
        if n.isdigit() and not k.isdigit():
            yield f"{n} times {k}", v * w
    yield from ((n, v) for n, v in sizes.items() if n.startswith(COUNTED))
