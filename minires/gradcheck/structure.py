"""What a wrong gradient looks like beside the right one: hypotheses that need to know nothing about the function.

Each hypothesis is a function of a `Comparison` that returns a sentence if it explains *every* entry, to within the
bounds of the check, and None otherwise. They are tried in the order of `HYPOTHESES`; the first that fits is told. If
none fits, `place` says where the error sits. An array of the wrong shape is left to `wrong_shape` alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import combinations, permutations

import numpy as np

from minires.backend import Array
from minires.gradcheck.numerical import is_single

AXES = {1: ("entry",), 2: ("row", "column"), 3: ("slice", "row", "column"), 4: ("sample", "channel", "row", "column")}


@dataclass
class Comparison:
    """A gradient as it was returned, and as it should be."""

    name: str
    yours: Array
    expected: Array
    """NaN where it is not known."""
    bound: Array
    """How exactly each entry of `expected` is known."""
    sizes: dict[str, float] = field(default_factory=dict)
    """Numbers that occur in wrong factors, by name: "the batch size N": 4."""
    x: Array | None = None
    """The input that this is the gradient of."""
    axes: tuple[str, ...] | None = None
    """What an index along each axis is called."""
    partners: dict[str, Array] = field(default_factory=dict)
    """Other arrays of the call, by name, that a gradient may have been confused with or multiplied by."""

    @property
    def known(self) -> Array:
        return np.isfinite(self.expected)

    @property
    def axis_names(self) -> tuple[str, ...]:
        return self.axes or AXES.get(self.expected.ndim, tuple(f"axis-{i}" for i in range(self.expected.ndim)))

    def fits(self, candidate: Array, scale: float = 1.0) -> bool:
        """Whether `candidate` is what was returned, wherever both are known."""
        if candidate.shape != self.yours.shape:
            return False
        bound = np.broadcast_to(self.bound, self.yours.shape) if self.bound.shape != self.yours.shape else self.bound
        known = np.isfinite(candidate)
        slack = max(1.0, abs(scale)) * bound + 1e-13 * np.abs(np.where(known, candidate, 0))
        return bool(known.any() and np.all(np.abs(self.yours - candidate)[known] <= slack[known]))

    def wrong(self) -> Array:
        """Which entries are off."""
        with np.errstate(invalid="ignore"):
            return self.known & ~(np.abs(self.yours - self.expected) <= self.bound)


def explain(c: Comparison) -> str | None:
    """The first hypothesis that fits, in words."""
    if c.yours.shape != c.expected.shape:
        return wrong_shape(c)
    for hypothesis in HYPOTHESES:
        if (sentence := hypothesis(c)) is not None:
            return sentence
    return None


# --- shape, finiteness ---------------------------------------------------------------------------------------------


def wrong_shape(c: Comparison) -> str:
    """Transposed, not summed, or kept axes."""
    yours, shape = c.yours, c.expected.shape
    start = f"{c.name} has shape {yours.shape} where {shape} is needed"
    bound = float(np.max(c.bound))
    for order in permutations(range(yours.ndim)):
        if yours.transpose(order).shape == shape and _close(yours.transpose(order), c.expected, bound):
            return f"{start}: it is transposed; the numbers are right"
    if yours.size == c.expected.size and _close(yours.reshape(shape), c.expected, bound):
        return f"{start}: the numbers are right, but axes of length 1 were kept; reshape it"
    for axes in _subsets(yours.ndim):
        summed = yours.sum(axis=axes)
        if summed.size == c.expected.size and _close(summed.reshape(shape), c.expected, bound * yours.size):
            return f"{start}: it was not summed over axis {_list(axes)}"
    try:
        spread = np.broadcast_to(yours, shape)
    except ValueError:
        return start
    if _close(spread, c.expected, bound):
        return f"{start}: the numbers are right where they are, but broadcasting has to be written out"
    return start


def not_finite(c: Comparison) -> str | None:
    bad = ~np.isfinite(c.yours)
    if not bad.any():
        return None
    where = tuple(int(i) for i in np.argwhere(bad)[0])
    return (
        f"{c.name} holds {int(bad.sum())} NaN or infinite numbers, the first at {where}: "
        "look for a division by 0, a log of 0, an exp of a large number, or memory that was never filled (np.empty)"
    )


def all_zero(c: Comparison) -> str | None:
    if np.any(c.yours):
        return None
    return f"{c.name} is all zeros: it is never computed, or computed into an array that is not returned"


def whole_numbers(c: Comparison) -> str | None:
    """Right numbers put into an array of integers, which cuts off their fractions."""
    if c.yours.dtype.kind not in "iu" or not c.fits(np.trunc(c.expected)):
        return None
    return f"{c.name} holds whole numbers ({c.yours.dtype}): fractions were cut off; make it with dtype=dy.dtype"


# --- factors -------------------------------------------------------------------------------------------------------


def constant_factor(c: Comparison) -> str | None:
    """yours = factor * expected."""
    if c.yours.size < 2 and not c.sizes:
        return None
    factor, doubt = _factor(c.yours, c.expected, c.bound)
    if factor is None or not c.fits(factor * c.expected, factor):
        return None
    if abs(factor + 1) <= doubt:
        return f"{c.name} has the wrong sign"
    return f"{c.name} is {factor:.6g} times what it should be{_named(factor, doubt, c.sizes)}"


def factor_along_axis(c: Comparison) -> str | None:
    """yours = expected, each index along one axis with a factor of its own (a gain forgotten, say)."""
    for axis in range(c.yours.ndim):
        count = c.yours.shape[axis]
        if count < 2 or c.yours.size < 3 * count:
            continue
        pieces = zip(*(np.moveaxis(a, axis, 0) for a in (c.yours, c.expected, c.bound)), strict=True)
        factors = [_factor(*piece)[0] for piece in pieces]
        if any(f is None for f in factors):
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


# --- the right numbers in the wrong place --------------------------------------------------------------------------


def transposed(c: Comparison) -> str | None:
    for order in permutations(range(c.expected.ndim)):
        if order != tuple(range(c.expected.ndim)) and c.fits(c.expected.transpose(order)):
            moved = [c.axis_names[i] for i, j in enumerate(order) if i != j]
            return f"{c.name} is transposed: the axes {_list(moved)} are exchanged"
    return None


def flipped(c: Comparison) -> str | None:
    for axes in _subsets(c.expected.ndim):
        if c.fits(np.flip(c.expected, axes)):
            return f"{c.name} is flipped along {_list([c.axis_names[i] for i in axes])}: it runs backwards there"
    return None


def shifted(c: Comparison) -> str | None:
    """yours = expected, moved by one or two pixels along the last two axes; what moved out of sight is not compared."""
    if c.expected.ndim < 3:
        return None
    for down in (0, 1, -1, 2, -2):
        for right in (0, 1, -1, 2, -2):
            if (down or right) and c.fits(_moved(c.expected, down, right)):
                steps = [_steps(down, "down", "up"), _steps(right, "right", "left")]
                return f"{c.name} is shifted by {' and '.join(s for s in steps if s)}: check padding and offsets"
    return None


def swapped(c: Comparison) -> str | None:
    """The gradient of another input."""
    for name, array in c.partners.items():
        if name.startswith("d") and name != "dy" and c.fits(array):
            return f"{c.name} is the gradient {name}: the gradients are returned in the wrong order"
    return None


# --- a part is missing ---------------------------------------------------------------------------------------------


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
        f"{c.name} is right for {noun} {_list(good)}, wrong for {noun} {_list(bad)}: only part of it is treated right"
    )


def multiple_of_dy(c: Comparison) -> str | None:
    """yours = expected + factor * dy: a path on which x reaches y unchanged, the shortcut of a residual block."""
    dy = c.partners.get("dy")
    if dy is None or dy.shape != c.expected.shape:
        return None
    factor, _ = _factor(c.yours - c.expected, np.where(c.known, dy, np.nan), c.bound)
    if factor is None or not c.fits(c.expected + factor * dy):
        return None
    if abs(factor + 1) < 1e-6:
        return f"{c.name} lacks dy itself: the gradient of the shortcut is forgotten"
    if abs(factor - 1) < 1e-6:
        return f"{c.name} holds dy once too often: the gradient of the shortcut is counted twice"
    return f"{c.name} is off by {factor:.6g} times dy: look at the shortcut"


def missing_constant(c: Comparison) -> str | None:
    """The error is one number along some axes: a mean, or a sum, was forgotten (the low-rank part of ones)."""
    error, bound = c.yours - c.expected, float(np.max(c.bound))
    for axes in sorted(_subsets(c.expected.ndim), key=len, reverse=True):
        count = math.prod(error.shape[a] for a in axes)
        if count < 3:
            continue
        level = np.nanmean(error, axis=axes, keepdims=True)
        if np.nanmax(np.abs(error - level)) <= 4 * bound:
            return (
                f"the error of {c.name} is the same number along {_list([c.axis_names[a] for a in axes])}: "
                "a term that is constant there is missing or too much, such as the mean of dy"
            )
    return None


def missing_xhat(c: Comparison) -> str | None:
    """The error is a + b x along some axes, x being the input: BatchNorm's variance path (low rank, x-hat)."""
    if c.x is None or c.x.shape != c.expected.shape:
        return None
    error, bound = c.yours - c.expected, float(np.max(c.bound))
    for axes in sorted(_subsets(c.expected.ndim), key=len, reverse=True):
        if math.prod(error.shape[a] for a in axes) < 5:
            continue
        centered = c.x - c.x.mean(axis=axes, keepdims=True)
        level = np.nanmean(error, axis=axes, keepdims=True)
        slope = np.nansum(error * centered, axis=axes, keepdims=True) / np.sum(centered**2, axis=axes, keepdims=True)
        if np.nanmax(np.abs(error - level - slope * centered)) <= 4 * bound:
            both = " plus a constant" if np.nanmax(np.abs(level)) > 4 * bound else ""
            return (
                f"the error of {c.name} is a multiple of x minus its mean{both}, along "
                f"{_list([c.axis_names[a] for a in axes])}: the path through the variance "
                "(xhat times the mean of dy * xhat) is missing or wrong"
            )
    return None


