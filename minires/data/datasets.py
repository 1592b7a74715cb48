"""Data sets by name: where their files are looked for, and how they are loaded."""

from __future__ import annotations

import os
import re
import sys
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from .cifar import FORMATS, load_cifar, load_cifar_test
from .digits import load_digits
from .idx import holds_idx, load_idx, load_idx_part
from .images import classes_in, holds_images, load_images
from .split import DataError, Split, hold_out

FOLDERS: dict[str, tuple[str, ...]] = {
    "mnist": ("mnist", "MNIST", "MNIST/raw"),
    "fashion": ("fashion", "fashion-mnist", "FashionMNIST", "FashionMNIST/raw"),
    "cifar10": ("cifar10", "cifar-10-batches-bin", "cifar-10-batches-py"),
    "cifar100": ("cifar100", "cifar-100-binary", "cifar-100-python"),
}
"""Data sets that are files, and the subfolders they may lie in (torchvision's and the archives' own are among them);
the first is where they are downloaded to."""

WRAPPERS = {
    "cifar10": ("archive", "cifar-10-binary", "cifar-10-python"),
    "cifar100": ("archive", "cifar-100-binary", "cifar-100-python"),
}
"""Folders that unpacking puts around those: "archive" for everything from Kaggle, others named as their archive is."""

ARCHIVES = (".tar.gz", ".tgz", ".tar", ".zip", ".rar", ".7z")
UNREAD = (".npz", ".npy", ".csv", ".pkl", ".pkl.gz", ".parquet", ".h5", ".mat")
"""Endings of files that are worth a word where a data set is missing: to be unpacked, or of other formats."""

NAMES = ("digits", *FOLDERS)

PIXELS = {"mnist": (0.1307, 0.3081), "fashion": (0.2860, 0.3530)}
"""Mean and standard deviation of the training images' pixels, scaled to [0, 1]."""


def load(name: str | os.PathLike[str], data_dir: Path | None = None, held_out: int | None = None) -> Split:
    """The data set `name`: one of `NAMES`, from `data_dir` or else from where `find` looks; or what a folder holds,
    the files of one of them or pictures, one folder a class (`data.images`).

    held_out: test on so many of the training images instead of the test files.
    Raises DataError where the files are missing or wrong, ValueError for an unknown name.
    """
    name, folder = locate(name, data_dir)
    if name == "digits":
        split = load_digits()
        return split if held_out is None else hold_out(split.x_train, split.y_train, held_out)
    if name in FORMATS:
        return load_cifar(folder, FORMATS[name], held_out)
    return load_idx(folder, *PIXELS[name], held_out) if name in PIXELS else load_images(folder, held_out)


