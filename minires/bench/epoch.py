"""One epoch of resnet20 on images shaped like CIFAR-10's: how long it will take, said early, and how long it took."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from minires import nn
from minires.data import Augmentation, Split
from minires.data.batches import batches, count_batches
from minires.train import Progress, fit

IMAGES, BATCH, AFTER = 50_000, 128, 20
"""A CIFAR-10 epoch; the time it will take is foretold after so many steps."""

WARM_UP = 2
"""Steps left out of the forecast: memory and threads are new in them."""


@dataclass(frozen=True)
class Epoch:
    """Seconds for the epoch's steps as foretold and as measured, and for its batches alone (shuffle, crop, flip)."""

    images: int
    steps: int
    expected: float
    measured: float
    loading: float

    @property
    def error(self) -> float:
        """How far the forecast was off, as a share of the measured time."""
        return abs(self.expected - self.measured) / self.measured


def run_epoch(
    images: int = IMAGES, *, device: str, seed: int, report: Callable[[int, int, float | None], None]
) -> Epoch:
    """Trains for one epoch on random images. `report(step, steps, expected)`: None until there is a forecast."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((images, 3, 32, 32), dtype=np.float32)
    y = rng.integers(0, 10, images)
    augmentation = Augmentation(pad=4, flip=True)
    steps = count_batches(images, BATCH)
    ends: list[float] = []
    expected: float | None = None

    def after_step(progress: Progress) -> None:
        nonlocal expected
        if progress.row is not None:  # the epoch's end, told once more after the test
            return
        ends.append(time.perf_counter())
        if len(ends) == AFTER:
            per_step = float(np.median(np.diff(ends[WARM_UP:])))
            expected = ends[-1] - start + (images / BATCH - AFTER) * per_step
        report(len(ends), steps, expected)

    start = time.perf_counter()
    data = Split(x, y, x[:BATCH], y[:BATCH])
    settings = {"epochs": 1, "batch_size": BATCH, "seed": seed, "augmentation": augmentation, "device": device}
    fit(nn.resnet20(rng=seed), data, **settings, compile=True, report=after_step)
    measured = ends[-1] - start
    return Epoch(images, steps, expected or measured, measured, _loading(x, y, augmentation, seed))


def _loading(x: np.ndarray, y: np.ndarray, augmentation: Augmentation, seed: int) -> float:
    """Seconds for an epoch's batches alone; measured on a tenth of them."""
    steps = count_batches(len(x), BATCH)
    part = max(1, steps // 10)
    start = time.perf_counter()
    for _, _ in zip(range(part), batches(x, y, BATCH, seed=seed, augmentation=augmentation), strict=False):
        pass
    return (time.perf_counter() - start) * steps / part
