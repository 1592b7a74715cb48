"""A gradient as it was returned beside the gradient as it should be, and the small tools of every hypothesis."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from minires.backend import Array
from minires.gradcheck.jacobians import Jacobians

NEAR = 1e-7
"""How exactly a candidate built from Jacobians is known, relative to its largest entry."""

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
    evidence: Jacobians | None = None
    """The Jacobians of the pair, where this is a gradient; and which input it belongs to."""
    index: int = 0
    names: tuple[str, ...] = ()
    """Of all inputs."""
    of_known_op: bool = True
    """Whether axes can be called by what they are (sample, channel), or by their numbers only."""
    also_wrong: tuple[str, ...] = ()
    """Other gradients that fail as well."""
    rerun: Callable[[tuple[Array, ...]], tuple[Array | None, ...]] | None = None
    """What backward returns at other inputs, with the same dy."""
    x_name: str = ""
    """Of the input, where it is not the gradient's name without its d."""

    @property
    def known(self) -> Array:
        return np.isfinite(self.expected)

    @property
    def own(self) -> str:
        """The name of the input that this is the gradient of."""
        return self.x_name or self.name.removeprefix("d")

    @property
    def axis_names(self) -> tuple[str, ...]:
        return self.axes or AXES.get(self.expected.ndim, numbered(self.expected.ndim))

    def nouns(self, shape: tuple[int, ...]) -> tuple[str, ...]:
        """What an index along each axis of y, dy or x is called."""
        if not self.of_known_op:
            return ("row", "column") if len(shape) == 2 else numbered(len(shape))
        return ("sample", "feature") if len(shape) == 2 else AXES.get(len(shape), numbered(len(shape)))

    def fits(self, candidate: Array, scale: float = 1.0) -> bool:
        """Whether `candidate` is what was returned, wherever both are known."""
        if candidate.shape != self.yours.shape:
            return False
        bound = np.broadcast_to(self.bound, self.yours.shape) if self.bound.shape != self.yours.shape else self.bound
        known = np.isfinite(candidate)
        slack = max(1.0, abs(scale)) * bound + 1e-13 * np.abs(np.where(known, candidate, 0))
        return bool(known.any() and np.all(np.abs(self.yours - candidate)[known] <= slack[known]))

    def near(self, candidate: Array) -> bool:
        """Whether `candidate`, known to a ten millionth of its largest entry, is what was returned."""
        if candidate.shape != self.yours.shape or not np.all(np.isfinite(candidate)):
            return False
        size = float(np.max(np.abs(candidate), initial=0.0))
        slack = 4 * float(np.max(self.bound, initial=0.0)) + NEAR * size
        return size > 0 and bool(np.all(np.abs(self.yours - candidate) <= slack))

    @property
    def is_far(self) -> bool:
        """Whether the error is large enough for `near` to tell two explanations apart."""
        if self.yours.shape != self.expected.shape:
            return False
        error = np.abs(self.yours - self.expected)[self.known]
        size = float(np.max(np.abs(self.expected), initial=0.0, where=self.known))
        return bool(np.max(error, initial=0.0) > 100 * (NEAR * size + 4 * np.max(self.bound, initial=0.0)))

    def wrong(self) -> Array:
        """Which entries are off."""
        with np.errstate(invalid="ignore"):
            return self.known & ~(np.abs(self.yours - self.expected) <= self.bound)


def close(a: Array, b: Array, bound: float) -> bool:
    known = np.isfinite(b)
    return bool(np.all(np.abs(a - b)[known] <= 4 * bound))


def fitted_factor(yours: Array, expected: Array, bound: Array) -> tuple[float | None, float]:
    """The least-squares factor between two arrays, and how exactly it is known; None where expected is nothing."""
    known = np.isfinite(expected)
    square = float(np.sum(expected[known] ** 2))
    if square <= float(np.sum(np.broadcast_to(bound, expected.shape)[known] ** 2)):
        return None, 0.0
    factor = float(np.sum(yours[known] * expected[known])) / square
    doubt = float(np.sqrt(np.sum(np.broadcast_to(bound, expected.shape)[known] ** 2) / square))
    return factor, max(1e-9, (1 + abs(factor)) * doubt)


def numbered(ndim: int) -> tuple[str, ...]:
    """What an index along an axis is called that nobody knows more about."""
    return ("entry",) if ndim == 1 else tuple(f"axis-{axis} index" for axis in range(ndim))


def position(flat: int, shape: tuple[int, ...]) -> str:
    """The index of an entry as it is written in code: "[0, 2, 1]"."""
    return "[" + ", ".join(str(int(k)) for k in np.unravel_index(flat, shape)) + "]" if shape else ""


def subsets(n: int) -> Iterator[tuple[int, ...]]:
    for size in range(1, n + 1):
        yield from combinations(range(n), size)


def plural(noun: str) -> str:
    """Of what an index along an axis is called: "rows", "indices along axis 1"."""
    if "index" in noun:
        return f"indices along {noun.removesuffix(' index').replace('-', ' ')}"
    return "entries" if noun == "entry" else noun + "s"


def along(nouns: Iterable[str]) -> str:
    """Axes that a sum runs over, in words: "samples and rows", "axis 0 and axis 2"."""
    return listed([n.removesuffix(" index").replace("-", " ") if "index" in n else plural(n) for n in nouns])


def counted(noun: str, indices: Array) -> str:
    """ "row 2", "rows 0, 1 and 2", "indices 0 and 2 along axis 1"."""
    if "index" in noun:
        where = noun.removesuffix(" index").replace("-", " ")
        return f"{'index' if len(indices) == 1 else 'indices'} {listed(indices)} along {where}"
    return f"{noun if len(indices) == 1 else plural(noun)} {listed(indices)}"


def listed(items: object) -> str:
    words = [str(i) for i in items]
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def along_axes(vector: Array, shape: tuple[int, ...]) -> Iterator[Array]:
    """A vector (n,) along each axis of `shape` that has n entries, ready to be broadcast to it."""
    for axis, count in enumerate(shape):
        if count == vector.size:
            yield vector.reshape([-1 if a == axis else 1 for a in range(len(shape))])
