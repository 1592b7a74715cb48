"""1,797 handwritten digits of 8x8 pixels, kept inside the package (45 KB): real data without a download.

Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository,
1998, https://doi.org/10.24432/C50P49, CC BY 4.0. These are the images of its test part, as scikit-learn ships them;
`digits.LICENSE.txt` beside the file says what was changed (the format alone).
"""

from __future__ import annotations

from importlib.resources import files

import numpy as np

from .split import Split, held_out, normalize

TOP = 16
"""Pixels count the dark points of a 4x4 cell: 0 to 16."""


def load_digits() -> Split:
    """The digits: 1,442 images to train on and 355 held out, every fifth of each class; x is (N, 1, 8, 8).

    The split is always the same. Pixels are scaled to mean 0 and variance 1 over the training images.
    """
    with (files(__package__) / "digits.npz").open("rb") as file, np.load(file, allow_pickle=False) as stored:
        images, labels = stored["images"][:, None], stored["labels"].astype(np.int64)
    test = held_out(labels, every=5)
    train_pixels = images[~test] / TOP
    x = normalize(images, [train_pixels.mean()], [train_pixels.std()], TOP)
    return Split(x[~test], labels[~test], x[test], labels[test])
