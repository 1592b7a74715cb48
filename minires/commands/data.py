"""`minires data`: downloads a data set, or says what is there."""

from __future__ import annotations

import argparse
from pathlib import Path

from minires.commands import CommandError, console, fitted, live_display

HELP = "download MNIST, Fashion-MNIST or CIFAR, with checksums; without a name: say what is there"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", choices=("mnist", "fashion", "cifar10", "cifar100"), help="what to download")
    parser.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="where to (default: $MINIRES_DATA, then the user's cache folder)"
    )
    parser.add_argument("--url", help="another server that has the same files, under this address")


def run(args: argparse.Namespace) -> int:
    """Downloads what is missing of args.name, or lists what is where."""
    from minires.data import DataError

    try:
        return _list(args.data_dir) if args.name is None else _download(args)
    except DataError as error:
        raise CommandError(str(error)) from error


def _list(data_dir: Path | None) -> int:
    from rich.table import Table

    from minires.data import NAMES, DataError, find

    table = Table("data set", "where", title="Data sets", title_justify="left")
    for name in NAMES:
        try:
            table.add_row(name, "in the package" if name == "digits" else str(find(name, data_dir)))
        except DataError:
            table.add_row(name, f"not there: python -m minires data {name}")
    screen = console()
    screen.print(fitted(table, screen.width))
    return 0


def _download(args: argparse.Namespace) -> int:
    from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn, TransferSpeedColumn

    from minires.data.download import SOURCES, download

    source = SOURCES[args.name]
    if args.url:
        source = source._replace(url=args.url.rstrip("/") + "/")
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with live_display(*columns) as progress:
        folder = download(args.name, args.data_dir, source, _Bar(progress))
    print(f"{args.name} is in {folder}")
    return 0


class _Bar:
    """pooch's idea of a progress bar, on rich's."""

    def __init__(self, progress) -> None:  # noqa: ANN001 - rich.progress.Progress
        self.progress = progress
        self.task = progress.add_task("", total=None)

    @property
    def total(self) -> int:
        return int(self.progress.tasks[0].total or 0)

    @total.setter
    def total(self, size: int) -> None:
        self.progress.reset(self.task, total=size or None)

    def update(self, size: int) -> None:
        self.progress.advance(self.task, size)

    def reset(self) -> None:
        self.progress.reset(self.task)

    def close(self) -> None:
        """The next file goes on with the same bar."""
