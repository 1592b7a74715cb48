"""The numbers that the lessons step through: small, real where they can be, and easy to check by head."""

from __future__ import annotations

from importlib.resources import files

import numpy as np


def digit(label: int) -> np.ndarray:
    """The first handwritten digit of that label, (1, 1, 8, 8): how many of 16 dark points each pixel has."""
    with (files("minires.data") / "digits.npz").open("rb") as file, np.load(file, allow_pickle=False) as stored:
        images, labels = stored["images"], stored["labels"]
    return images[labels == label][:1, None].astype(np.float64)
