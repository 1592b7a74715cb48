"""The commands of `python -m minires`, one a file.

A command's module holds `HELP` (one line), `add_arguments(parser)` and `run(args) -> exit code`. This file holds what
several of them need: the error a user sees as one sentence, and the types and options that mean the same everywhere.
"""

from __future__ import annotations

import argparse
import math
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minires.terminal import console, fitted, is_live, live_display

if TYPE_CHECKING:
    from minires.checkpoint import Weights
    from minires.init import Initializer

__all__ = ["console", "fitted", "is_live", "live_display"]  # the rest is defined here


class CommandError(Exception):
    """Something the user can put right; `minires` prints its text, one sentence, and exits with code 2."""


def add_seed_argument(parser: argparse.ArgumentParser) -> None:
    """--seed N: where all random numbers of the command come from."""
    parser.add_argument(
        "--seed",
        type=whole_number(0),
        default=0,
        metavar="N",
        help="start of all random numbers; the same seed gives the same run (default: 0)",
    )


def add_device_argument(parser: argparse.ArgumentParser) -> None:
    """--device NAME: where the arrays live. An unusable device ends the command before it starts."""
    parser.add_argument("--device", type=device, default="cpu", help='"cpu", "cuda" or "cuda:1" (default: cpu)')


def whole_number(least: int, most: int | None = None) -> Callable[[str], int]:
    """An argparse type: an integer from `least` to `most`, both included."""

    def parse(text: str) -> int:
        expected = f"a whole number of at least {least}" + ("" if most is None else f" and at most {most}")
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number; expected {expected}") from None
        if value < least or (most is not None and value > most):
            raise argparse.ArgumentTypeError(f"{value} is out of range; expected {expected}")
        return value

    return parse


def positive_number(text: str) -> float:
    """An argparse type: a finite float above 0, such as a learning rate."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number; expected one above 0") from None
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is out of range; expected a finite number above 0")
    return value


def device(text: str) -> str:
    """An argparse type: the name of a device that can be used here and now."""
    from minires.backend import device_namespace

    try:
        device_namespace(text)
    except (ValueError, RuntimeError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


INITIALIZERS = {
    "zero": "Zeros",
    "constant": "Constant",
    "normal": "Normal",
    "truncated_normal": "TruncatedNormal",
    "uniform": "Uniform",
    "lecun_normal": "LeCunNormal",
    "lecun_uniform": "LeCunUniform",
    "xavier_normal": "XavierNormal",
    "xavier_uniform": "XavierUniform",
    "he_normal": "HeNormal",
    "he_uniform": "HeUniform",
    "orthogonal": "Orthogonal",
    "delta_orthogonal": "DeltaOrthogonal",
    "dirac": "Dirac",
}
"""What --init calls them, and what `minires.init` does."""


def initializer(text: str) -> Initializer:
    """An argparse type: "he_normal", or with its parameter (std, bound, gain, slope or constant): "normal:0.01"."""
    from minires import init

    name, colon, parameter = text.partition(":")
    if name not in INITIALIZERS:
        raise argparse.ArgumentTypeError(f"unknown initializer {name!r}; {nearest(name, INITIALIZERS)}")
    make = getattr(init, INITIALIZERS[name])
    try:
        numbers = [float(parameter)] if colon else []
        if any(not math.isfinite(n) or (n < 0 and name != "constant") for n in numbers):
            raise ValueError
        return make(*numbers)
    except (TypeError, ValueError):
        raise argparse.ArgumentTypeError(
            f"{text!r} cannot be read; expected a name, or a name and its one number as in normal:0.01"
        ) from None


def output_folder(path: Path) -> Path:
    """Makes the folder `path` where it is missing. Raises CommandError where it cannot be one."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"cannot write into {path}: {error.strerror}") from None
    return path


PICTURES = (".png", ".pdf", ".svg")


def picture_file(text: str) -> Path:
    """An argparse type: where a picture goes. What cannot be written is said before anything is computed."""
    path = Path(text)
    if path.suffix.lower() not in PICTURES:
        raise argparse.ArgumentTypeError(f"{text!r}: the ending says the format; expected {', '.join(PICTURES)}")
    return writable_file(text)


def writable_file(text: str) -> Path:
    """An argparse type: a file in a folder that is there."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is a folder; expected the name of a file")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {str(path.parent)!r} to write {path.name!r} into")
    return path


def nearest(word: str, names: Iterable[str], otherwise: str = "") -> str:
    """What to say of a word that is none of `names`: the nearest of them, or `otherwise` (or all of them)."""
    names = list(names)
    close = get_close_matches(word, names, 3, 0.6)
    return f"did you mean {' or '.join(close)}?" if close else otherwise or f"there are {', '.join(names)}"


def read_weights(path: Path) -> tuple[Weights, dict[str, Any]]:
    """Arrays and metadata of a file of weights. PyTorch's files are among them; stderr is told what was done.

    Raises CheckpointError where it cannot be read.
    """
    from minires import checkpoint, pytorch_files

    if not pytorch_files.is_pytorch(path):
        return checkpoint.model_in(*checkpoint.read(path))
    found = pytorch_files.read_pytorch(path)
    command = f"python -m minires convert {shlex.quote(str(path))}"
    print(f"{path}: read by PyTorch; `{command}` writes a file that needs none", file=sys.stderr)
    if found.left_out:
        print(f"{path}: holds besides, not used: {some(found.left_out)}", file=sys.stderr)
    return found.weights, {}


def some(names: Sequence[str], most: int = 8) -> str:
    """The first of the names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
