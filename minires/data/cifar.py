"""CIFAR-10 in its binary version: records of one label byte and 3,072 image bytes (planes R, G, B of 32x32).

A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009,
https://www.cs.toronto.edu/~kriz/cifar.html. The distribution "for Python" is made of pickles, which can run any
code when they are read; minires does not read it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .idx import check_labels
from .split import DataError, Split, hold_out, normalize

RECORD = 1 + 3 * 32 * 32
TRAIN_FILES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST_FILE = "test_batch.bin"

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""ImageNet's, not CIFAR's own (0.491, 0.482, 0.447; 0.247, 0.243, 0.262): most published weights expect them, and a
network trained from scratch does not mind."""

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def read_cifar_file(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (N, 3, 32, 32) and labels int64 (N,) of one file, of however many records.

    Raises DataError naming file, offset and expectation where it is pickled, truncated, or has a label above 9.
    """
    try:
        content = np.fromfile(path, np.uint8)
    except FileNotFoundError:
        _refuse_pickles(path.parent)
        raise DataError(f"{path}: no such file") from None
    if len(content) and content[0] == 0x80:  # how a pickle starts; a label is 0 to 9
        _refuse_pickles(path.parent, path)
    whole = len(content) // RECORD
    if whole == 0 or len(content) % RECORD:
        raise DataError(
            f"{path}, offset {whole * RECORD}: {len(content) - whole * RECORD} bytes are left; "
            f"expected whole records of {RECORD} bytes, at least one"
        )
    records = content.reshape(whole, RECORD)
    check_labels(path, records[:, 0], first=0, step=RECORD)
    return records[:, 1:].reshape(whole, 3, 32, 32), records[:, 0].astype(np.int64)


def load_cifar10(folder: Path, held_out: int | None = None) -> Split:
    """The five training files and the test file in `folder`; x is (N, 3, 32, 32), normalized by `MEAN` and `STD`.

    held_out: hold so many of the training images out (the paper: 5,000) and leave the test file alone.
    """
    parts = [read_cifar_file(folder / name) for name in TRAIN_FILES]
    x = normalize(np.concatenate([images for images, _ in parts]), MEAN, STD)
    y = np.concatenate([labels for _, labels in parts])
    if held_out is not None:
        return hold_out(x, y, held_out)
    return Split(x, y, *load_cifar10_test(folder))


def load_cifar10_test(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The test file's images, normalized like the others, and its labels."""
    images, labels = read_cifar_file(folder / TEST_FILE)
    return normalize(images, MEAN, STD), labels


def _refuse_pickles(folder: Path, path: Path | None = None) -> None:
    path = path or next(iter(sorted(folder.glob("data_batch_[1-5]")) + sorted(folder.glob("test_batch"))), None)
    if path is not None:
        raise DataError(
            f"{path}, offset 0: a pickle, which can run any code when it is read, so it is not; expected the binary "
            "version: `python -m minires data cifar10`, or cifar-10-binary.tar.gz from "
            "https://www.cs.toronto.edu/~kriz/cifar.html"
        )
