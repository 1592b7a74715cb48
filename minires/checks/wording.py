"""What a check was given: in a few words, and whether it is a function of what it will be called with."""

from __future__ import annotations

from inspect import signature

import numpy as np


def in_short(value: object) -> str:
    """What an argument was, in a few words: a plain value as it is, a class as one, everything else by its kind."""
    if isinstance(value, type):
        return f"the class {value.__name__}, not an object of it"
    if type(value).__module__.partition(".")[0] == "torch" and hasattr(value, "detach"):
        return "a PyTorch tensor (.detach().numpy() makes an array of it)"
    if value is None or isinstance(value, bool | int | float | str | np.number):
        return f"{value!r:.60}" if not isinstance(value, np.number) else str(value)
    return f"an array of shape {value.shape}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"


def takes(function: object, *arguments: object) -> bool:
    """Whether it is a function of these arguments. A class is none, nor a layer: PyTorch's take whatever comes."""
    if not callable(function) or isinstance(function, type) or hasattr(function, "forward"):
        return False
    try:
        signature(function).bind(*arguments)
    except TypeError:
        return False
    except ValueError:  # a function in C that does not say what it takes
        pass
    return True


def shown(value: object) -> str:
    """`in_short`, but short tuples and lists of plain values as they are."""
    plain = isinstance(value, tuple | list) and all(isinstance(v, int | float | str) for v in value)
    return f"{value!r:.60}" if plain else in_short(value)
