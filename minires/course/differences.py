"""What differs between a submission's result and the right one, as a sentence and an example."""

from __future__ import annotations

import numpy as np

from minires.backend import Array

TOLERANCE = 1e-9
"""How far a number may be from the reference, as a part of the largest one: float64 leaves 1e-13, a numerical
derivative 1e-7."""


def difference(name: str, yours: object, right: Array, tolerance: float = TOLERANCE) -> tuple[str, str] | None:
    """What is wrong with an array and an example, or None if it is right."""
    if not isinstance(yours, np.ndarray | np.generic | float | int) or isinstance(yours, bool):
        got = "nothing (None): is there a return?" if yours is None else f"a {kind_of(yours)}"
        return f"{name} is {got}; expected an array of shape {shape_text(right)}", ""
    yours, right = np.asarray(yours), np.asarray(right)
    if yours.dtype.kind not in "fiub":
        return f"{name} has the dtype {yours.dtype}; expected floats", ""
    if yours.shape != right.shape:
        return f"{name} has shape {shape_text(yours)}; expected {shape_text(right)}", ""
    size = float(np.max(np.abs(right), initial=0.0))
    with np.errstate(invalid="ignore"):
        wrong = ~(np.abs(yours - right) <= tolerance * max(size, 1e-300) + 1e-300)
    wrong &= ~((yours == right) | (np.isnan(yours.astype(float)) & np.isnan(right)))  # infinities that agree
    if not wrong.any():
        return None
    at = tuple(int(i) for i in np.argwhere(wrong)[0])
    count = "is wrong" if right.ndim == 0 else f"is wrong in {int(wrong.sum())} of {wrong.size} entries"
    place = f"{name}[{', '.join(map(str, at))}]" if at else name
    return f"{name} {count}", f"{place} is {yours[at]:.6g}; right is {right[at]:.6g}"


def compare_results(yours: object, right: object, name: str, tolerance: float = TOLERANCE) -> tuple[str, str] | None:
    """`difference` for arrays, numbers, and tuples, lists and dicts of them."""
    if isinstance(right, dict):
        if not isinstance(yours, dict) or set(yours) != set(right):
            return f"{name} returns {described(yours)}; expected a dict with {', '.join(map(str, right))}", ""
        pairs = [(f"{name}[{k!r}]", yours[k], right[k]) for k in right]
    elif isinstance(right, tuple | list):
        if not isinstance(yours, tuple | list) or len(yours) != len(right):
            return f"{name} returns {described(yours)}; expected {len(right)} values", ""
        pairs = [(f"{name}[{i}]", a, b) for i, (a, b) in enumerate(zip(yours, right, strict=True))]
    else:
        return difference(name, yours, right, tolerance)
    found = [compare_results(a, b, n, tolerance) for n, a, b in pairs]
    return next((f for f in found if f is not None), None)


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
