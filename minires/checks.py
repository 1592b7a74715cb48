"""The checks at the door: bad input gets a sentence that names the argument, what it was and what was expected.

TypeError for what is not of the right kind (a list, integers, two dtypes), ValueError for a size or value that does
not fit; always before anything is computed or changed.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from types import ModuleType

import numpy as np

from minires.backend import FLOATS, Array, array_namespace

Rng = int | np.random.Generator
"""Where random numbers come from: a seed, or a generator that goes on from where it is."""


COMPUTED = frozenset(np.dtype(name) for name in FLOATS)
"""The same as dtypes: a dtype is looked up here ten times as fast as it tells its name."""


def check_arrays(optional: dict[str, Array | None] | None = None, **arrays: Array) -> ModuleType:
    """The library of the named arrays; TypeError unless they share it and share a dtype the engine computes in.

    Those in `optional` may be None.
    """
    present = arrays | {name: array for name, array in (optional or {}).items() if array is not None}
    for name, array in present.items():
        if not hasattr(array, "dtype"):
            raise TypeError(f"{name} is {_in_short(array)}; expected an array, as from np.asarray")
    xp = array_namespace(*present.values())
    first, leader = next(iter(present.items()))
    for name, array in present.items():
        if array.dtype not in COMPUTED:
            raise TypeError(
                f"{name} has dtype {array.dtype}; expected {', '.join(FLOATS)}: "
                f"convert it, as in {name}.astype(np.float32)"
            )
        if array.dtype != leader.dtype:
            raise TypeError(
                f"{name} has dtype {array.dtype} but {first} has {leader.dtype}; expected one dtype for both"
            )
    return xp


def _in_short(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def check_number(name: str, value: float, minimum: float, below: float = math.inf) -> float:
    """`value` as a plain number; TypeError unless it is a real one, ValueError unless minimum <= value < below.

    (NaN never is. A np.float64 is made plain, since it would turn float32 arrays into float64.)
    """
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; expected a number")
    if not minimum <= value < below:
        limit = "" if below == math.inf else f" and below {below}"
        raise ValueError(f"{name} is {value}; expected a number of at least {minimum}{limit}")
    return float(value)


def check_axes(name: str, array: Array, axes: str) -> None:
    """ValueError unless `array` has the axes named in `axes`, such as "N, C, H, W", none of them empty."""
    expected = f"{axes.count(',') + 1} axes ({axes})"
    if array.ndim != axes.count(",") + 1:
        raise ValueError(f"{name} has shape {array.shape}; expected {expected}")
    if 0 in array.shape:
        raise ValueError(f"{name} has shape {array.shape}; expected {expected}, none of them empty")


def check_shape(name: str, array: Array, shape: tuple[int, ...], why: str) -> None:
    """ValueError unless `array` has exactly `shape`; `why` says where that shape comes from."""
    if array.shape != tuple(shape):
        raise ValueError(f"{name} has shape {array.shape}; expected {tuple(shape)}, {why}")


def check_upstream(dy: Array, shape: tuple[int, ...], like: Array) -> ModuleType:
    """The door of every backward: dy must look like the output y of the forward pass whose cache is used."""
    xp = check_arrays(dy=dy, **{"the forward's input": like})
    check_shape("dy", dy, shape, "the shape of the forward's output")
    return xp


def check_loss_upstream(dy: Array | float, like: Array) -> Array | float:
    """The dy of a loss: a plain number, or an array without axes in the dtype of the forward's input.

    A np.float64 counts as a plain number, and is made one: as an array it would turn float32 gradients into float64.
    """
    if isinstance(dy, int | float):
        return float(dy)
    check_upstream(dy, (), like)
    return dy


def whole(name: str, value: int) -> int:
    """A size: TypeError unless `value` is a whole number, ValueError unless it is at least 1."""
    if not hasattr(value, "__index__") or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; expected a whole number")
    if value < 1:
        raise ValueError(f"{name} is {value}; expected at least 1")
    return int(value)


def pair(name: str, value: int | tuple[int, int], minimum: int) -> tuple[int, int]:
    """An int or a pair of them -> (vertical, horizontal), each at least `minimum`."""
    both = (value, value) if not isinstance(value, tuple | list) else tuple(value)
    if len(both) != 2 or not all(hasattr(v, "__index__") and not isinstance(v, bool) for v in both):
        raise TypeError(f"{name} is {value!r}; expected a whole number or a pair of them")
    if min(both) < minimum:
        raise ValueError(f"{name} is {value!r}; expected at least {minimum}")
    return int(both[0]), int(both[1])


def whole_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """`shape` as a tuple of plain integers; TypeError for what is no shape, ValueError for a negative size."""
    sizes = tuple(shape) if isinstance(shape, Sequence) else (None,)
    if not all(hasattr(n, "__index__") and not isinstance(n, bool) for n in sizes):
        raise TypeError(f"shape is {shape!r}; expected whole numbers, as in (64, 3, 3, 3)")
    if min(sizes, default=0) < 0:
        raise ValueError(f"shape is {shape!r}; expected sizes of at least 0")
    return tuple(int(n) for n in sizes)


def generator(rng: Rng | None) -> np.random.Generator:
    """A seed -> its generator; a generator -> itself; None -> one seeded by the operating system."""
    if rng is not None and not isinstance(rng, int | np.integer | np.random.Generator):
        raise TypeError(f"rng is {rng!r}; expected a whole number (a seed) or a numpy.random.Generator")
    if isinstance(rng, int | np.integer) and rng < 0:
        raise ValueError(f"rng is {rng}; expected a seed of at least 0")
    return np.random.default_rng(rng)


def check_scale(name: str, value: float) -> None:
    """ValueError unless `value` is a finite number of at least 0."""
    if not (isinstance(value, numbers.Real) and 0 <= value < math.inf):
        raise ValueError(f"{name} is {value!r}; expected a finite number of at least 0")
