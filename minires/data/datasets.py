"""Data sets by name: where their files are looked for, and how they are loaded."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np

from .cifar import load_cifar10, load_cifar10_test
from .digits import load_digits
from .idx import load_idx, load_idx_part
from .split import DataError, Split, hold_out

FOLDERS: dict[str, tuple[str, ...]] = {
    "mnist": ("mnist",),
    "fashion": ("fashion", "fashion-mnist"),
    "cifar10": ("cifar10", "cifar-10-batches-bin"),
}
"""Data sets that are files, and the subfolders they may lie in; the first is where they are downloaded to."""

NAMES = ("digits", *FOLDERS)

PIXELS = {"mnist": (0.1307, 0.3081), "fashion": (0.2860, 0.3530)}
"""Mean and standard deviation of the training images' pixels, scaled to [0, 1]."""


def load(name: str, data_dir: Path | None = None, held_out: int | None = None) -> Split:
    """The data set `name` (one of `NAMES`), from `data_dir` or else from where `find` looks.

    held_out: test on so many of the training images instead of the test files.
    Raises DataError where the files are missing or wrong, ValueError for an unknown name.
    """
    if name not in NAMES:
        raise ValueError(f"name is {name!r}; expected one of {', '.join(NAMES)}")
    if name == "digits":
        split = load_digits()
        return split if held_out is None else hold_out(split.x_train, split.y_train, held_out)
    folder = find(name, data_dir)
    return load_cifar10(folder, held_out) if name == "cifar10" else load_idx(folder, *PIXELS[name], held_out)


def load_test(name: str, data_dir: Path | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The test images and labels of `name` alone, for which the training files need not be there. Errors as `load`."""
    if name == "digits":
        return load_digits()[2:]
    folder = find(name, data_dir)
    return load_cifar10_test(folder) if name == "cifar10" else load_idx_part(folder, "t10k", *PIXELS[name])


def recognize(folder: Path) -> str:
    """The name of the data set whose files lie in `folder`. (MNIST and Fashion-MNIST differ by the folder's name.)

    Raises DataError where there are none.
    """
    if _holds(folder, "cifar10"):
        return "cifar10"
    if _holds(folder, "mnist"):
        return "fashion" if "fashion" in folder.resolve().name.lower() else "mnist"
    raise DataError(f"{folder}: holds the files of no data set that minires knows ({', '.join(FOLDERS)})")


def find(name: str, data_dir: Path | None = None) -> Path:
    """The folder with the files of `name`: `data_dir`, $MINIRES_DATA or the user's cache, or a subfolder of it.

    Raises DataError, saying where it looked and how to get the files, where there is none.
    """
    root = data_root(data_dir)
    for folder in (root, *(root / sub for sub in FOLDERS[name])):
        if _holds(folder, name):
            return folder
    raise DataError(
        f"{name}: no files of it in {root} (nor in its {' or '.join(FOLDERS[name])}); `python -m minires data {name}` "
        "downloads them, --data-dir or MINIRES_DATA says where else they are"
    )


def data_root(data_dir: Path | None = None) -> Path:
    """`data_dir`, or $MINIRES_DATA, or `minires` in the folder where this system keeps caches."""
    if data_dir is not None:
        return Path(data_dir)
    if os.environ.get("MINIRES_DATA"):
        return Path(os.environ["MINIRES_DATA"])
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "minires"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "minires"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "minires"


def _holds(folder: Path, name: str) -> bool:
    """Whether any file there looks like the data set's; pickled CIFAR counts, so that it is refused by name."""
    patterns = ("data_batch_*", "test_batch*") if name == "cifar10" else ("*-idx3-ubyte*", "*-idx3.ubyte*")
    return any(path.is_file() for pattern in patterns for path in folder.glob(pattern))
