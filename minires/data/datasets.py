"""Data sets by name: where their files are looked for, and how they are loaded."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from .cifar import load_cifar10
from .digits import load_digits
from .idx import load_idx
from .split import DataError, Split, hold_out

FOLDERS: dict[str, tuple[str, ...]] = {
    "mnist": ("mnist",),
    "fashion": ("fashion", "fashion-mnist"),
    "cifar10": ("cifar10", "cifar-10-batches-bin"),
}
"""Data sets that are files, and the subfolders they may lie in; the first is where they are downloaded to."""

NAMES = ("digits", *FOLDERS)

_LOADERS: dict[str, Callable[[Path, int | None], Split]] = {
    "mnist": lambda folder, held_out: load_idx(folder, 0.1307, 0.3081, held_out),
    "fashion": lambda folder, held_out: load_idx(folder, 0.2860, 0.3530, held_out),
    "cifar10": load_cifar10,
}


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
    return _LOADERS[name](find(name, data_dir), held_out)


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
