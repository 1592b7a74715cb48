"""Settings of any call: flags, choices, seeds, dtypes, names of initializers."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np

from minires.backend import FLOATS
from minires.checks.operations import COMPUTED, plain_index
from minires.checks.wording import in_short

Rng = int | np.random.Generator
"""Where random numbers come from: a seed, or a generator that goes on from where it is."""


def generator(rng: Rng | None) -> np.random.Generator:
    """A seed -> its generator; a generator -> itself; None -> one seeded by the operating system."""
    if isinstance(rng, bool) or not isinstance(rng, int | np.integer | np.random.Generator | None):
        raise TypeError(f"rng is {in_short(rng)}; expected a whole number (a seed) or a numpy.random.Generator")
    if isinstance(rng, int | np.integer) and rng < 0:
        raise ValueError(f"rng is {rng}; expected a seed of at least 0")
    return np.random.default_rng(rng)


def check_whole(name: str, value: int, least: int) -> int:
    """TypeError unless `value` is a whole number, ValueError unless it is at least `least`; of any length."""
    number = plain_index(value)
    if number is None:
        raise TypeError(f"{name} is {in_short(value)}; expected a whole number")
    if number < least:
        raise ValueError(f"{name} is {number}; expected at least {least}")
    return number


def flag(name: str, value: bool) -> bool:
    """TypeError unless `value` is True or False."""
    if not isinstance(value, bool | np.bool_) and not (isinstance(value, int) and value in (0, 1)):
        raise TypeError(f"{name} is {in_short(value)}; expected True or False")
    return bool(value)


def choice(name: str, value: Any, choices: Sequence[Any]) -> Any:
    """ValueError unless `value` is one of the choices."""
    if not isinstance(value, str | int | None) or value not in choices:
        raise ValueError(f"{name} is {in_short(value)}; expected {' or '.join(map(repr, choices))}")
    return value


def check_scale(name: str, value: float) -> None:
    """ValueError unless `value` is a finite number of at least 0."""
    if not (isinstance(value, numbers.Real) and 0 <= value < math.inf):
        raise ValueError(f"{name} is {in_short(value)}; expected a finite number of at least 0")


def check_dtype(dtype: object) -> np.dtype:
    """`dtype` as NumPy's; TypeError unless the engine computes in it."""
    try:
        found = np.dtype(dtype) if isinstance(dtype, str | type | np.dtype) else None
    except (TypeError, ValueError):
        found = None
    if found not in COMPUTED:
        raise TypeError(f"dtype is {found or in_short(dtype)}; expected {', '.join(FLOATS)}")
    return found


def named(what: str, value: Any, known: Mapping[str, Any], method: str) -> Any:
    """What `value` stands for: itself if it has `method`, an object of known[...] if it is its name."""
    if isinstance(value, str):
        key = value.replace("_", "").lower()
        if key not in known:
            close = get_close_matches(key, known, 1)
            hint = (
                f"did you mean {close[0]!r}?" if close else "expected a name such as 'he_normal', 'zeros', 'orthogonal'"
            )
            raise ValueError(f"unknown {what} {value!r:.60}; {hint}")
        return known[key]()
    if isinstance(value, type) or not hasattr(value, method):
        raise TypeError(f"the {what} is {in_short(value)}; expected an object or a name, as HeNormal() or 'he_normal'")
    return value