def single_precision(c: Comparison) -> str | None:
    """Right up to the rounding of float32."""
    scale = np.maximum(np.abs(c.expected), np.nanmax(np.abs(c.expected)) * 0.1)
    close = np.abs(c.yours - c.expected)[c.known] <= 2.0**-20 * scale[c.known]
    if not np.all(close) or not (is_single(c.yours) or c.yours.dtype == np.float32):
        return None
    return f"{c.name} is right, but rounded to float32: keep the dtype of dy (look for astype and np.float32)"


HYPOTHESES: tuple[Callable[[Comparison], str | None], ...] = (
    not_finite,
    all_zero,
    whole_numbers,
    constant_factor,
    single_precision,
    transposed,
    flipped,
    swapped,
    shifted,
    zero_block,
    part_right,
    factor_along_axis,
    multiple_of_dy,
    missing_constant,
    missing_xhat,
)


# --- where -----------------------------------------------------------------------------------------------------------


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
    return f"only in {noun} {_list(hit)}"


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


# --- small helpers -------------------------------------------------------------------------------------------------


def _close(a: Array, b: Array, bound: float) -> bool:
    known = np.isfinite(b)
    return bool(np.all(np.abs(a - b)[known] <= 4 * bound))


def _factor(yours: Array, expected: Array, bound: Array) -> tuple[float | None, float]:
    """The least-squares factor between two arrays, and how exactly it is known; None where expected is nothing."""
    known = np.isfinite(expected)
    square = float(np.sum(expected[known] ** 2))
    if square <= float(np.sum(np.broadcast_to(bound, expected.shape)[known] ** 2)):
        return None, 0.0
    factor = float(np.sum(yours[known] * expected[known])) / square
    doubt = float(np.sqrt(np.sum(np.broadcast_to(bound, expected.shape)[known] ** 2) / square))
    return factor, max(1e-9, (1 + abs(factor)) * doubt)


