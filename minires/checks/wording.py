"""How a check words what it was given, in a few words."""

from __future__ import annotations

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


def shown(value: object) -> str:
    """`in_short`, but short tuples and lists of plain values as they are."""
    plain = isinstance(value, tuple | list) and all(isinstance(v, int | float | str) for v in value)
    return f"{value!r:.60}" if plain else in_short(value)