def load_test(name: str | os.PathLike[str], data_dir: Path | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The test images and labels of `name` alone, for which the training files need not be there. Errors as `load`."""
    name, folder = locate(name, data_dir)
    if name in FORMATS:
        return load_cifar_test(folder, FORMATS[name])
    return load_idx_part(folder, "t10k", *PIXELS[name]) if name in PIXELS else load(folder or name)[2:]


def locate(name: str | os.PathLike[str], data_dir: Path | None = None) -> tuple[str, Path | None]:
    """(one of `NAMES` or "images", the folder of its files) for a name or for a folder itself; no folder for digits.

    Raises DataError where there are no files, ValueError for what is neither a name nor a folder.
    """
    if not isinstance(name, str | os.PathLike) or not str(name) or "\0" in str(name):
        raise ValueError(f"name is {name!r:.60}; expected one of {', '.join(NAMES)}, or a folder")
    if not isinstance(data_dir, str | os.PathLike | None):
        raise TypeError(f"data_dir is a {type(data_dir).__name__}; expected a folder")
    if "\0" in str(data_dir):
        raise ValueError(f"data_dir is {str(data_dir)!r:.60}; expected a folder")
    text = str(name)
    if text == "digits":
        return "digits", None
    if text in FOLDERS:
        return text, find(text, data_dir)
    if len(text) > 1000 or not Path(name).is_dir():
        close = get_close_matches(re.sub("[^a-z0-9]", "", text.lower()), NAMES, 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"name is {text!r:.60}; expected one of {', '.join(NAMES)}, or a folder{hint}")
    known = recognize(Path(name))
    return known, Path(name) if known == "images" else find(known, Path(name))


def count_classes(name: str | os.PathLike[str], data_dir: Path | None = None) -> int:
    """How many classes the data set has, be they all among its images or not. Errors as `load`."""
    name, folder = locate(name, data_dir)
    if name == "images":
        return len(classes_in(folder))
    return FORMATS[name].classes if name in FORMATS else 10


def recognize(folder: Path) -> str:
    """The name of the data set whose files lie in `folder`, or "images" for pictures, one folder a class.

    (MNIST and Fashion-MNIST differ by the name of the folder, or of the one above.) Raises DataError where there are
    none.
    """
    for name in ("cifar10", "cifar100"):
        if _place(folder, name):
            return name
    for name in ("fashion", "mnist"):
        if any(holds_idx(folder / sub) for sub in FOLDERS[name]):
            return name
    if holds_idx(folder) or holds_idx(folder / "raw"):
        return "fashion" if "fashion" in "/".join(folder.resolve().parts[-2:]).lower() else "mnist"
    if holds_images(folder):
        return "images"
    inside = [sub for sub in folder.iterdir() if sub.is_dir() and holds_images(sub)]
    hint = f"; {inside[0]} does" if inside else ""
    raise DataError(
        f"{folder}: {_other_files(folder)}holds the files of no data set that minires knows ({', '.join(FOLDERS)}), "
        f"and no folders of pictures, one a class{hint}"
    )


def find(name: str, data_dir: Path | None = None) -> Path:
    """The folder with the files of `name`: `data_dir`, $MINIRES_DATA or the user's cache, or a subfolder of it.

    Raises DataError, saying where it looked and how to get the files, where there is none.
    """
    root = data_root(data_dir)
    folder = _place(root, name)
    if folder is None:
        raise DataError(
            f"{name}: no files of it in {root} (nor in its {', '.join(FOLDERS[name])}); {_other_files(root)}"
            f"`python -m minires data {name}` downloads them, --data-dir or MINIRES_DATA says where else they are"
        )
    return folder


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


def _place(root: Path, name: str) -> Path | None:
    """`root` or the subfolder of it that has the files of `name`."""
    subfolders = ("", *FOLDERS[name]) if name in FORMATS else ("", "raw", *FOLDERS[name])
    wrappers = ("", *WRAPPERS.get(name, ("archive",)))
    return next((f for wrapper in wrappers for sub in subfolders if _holds(f := root / wrapper / sub, name)), None)


def _other_files(root: Path) -> str:
    """What else lies in the folder and may be meant, as the beginning of a sentence; empty where there is nothing."""
    try:
        names = sorted(path.name for path in root.iterdir() if path.is_file())
    except OSError:
        return ""
    for endings, advice in ((ARCHIVES, "which has to be unpacked there"), (UNREAD, "a format that is not read")):
        found = [name for name in names if name.lower().endswith(endings)]
        if found:
            return f"it holds {found[0]}, {advice}; "
    return ""


def _holds(folder: Path, name: str) -> bool:
    """Whether any file there looks like the data set's, in CIFAR's case in the binary version or in Python's."""
    if name not in FORMATS:
        return holds_idx(folder)
    files = [folder / file for file in (*FORMATS[name].train, FORMATS[name].test)]
    if name == "cifar100" and not any(file.is_file() for file in files):  # "train" and "test" are no names to go by
        return all(file.with_suffix("").is_file() for file in files)
    return any(path.is_file() for file in files for path in (file, file.with_suffix("")))
