"""A folder of pictures, one folder a class: what a student has. PNG, JPEG and the like, through Pillow (extra `data`).

    photos/cat/1.jpg, photos/cat/2.jpg, photos/dog/1.jpg, ...                     every fifth picture of a class tests
    photos/train/cat/1.jpg, ..., photos/test/cat/9.jpg, ... (or val, valid)       the folders say which

Classes are numbered in the order of their folders' names. Pictures of one size that is at most `LARGEST` are taken as
they are; others are scaled so that they cover a square of `SIDE` pixels, and its middle is cut out. Where all of them
are gray, images have one channel, otherwise three. What is transparent shows white: the hidden colors under it, often
black all over, are not what anybody sees.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .cifar import MEAN, STD
from .split import DataError, Split, held_out, hold_out, normalize

ENDINGS = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".tga")
SELDOM_READ = (".jp2", ".avif", ".heic", ".heif", ".jxl", ".svg", ".psd", ".dng", ".cr2", ".nef")
"""Pictures too, which not every Pillow reads, or none: they are named, not passed over."""

SIDE, LARGEST = 32, 64
TRAIN, TEST = ("train", "training"), ("test", "val", "valid", "validation")
EVERY = 5
MOST_PIXELS, MOST_VALUES = 50_000_000, 1 << 30
"""Pixels of one picture before it is scaled, and values of all of them after it: more is refused before it is read."""

GRAY_MEAN, GRAY_STD = (0.5,), (0.25,)


class Picture(NamedTuple):
    """A file, and the number of its class."""

    path: Path
    label: int


def holds_images(folder: Path) -> bool:
    """Whether `folder`, or its training or test part, has folders with pictures in them."""
    return any(_classes(part) for part in (folder, *_parts(folder)) if part is not None)


def classes_in(folder: Path) -> list[str]:
    """The names of the classes in `folder`, in the order of their numbers."""
    return _classes(_parts(folder)[0] or folder)


def load_images(folder: Path, count: int | None = None) -> Split:
    """The pictures in `folder`: x float32 (N, C, H, W), y int64 (N,).

    count: hold so many of the training images out instead of taking the folder's own test part.
    Raises DataError for fewer than two classes or two pictures of one, for a picture that cannot be read, and where
    Pillow is not installed.
    """
    train, test = _parts(folder)
    names = classes_in(folder)
    if len(names) < 2:
        raise DataError(f"{folder}: expected one folder a class with pictures in it, at least two; found {names}")
    for part in (folder,) if train is None else (train, test or train):
        _check_nothing_is_left_out(part, names)
    training = _pictures(train or folder, names)
    if test is None or count is not None:
        x, y = _read(training, _size_and_mode(training))
        if count is not None:
            return hold_out(x, y, count)
        chosen, counts = held_out(y, EVERY), np.bincount(y).tolist()
        if min(counts) < EVERY:  # its class would be tested by none
            few = f"{folder / names[counts.index(min(counts))]}: {min(counts)} pictures"
            raise DataError(f"{few}; expected at least {EVERY} in a class, or folders train and test")
        return Split(x[~chosen], y[~chosen], x[chosen], y[chosen])
    if strangers := set(_classes(test)) - set(names):
        raise DataError(f"{test}: has the class {min(strangers)}; expected those of {train}: {', '.join(names)}")
    testing = _pictures(test, names)
    shape = _size_and_mode(training + testing)
    return Split(*_read(training, shape), *_read(testing, shape))


def _parts(folder: Path) -> tuple[Path | None, Path | None]:
    """The folders of training and of test pictures inside `folder`; without the first, there is no second."""
    train, test = (next((folder / n for n in names if _classes(folder / n)), None) for names in (TRAIN, TEST))
    return train, test if train else None


def _classes(folder: Path) -> list[str]:
    return sorted(path.name for path in _folders(folder) if any(map(_is_picture, path.iterdir())))


def _folders(folder: Path) -> list[Path]:
    """The folders in a folder, without those that systems put there."""
    inside = folder.iterdir() if folder.is_dir() else ()
    return [path for path in inside if path.is_dir() and not path.name.startswith((".", "__"))]


def _is_picture(path: Path) -> bool:
    """By its name: what cannot be read, a link to nowhere among it, is said when it is opened."""
    return path.suffix.lower() in ENDINGS + SELDOM_READ and not path.name.startswith(".") and not path.is_dir()


def _check_nothing_is_left_out(folder: Path, names: list[str]) -> None:
    """Refuse a class without pictures, and pictures in a folder within that of a class."""
    for path in _folders(folder):
        if path.name not in names and not any(path.iterdir()):
            raise DataError(f"{path}: an empty folder; expected pictures of a class in it, or no such folder")
    for path in (inner for name in names for inner in _folders(folder / name)):
        if any(map(_is_picture, path.iterdir())):
            raise DataError(f"{path}: pictures in a folder of their own; expected those of a class in {path.parent}")


def _pictures(folder: Path, names: list[str]) -> list[Picture]:
    """Every picture of `folder`, class by class, in the order of their names."""
    found = []
    for label, name in enumerate(names):
        files = sorted(filter(_is_picture, (folder / name).iterdir())) if (folder / name).is_dir() else []
        found += [Picture(path, label) for path in files]
    return found


def _size_and_mode(pictures: list[Picture]) -> tuple[tuple[int, int], str]:
    """The (width, height) that all images get, and Pillow's mode for their channels: "L" or "RGB"."""
    sizes, modes = set(), set()
    for path, _ in pictures:
        with _opened(path) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise DataError(f"{path}: {picture.width}x{picture.height} pixels; at most {MOST_PIXELS:,} are read")
            sizes.add(picture.size)
            modes.add("L" if picture.mode in ("1", "L", "LA") or picture.mode.startswith("I") else "RGB")
    mode = "L" if modes == {"L"} else "RGB"
    size = sizes.pop() if len(sizes) == 1 else (LARGEST + 1, LARGEST + 1)
    size = size if max(size) <= LARGEST else (SIDE, SIDE)
    if len(pictures) * size[0] * size[1] * len(mode) > MOST_VALUES:  # a mode has one letter a channel
        raise DataError(
            f"{len(pictures):,} pictures are more than fit into memory; expected some {MOST_VALUES:,} bytes"
        )
    return size, mode


