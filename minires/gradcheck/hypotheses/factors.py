"""The right gradient times a factor: one for all entries, or one for each index along an axis."""

from __future__ import annotations

import numpy as np

from minires.gradcheck.hypotheses.comparison import Comparison, fitted_factor


def constant_factor(c: Comparison) -> str | None:
    """yours = factor * expected. One number is always a multiple of another: there the factor has to have a name."""
    factor, doubt = fitted_factor(c.yours, c.expected, c.bound)
    if factor is None or f"{factor:.6g}" == "1" or not c.fits(factor * c.expected, factor):
        return None
    name = _named(factor, doubt, c.sizes)
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


def _named(factor: float, doubt: float, sizes: dict[str, float]) -> str:
    """What the factor may be, from the sizes at hand."""
    sign, size = ("minus " if factor < 0 else ""), abs(factor)
    found = []
    for name, value in sizes.items():
        for form, number in (("", value), ("1 / ", 1 / value), ("root of ", value**0.5), ("1 / root of ", value**-0.5)):
            if value != 1 and abs(size - number) <= doubt * max(1.0, number):
                found.append(f"{sign}{form}{name}")
    return f": {' or '.join(found[:3])}" if found else ""
