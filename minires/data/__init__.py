"""Data sets and batches. Every loader returns a `Split(x_train, y_train, x_test, y_test)`."""

from .batches import Augmentation, batches, count_batches
from .digits import load_digits
from .split import DataError, Split, hold_out, normalize

__all__ = [
    "Augmentation",
    "DataError",
    "Split",
    "batches",
    "count_batches",
    "hold_out",
    "load_digits",
    "normalize",
]