def _read(pictures: list[Picture], shape: tuple[tuple[int, int], str]) -> tuple[np.ndarray, np.ndarray]:
    (width, height), mode = shape
    images = np.empty((len(pictures), len(mode), height, width), np.uint8)
    for i, (path, _) in enumerate(pictures):
        with _opened(path) as picture:
            images[i] = _pixels(path, picture, (width, height), mode)
    mean, std = (GRAY_MEAN, GRAY_STD) if mode == "L" else (MEAN, STD)
    return normalize(images, mean, std), np.array([label for _, label in pictures], np.int64)


def _pixels(path: Path, picture: Any, size: tuple[int, int], mode: str) -> np.ndarray:
    from PIL import ImageOps

    try:
        upright = _on_white(_eight_bits(path, ImageOps.exif_transpose(picture))).convert(mode)
        if upright.size != size:
            upright = ImageOps.fit(upright, size)
    except DataError:
        raise
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, MemoryError) as error:
        raise DataError(f"{path}: a damaged picture ({error})") from None
    return np.asarray(upright, np.uint8).reshape(size[1], size[0], -1).transpose(2, 0, 1)


def _on_white(picture: Any) -> Any:
    """The picture as it looks on white paper, where parts of it are transparent."""
    from PIL import Image

    if not picture.has_transparency_data:
        return picture
    picture = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)


def _eight_bits(path: Path, picture: Any) -> Any:
    """The picture with 8 bits a channel. Pillow itself would make white of nearly all values of 16 bits."""
    from PIL import Image

    if not picture.mode.startswith(("I", "F")):
        return picture
    values = np.asarray(picture)
    if picture.mode == "F" or values.min() < 0 or values.max() > 0xFFFF:
        raise DataError(f"{path}: values of 32 bits; expected a picture of 8 or 16 bits a channel")
    return Image.fromarray((values.astype(np.uint32) >> 8).astype(np.uint8))


def _opened(path: Path) -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise DataError('pictures are read by Pillow, which is not installed: pip install "minires[data]"') from None
    try:
        return Image.open(path)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: no picture that can be read ({error})") from None
