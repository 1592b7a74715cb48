"""Which pixel of a max-pooling window gets dy where several are equally large?

There is no derivative there, only conventions: the first in reading order (minires, PyTorch), the last, an equal share
for each. One winner, whoever it is, is a subgradient, and so is a share; all of dy for each of them is not.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from minires.backend import Array
from minires.gradcheck import definitions
from minires.gradcheck.faults import CATALOGUE

CONVENTIONS = ("first", "last", "shared", "all")


def check_convention(ties: str | None, like: str | None) -> None:
    """ValueError for a convention that does not exist, or for an op without ties."""
    if ties is not None and ties not in CONVENTIONS:
        raise ValueError(f"ties is {ties!r}; expected one of {', '.join(CONVENTIONS)}")
    if ties is not None and like != "max_pool2d":
        raise ValueError('ties= says who gets dy where pixels of a max-pool are equal; it needs like="max_pool2d"')


def convention(forward: Callable, backward: Callable, x: Array, options: dict, dy: Array) -> str | None:
    """What the pair does with ties, on x rounded to whole numbers: a convention, "other", or None without ties."""
    tied = np.round(x)
    try:
        (mine,) = backward(dy.copy(), forward((tied,))[1])
    except ValueError:
        return None  # a function that does not take such inputs cannot be asked
    expected = {name: _expected(name, tied, options, dy) for name in CONVENTIONS}
    if mine is None or mine.shape != x.shape or np.array_equal(expected["first"], expected["last"]):
        return None
    return next((n for n, dx in expected.items() if np.allclose(mine, dx, rtol=1e-5, atol=1e-12)), "other")


def _expected(name: str, tied: Array, options: dict, dy: Array) -> Array:
    """dx by one convention."""
    if name in ("shared", "all"):
        fault = CATALOGUE["max_pool2d:ties-shared" if name == "shared" else "max_pool2d:ties-to-all"]
        return fault.backward(dy, fault.forward(tied, **options)[1])[0]
    grid = np.arange(tied[0, 0].size).reshape(tied.shape[2:])
    decided = tied + 1e-6 * grid if name == "last" else tied
    return definitions.run_backward("max_pool2d", dy, definitions.run_forward("max_pool2d", (decided,), options)[1])[0]
