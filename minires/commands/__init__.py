"""The commands of `python -m minires`, one a file.

A command's module holds `HELP` (one line), `add_arguments(parser)` and `run(args) -> exit code`. This file holds what
several of them need: the error a user sees as one sentence, and the types and options that mean the same everywhere.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from minires.init import Initializer


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

    name, _, parameter = text.partition(":")
    if name not in INITIALIZERS:
        raise argparse.ArgumentTypeError(f"{name!r} is no initializer; there are {', '.join(INITIALIZERS)}")
    make = getattr(init, INITIALIZERS[name])
    try:
        numbers = [float(parameter)] if parameter else []
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


def console() -> Console:
    """rich's console on stdout: the terminal's width, or 140 columns into a file or pipe, so that no table is cut."""
    from rich.console import Console

    found = Console()
    return found if found.is_terminal else Console(width=max(found.width, 140))
