"""MNIST and Fashion-MNIST: the IDX format, gzipped or not.

An IDX file is: two zero bytes, the type of the values (8: unsigned bytes, the only one used here), the number of
dimensions, each dimension as a big-endian 32-bit integer, then the values.
"""

from __future__ import annotations

import gzip
import math
import re
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .split import DataError, Split, hold_out, normalize

LARGEST = 1 << 30
"""Bytes of values a file may claim to hold: twenty times MNIST. More is damage, and refused before it is read."""

MOST_INFLATION, ALWAYS_ALLOWED = 20, 1 << 26
"""How many times its own size a gzipped file may unpack to (MNIST: 5), and bytes that none is refused for."""


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """The values of an IDX file of unsigned bytes with so many dimensions: uint8 of the shape its header gives.

    Raises DataError naming file, offset and expectation for a wrong header, a truncated and an overlong file.
    """
    try:
        with path.open("rb") as start:
            gzipped = start.read(2) == b"\x1f\x8b"
        unpacked = max(ALWAYS_ALLOWED, MOST_INFLATION * path.stat().st_size)
        with gzip.open(path) if gzipped else path.open("rb") as file:
            return _read_values(file, path, dimensions, min(LARGEST, unpacked) if gzipped else LARGEST)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: damaged gzip file ({error})") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None


def _read_values(file: BinaryIO, path: Path, dimensions: int, most: int) -> np.ndarray:
    header = 4 + 4 * dimensions
    start = file.read(header)
    expected = bytes([0, 0, 8, dimensions])
    if start[:4] != expected:
        raise DataError(f"{path}, offset 0: starts with {start[:4].hex(' ')}; expected {expected.hex(' ')} (IDX)")
    if len(start) < header:
        raise DataError(f"{path}, offset {len(start)}: ends within its header; expected {header} bytes of it")
    shape = tuple(int.from_bytes(start[at : at + 4], "big") for at in range(4, header, 4))
    size = math.prod(shape)
    if not 0 < size <= most:
        raise DataError(
            f"{path}, offset 4: claims the shape {shape}; expected 1 to {most} values in a file of its size"
        )
    values = bytearray()
    while len(values) < size and (chunk := file.read(min(1 << 20, size - len(values)))):
        values += chunk
    if len(values) < size:
        raise DataError(
            f"{path}, offset {header + len(values)}: ends early; expected {header + size} bytes for {shape}"
        )
    if file.read(1):
        raise DataError(f"{path}, offset {header + size}: goes on; expected its end, for the shape {shape}")
    return np.frombuffer(values, np.uint8).reshape(shape)


def read_labeled(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (N, 1, H, W) and labels int64 (N,) of `part`: "train" or "t10k".

    Raises DataError for what `read_idx` refuses, for a missing file, unequal numbers, and labels other than 0 to 9.
    """
    images_path, labels_path = (_existing(folder, f"{part}-{kind}") for kind in ("images-idx3", "labels-idx1"))
    images, labels = read_idx(images_path, 3), read_idx(labels_path, 1)
    if len(images) != len(labels):
        raise DataError(f"{labels_path}, offset 4: {len(labels)} labels; expected {len(images)}, as {images_path} has")
    check_labels(labels_path, labels, first=8, step=1)
    return images[:, None], labels.astype(np.int64)


def check_labels(path: Path, labels: np.ndarray, first: int, step: int, classes: int = 10) -> None:
    """Raise DataError for a label of `classes` or more; label i stands in the file at offset `first + step * i`."""
    wrong = np.flatnonzero(labels >= classes)
    if len(wrong):
        at = int(wrong[0])
        raise DataError(f"{path}, offset {first + step * at}: label {labels[at]}; expected 0 to {classes - 1}")


def load_idx(folder: Path, mean: float, std: float, held_out: int | None = None) -> Split:
    """The training and test files in `folder`; x is (N, 1, 28, 28).

    held_out: hold so many of the training images out and leave the test files alone; where only the test files are
    there, they are what is divided.
    """
    if held_out is None:
        split = Split(*load_idx_part(folder, "train", mean, std), *load_idx_part(folder, "t10k", mean, std))
        if split.x_train.shape[1:] != split.x_test.shape[1:]:
            sizes = [f"{x.shape[2]}x{x.shape[3]}" for x in (split.x_train, split.x_test)]
            raise DataError(f"{folder}: training images of {sizes[0]} and test images of {sizes[1]}; expected one size")
        return split
    part = "train" if _found(folder, "train-images-idx3") else "t10k"
    return hold_out(*load_idx_part(folder, part, mean, std), held_out)


def load_idx_part(folder: Path, part: str, mean: float, std: float) -> tuple[np.ndarray, np.ndarray]:
    """`read_labeled` with the images normalized: float32."""
    images, labels = read_labeled(folder, part)
    return normalize(images, [mean], [std]), labels


def holds_idx(folder: Path) -> bool:
    """Whether training or test images lie in `folder`."""
    return any(_found(folder, f"{part}-images-idx3") for part in ("train", "t10k"))


def _found(folder: Path, stem: str) -> Path | None:
    """The file of that stem under the names in use: "-" or "." on both sides of "idx3", in any case, gzipped or not.

    Kaggle puts each file into a folder of the file's own name, where it is found, too. Unpacked files come first.
    """
    name = re.compile(f"{stem.replace('-idx', '[-.]idx')}[-.]ubyte(.gz)?", re.IGNORECASE)
    candidates = sorted((path for path in _listed(folder) if name.fullmatch(path.name)), key=lambda path: path.suffix)
    inside = (path / path.name if path.is_dir() else path for path in candidates)
    return next((path for path in inside if path.is_file()), None)


def _listed(folder: Path) -> list[Path]:
    """What is in `folder`; nothing where it is no folder or cannot be read."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _existing(folder: Path, stem: str) -> Path:
    path = _found(folder, stem)
    if path is None:
        raise DataError(f"{folder / stem}-ubyte.gz: no such file, unpacked or not")
    return path
