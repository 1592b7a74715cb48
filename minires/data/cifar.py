"""CIFAR-10 and CIFAR-100, in the binary version and in the one for Python.

Binary: records of one label byte (CIFAR-100: two, coarse and fine) and 3,072 image bytes, planes R, G, B of 32x32.
For Python: pickles, which can run any code when they are read as usual; `data.pickles` reads them without that.

A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009,
https://www.cs.toronto.edu/~kriz/cifar.html.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .idx import check_labels
from .pickles import PickleRefused, read_pickle
from .split import DataError, Split, hold_out, normalize

IMAGE = 3 * 32 * 32
RECORD = 1 + IMAGE
TRAIN_FILES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST_FILE = "test_batch.bin"

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""ImageNet's, not CIFAR's own (0.491, 0.482, 0.447; 0.247, 0.243, 0.262): most published weights expect them, and a
network trained from scratch does not mind."""

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True)
class Format:
    """One of the two data sets: its files, how many label bytes a record has (the last one counts), and the key of
    the labels in the Python version, whose files have the same names without ".bin"."""

    name: str
    train: tuple[str, ...]
    test: str
    label_bytes: int
    classes: int
    key: str

    @property
    def advice(self) -> str:
        """Where the files are to be had."""
        archive = f"cifar-{self.name.removeprefix('cifar')}-binary.tar.gz"
        return (
            f"the binary version comes with `python -m minires data {self.name}`, or is {archive} from "
            "https://www.cs.toronto.edu/~kriz/cifar.html"
        )


CIFAR10 = Format("cifar10", TRAIN_FILES, TEST_FILE, 1, 10, "labels")
CIFAR100 = Format("cifar100", ("train.bin",), "test.bin", 2, 100, "fine_labels")
FORMATS = {kind.name: kind for kind in (CIFAR10, CIFAR100)}


def read_cifar_file(path: Path, kind: Format = CIFAR10) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (N, 3, 32, 32) and labels int64 (N,) of one file, of however many records.

    Where `path` is not there, its twin of the Python version is read: the same name without ".bin".
    Raises DataError naming file, offset and expectation where it is truncated or has a label that is too high.
    """
    if not path.is_file() and path.with_suffix("").is_file():
        return _read_python_file(path.with_suffix(""), kind)
    try:
        content = np.fromfile(path, np.uint8)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; {kind.advice}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    if len(content) and content[0] == 0x80:  # how a pickle starts; no label is as high
        raise DataError(f"{path}, offset 0: a pickle under another name; expected the binary version: {kind.advice}")
    record = kind.label_bytes + IMAGE
    whole = len(content) // record
    if whole == 0 or len(content) % record:
        raise DataError(
            f"{path}, offset {whole * record}: {len(content) - whole * record} bytes are left; "
            f"expected whole records of {record} bytes, at least one"
        )
    records = content.reshape(whole, record)
    labels = records[:, kind.label_bytes - 1]
    check_labels(path, labels, first=kind.label_bytes - 1, step=record, classes=kind.classes)
    return records[:, kind.label_bytes :].reshape(whole, 3, 32, 32), labels.astype(np.int64)


def _read_python_file(path: Path, kind: Format) -> tuple[np.ndarray, np.ndarray]:
    """One file of the version for Python: a pickled dictionary of `data` (N, 3072) and a list of labels."""
    try:
        found = read_pickle(path.read_bytes())
        batch = {k.decode("latin-1") if isinstance(k, bytes) else k: value for k, value in found.items()}
        images, labels = batch["data"], np.asarray(batch[kind.key])
        if (
            labels.ndim != 1
            or images.shape != (len(labels), IMAGE)
            or labels.dtype.kind not in "iu"
            or len(labels) == 0
        ):
            raise PickleRefused(
                f"images of shape {images.shape}, labels of {labels.shape}; expected (N, {IMAGE}) and (N,)"
            )
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    except PickleRefused as error:
        raise DataError(f"{path}: a pickle that cannot be read safely: {error}; {kind.advice}") from None
    except (KeyError, AttributeError, TypeError, ValueError):
        raise DataError(f"{path}: a pickle without data and {kind.key}, as CIFAR has them; {kind.advice}") from None
    if not 0 <= labels.min() <= labels.max() < kind.classes:
        raise DataError(f"{path}: labels from {labels.min()} to {labels.max()}; expected 0 to {kind.classes - 1}")
    return images.reshape(-1, 3, 32, 32), labels.astype(np.int64)


def load_cifar(folder: Path, kind: Format, held_out: int | None = None) -> Split:
    """The training files and the test file in `folder`; x is (N, 3, 32, 32), normalized by `MEAN` and `STD`.

    held_out: hold so many of the training images out (the paper: 5,000) and leave the test file alone.
    """
    parts = [read_cifar_file(folder / name, kind) for name in kind.train]
    x = normalize(np.concatenate([images for images, _ in parts]), MEAN, STD)
    y = np.concatenate([labels for _, labels in parts])
    if held_out is not None:
        return hold_out(x, y, held_out)
    return Split(x, y, *load_cifar_test(folder, kind))


def load_cifar_test(folder: Path, kind: Format) -> tuple[np.ndarray, np.ndarray]:
    """The test file's images, normalized like the others, and its labels."""
    images, labels = read_cifar_file(folder / kind.test, kind)
    return normalize(images, MEAN, STD), labels


def load_cifar10(folder: Path, held_out: int | None = None) -> Split:
    """`load_cifar` of CIFAR-10."""
    return load_cifar(folder, CIFAR10, held_out)


def load_cifar10_test(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """`load_cifar_test` of CIFAR-10."""
    return load_cifar_test(folder, CIFAR10)
