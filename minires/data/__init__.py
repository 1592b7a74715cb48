"""Data sets and batches. Every loader returns a `Split(x_train, y_train, x_test, y_test)`."""

from .batches import Augmentation, batches, count_batches
from .cifar import load_cifar10, load_cifar10_test
from .datasets import NAMES, count_classes, data_root, find, load, load_test, recognize
from .digits import load_digits
from .images import load_images
from .split import DataError, Split, hold_out, normalize

__all__ = [
    "NAMES",
    "Augmentation",
    "DataError",
    "Split",
    "batches",
    "count_batches",
    "count_classes",
    "data_root",
    "find",
    "hold_out",
    "load",
    "load_cifar10",
    "load_cifar10_test",
    "load_digits",
    "load_images",
    "load_test",
    "normalize",
    "recognize",
]
