"""Float32 or float64: which of the two does somebody's function compute in?"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from minires.backend import Array
from minires.gradcheck.numerical import ROUNDOFF


def unit_roundoff(forward: Callable[[tuple[Array, ...]], Array], inputs: tuple[Array, ...], y: Array) -> float:
    """u of the precision that forward computes in, y being forward(inputs).

    Numbers that float32 holds exactly prove nothing by themselves: pixels are such numbers, and a ReLU of them is. So
    the inputs are moved a little, to where float32 cannot follow, and forward is asked again.
    """
    if y.dtype == np.float32:
        return ROUNDOFF["float32"]
    if not looks_single(y):
        return ROUNDOFF["float64"]
    rng = np.random.default_rng(0)
    moved = forward(tuple(a * (1 + 2.0**-12 * rng.random(a.shape)) for a in inputs))
    single = looks_single(moved) and not np.array_equal(moved, y)
    return ROUNDOFF["float32" if single else "float64"]


def looks_single(a: Array) -> bool:
    """Whether every number of an array is one of float32's.

    Whole numbers say nothing (they are exact in both), so some fraction has to be among them.
    """
    if a.dtype == np.float32:
        return True
    with np.errstate(over="ignore"):
        representable = bool(np.all(a.astype(np.float32) == a))
    return representable and bool(np.any(a * 2**12 != np.round(a * 2**12)))
