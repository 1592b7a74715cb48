"""What every data set becomes: images scaled for training, labels, and the part that is held out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from minires.backend import array_namespace
from minires.checks import check_number, check_whole


class DataError(ValueError):
    """A data file that is missing, damaged or not what its name says. The text names file, offset, expectation."""


class Split(NamedTuple):
    """Images float32 (N, C, H, W), about zero mean and unit variance a channel; labels int64 (N,), from 0."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


def normalize(images: np.ndarray, mean: Sequence[float], std: Sequence[float], top: int = 255) -> np.ndarray:
    """`(images / top - mean) / std` for each channel: uint8 (N, C, H, W) -> float32 of the same shape.

    `mean` and `std` are one number a channel, of pixels scaled to [0, 1].
    """
    per_channel = (1, -1, 1, 1)
    if getattr(images, "ndim", 0) != 4:
        raise TypeError(f"images is {getattr(images, 'shape', type(images).__name__)}; expected an array (N, C, H, W)")
    array_namespace(images)
    if images.dtype.kind not in "iu":
        raise TypeError(f"images has dtype {images.dtype}; expected whole numbers from 0 to top")
    channels = images.shape[1]
    for name, values in (("mean", mean), ("std", std)):
        try:
            numbers = np.asarray(values, float)
        except (TypeError, ValueError):
            numbers = np.empty(0)
        if numbers.shape not in ((channels,), (1,)) or not np.isfinite(numbers).all():
            raise ValueError(f"{name} is {values!r:.60}; expected one number for each of {channels} channels")
    if not (np.asarray(std, float) > 0).all() or not check_number("top", top, 0) > 0:
        raise ValueError(f"std is {std!r:.60} and top {top!r:.20}; expected numbers above 0")
    if images.size and (images.min() < 0 or images.max() > top):
        raise ValueError(f"images holds {images.min()} to {images.max()}; expected 0 to top, which is {top}")
    scale = (1 / (top * np.asarray(std))).astype(np.float32).reshape(per_channel)
    shift = (np.asarray(mean) / np.asarray(std)).astype(np.float32).reshape(per_channel)
    scaled = images * scale
    scaled -= shift  # in place: the images are the largest thing in memory
    return scaled


def held_out(labels: np.ndarray, every: int) -> np.ndarray:
    """A boolean mask of a stratified part: of each class, in the order given, the last of each `every` images.

    No seed is involved, so the part is the same for everybody, and it has `1 / every` of every class.
    """
    mask = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        mask[np.flatnonzero(labels == label)[every - 1 :: every]] = True
    return mask


def hold_out(x: np.ndarray, y: np.ndarray, count: int, seed: int = 0) -> Split:
    """Hold `count` of the images (N, C, H, W) out for testing, drawn by `seed`, each class in proportion.

    Raises ValueError where `count` leaves nothing to train or to test on.
    """
    check_whole("count", count, 1)
    check_whole("seed", seed, 0)
    for name, array in (("x", x), ("y", y)):
        if isinstance(array, type) or not isinstance(getattr(array, "shape", None), tuple) or not array.shape:
            raise TypeError(f"{name} is a {type(array).__name__}; expected an array, as from np.asarray")
        array_namespace(array)
    if y.shape != x.shape[:1]:
        raise ValueError(f"x has shape {x.shape} and y {y.shape}; expected one label for each image")
    if not 0 < count < len(y):
        raise ValueError(f"count is {count}; of {len(y)} images between 1 and {len(y) - 1} can be held out")
    order = np.random.default_rng(seed).permutation(len(y))
    rank = np.empty(len(y))  # each image's place within its class, from 0 to 1: the first `count` are held out
    for label in np.unique(y):
        members = order[y[order] == label]
        rank[members] = (np.arange(len(members)) + 0.5) / len(members)
    chosen = np.zeros(len(y), dtype=bool)
    chosen[np.argsort(rank, kind="stable")[:count]] = True
    return Split(x[~chosen], y[~chosen], x[chosen], y[chosen])
