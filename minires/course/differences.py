"""What differs between a submission's result and the right one, as a sentence and an example.

A submission sees the inputs of hidden checks, and could write them into whatever is told about its result: into a
shape, the name of a class, the number of wrong entries. So of a hidden check `unseen` is told, which quotes nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from minires.backend import Array

TOLERANCE = 1e-9
"""How far a number may be from the reference, as a part of the largest one: float64 leaves 1e-13, a numerical
derivative 1e-7."""


class Difference(NamedTuple):
    """said: what is wrong. example: one number of it. unseen: what is said where the inputs are hidden."""

    said: str
    example: str
    unseen: str


def difference(name: str, yours: object, right: Array, tolerance: float = TOLERANCE) -> Difference | None:
    """What is wrong with an array, or None if it is right."""
    if not isinstance(yours, np.ndarray | np.generic | float | int) or isinstance(yours, bool):
        wanted = f"expected an array of shape {shape_text(right)}"
        if yours is None:
            return _told(f"{name} is nothing (None): is there a return?; {wanted}")
        return _told(f"{name} is a {kind_of(yours)}; {wanted}", unseen=f"{name} is no array")
    yours, right = np.asarray(yours), np.asarray(right)
    if yours.dtype.kind not in "fiub":
        return _told(
            f"{name} has the dtype {yours.dtype}; expected floats", unseen=f"{name} does not hold real numbers"
        )
    if yours.shape != right.shape:
        said = f"{name} has shape {shape_text(yours)}; expected {shape_text(right)}"
        return _told(said, unseen=f"{name} has not the shape that it should")
    size = float(np.max(np.abs(right), initial=0.0))
    with np.errstate(invalid="ignore"):
        wrong = ~(np.abs(yours - right) <= tolerance * max(size, 1e-300) + 1e-300)
    wrong &= ~((yours == right) | (np.isnan(yours.astype(float)) & np.isnan(right)))  # infinities that agree
    if not wrong.any():
        return None
    at = tuple(int(i) for i in np.argwhere(wrong)[0])
    place = f"{name}[{', '.join(map(str, at))}]" if at else name
    example = f"{place} is {yours[at]:.6g}; right is {right[at]:.6g}"
    if right.ndim == 0:
        return _told(f"{name} is wrong", example)
    share = "in every entry" if wrong.all() else "in some entries"
    return _told(f"{name} is wrong in {int(wrong.sum())} of {wrong.size} entries", example, f"{name} is wrong {share}")


def _told(said: str, example: str = "", unseen: str = "") -> Difference:
    return Difference(said, example, unseen or said)


def compare_results(yours: object, right: object, name: str, tolerance: float = TOLERANCE) -> Difference | None:
    """`difference` for arrays, numbers, and tuples, lists and dicts of them."""
    if isinstance(right, dict):
        if not isinstance(yours, dict) or set(yours) != set(right):
            return returned(name, yours, f"a dict with {', '.join(map(str, right))}")
        pairs = [(f"{name}[{k!r}]", yours[k], right[k]) for k in right]
    elif isinstance(right, tuple | list):
        if not isinstance(yours, tuple | list) or len(yours) != len(right):
            return returned(name, yours, f"{len(right)} values")
        pairs = [(f"{name}[{i}]", a, b) for i, (a, b) in enumerate(zip(yours, right, strict=True))]
    else:
        return difference(name, yours, right, tolerance)
    found = [compare_results(a, b, n, tolerance) for n, a, b in pairs]
    return next((f for f in found if f is not None), None)


def returned(name: str, value: object, expected: str) -> Difference:
    """A function that returns something else than it should."""
    said = f"{name} returns {described(value)}; expected {expected}"
    return _told(said, unseen=said if value is None else f"{name} does not return {expected}")


def shape_text(array: object) -> str:
    shape = np.shape(array)
    return f"({', '.join(map(str, shape))}{',' * (len(shape) == 1)})" if shape else "() (one number)"


def kind_of(value: object) -> str:
    return getattr(value, "kind", type(value).__name__)


def described(value: object) -> str:
    if value is None:
        return "nothing (None)"
    if isinstance(value, tuple | list):
        return f"{len(value)} values"
    return f"one array of shape {shape_text(value)}" if isinstance(value, np.ndarray) else f"a {kind_of(value)}"