def _named(factor: float, doubt: float, sizes: dict[str, float]) -> str:
    """What the factor may be, from the sizes at hand."""
    sign, size = ("minus " if factor < 0 else ""), abs(factor)
    found = []
    for name, value in sizes.items():
        for form, number in (("", value), ("1 / ", 1 / value), ("root of ", value**0.5), ("1 / root of ", value**-0.5)):
            if value != 1 and abs(size - number) <= doubt * max(1.0, number):
                found.append(f"{sign}{form}{name}")
    return f": {' or '.join(found[:3])}" if found else ""


def _moved(a: Array, down: int, right: int) -> Array:
    """`a` moved along its last two axes; NaN where nothing came in."""
    result = np.full(a.shape, np.nan)
    h, w = a.shape[-2:]
    if abs(down) < h and abs(right) < w:
        to = (slice(max(down, 0), h + min(down, 0)), slice(max(right, 0), w + min(right, 0)))
        here = (slice(max(-down, 0), h + min(-down, 0)), slice(max(-right, 0), w + min(-right, 0)))
        result[(..., *to)] = a[(..., *here)]
    return result


def _steps(count: int, forward: str, backward: str) -> str:
    if not count:
        return ""
    return f"{abs(count)} pixel{'s' if abs(count) > 1 else ''} {forward if count > 0 else backward}"


def _subsets(n: int) -> Iterator[tuple[int, ...]]:
    for size in range(1, n + 1):
        yield from combinations(range(n), size)


def _list(items: object) -> str:
    words = [str(i) for i in items]
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]
