"""`minires evaluate`: how well the weights in a file do on the test images of a data set."""

from __future__ import annotations

import argparse
from pathlib import Path

from minires.commands import CommandError, add_device_argument, console, whole_number

HELP = "test weights from a file (.npz, .safetensors; minires' or PyTorch's names) on a data set"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--weights", required=True, type=Path, metavar="FILE", help=".npz or .safetensors")
    parser.add_argument(
        "--data",
        metavar="NAME|DIR",
        help="digits, mnist, fashion, cifar10, or the folder with a data set's files (default: what the weights were "
        "trained on, where the file says so)",
    )
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="where the files of NAME are")
    parser.add_argument(
        "--plain",
        action=argparse.BooleanOptionalAction,
        help="a network without shortcuts, which the names of weights do not tell (default: what the file says, or no)",
    )
    parser.add_argument("--batch-size", type=whole_number(1), default=256, metavar="N", help="default: 256")
    add_device_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Prints a table of images, right answers, accuracy and cross-entropy."""
    from rich.table import Table

    from minires import checkpoint, recipes
    from minires.data import DataError
    from minires.train import evaluate

    try:
        weights, metadata = checkpoint.read(args.weights)
        trained = _trained_as(metadata)
        name, x, y = _test_images(args, trained.get("data"))
        plain = args.plain if args.plain is not None else str(trained.get("model", "")).startswith("plain")
        model = recipes.model_for(weights, plain).to(args.device)
        _check_fit(args.weights, weights, x.shape, int(y.max()))
    except (DataError, checkpoint.CheckpointError, ValueError) as error:
        raise CommandError(str(error)) from error
    loss, accuracy = evaluate(model, x, y, args.batch_size, args.device)
    table = Table(title=f"{args.weights} on {name}", title_justify="left", show_header=False)
    table.add_row("network", f"{model!r}")
    table.add_row("right", f"{round(accuracy * len(y)):,} of {len(y):,} test images")
    table.add_row("accuracy", f"[bold]{accuracy:.2%}[/bold]")
    table.add_row("mean cross-entropy", f"{loss:.5f}")
    console().print(table)
    return 0


def _trained_as(metadata: dict) -> dict:
    """The settings that `minires train` left beside its weights; an empty dict for other files."""
    settings = metadata.get("run") if isinstance(metadata, dict) else None
    return settings if isinstance(settings, dict) else {}


def _test_images(args: argparse.Namespace, trained_on: str | None):  # noqa: ANN202 - name, x, y
    from minires import data

    wanted = args.data or trained_on
    if wanted is None:
        raise CommandError(f"{args.weights} does not say what it was trained on: --data NAME or --data DIR")
    if wanted in data.NAMES:
        return wanted, *data.load_test(wanted, args.data_dir)
    folder = Path(wanted)
    if not folder.is_dir():
        raise CommandError(f"--data {wanted}: neither a folder nor one of {', '.join(data.NAMES)}")
    name = data.recognize(folder)
    return name, *data.load_test(name, folder)


def _check_fit(path: Path, weights: dict, shape: tuple[int, ...], top_label: int) -> None:
    from minires.init.pretrained import translate

    shapes = {translate(name): array.shape for name, array in weights.items()}
    channels, classes = shapes["conv1.weight"][1], shapes["linear.weight"][0]
    if channels != shape[1] or classes <= top_label:
        raise CommandError(
            f"{path} takes images of {channels} channels and knows {classes} classes; these have {shape[1]} "
            f"and at least {top_label + 1}"
        )
