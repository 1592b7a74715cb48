"""`minires evaluate`: how well the weights in a file do on the test images of a data set."""

from __future__ import annotations

import argparse
from pathlib import Path

from minires.commands import CommandError, add_device_argument, console, fitted, nearest, read_weights, whole_number

HELP = "test weights from a file (.npz, .safetensors, PyTorch's .pth) on a data set or a folder of pictures"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--weights",
        required=True,
        type=Path,
        metavar="FILE",
        help=".npz, .safetensors, or .pth and the like where PyTorch is installed",
    )
    parser.add_argument(
        "--data",
        metavar="NAME|DIR",
        help="digits, mnist, fashion, cifar10, cifar100, or a folder: a data set's files, or pictures, one folder a "
        "class (default: what the weights were trained on, where the file says so)",
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
    from rich.text import Text

    from minires import checkpoint, recipes
    from minires.data import DataError
    from minires.train import evaluate

    try:
        weights, metadata = read_weights(args.weights)
        trained = _trained_as(metadata)
        name, x, y = _test_images(args, trained.get("data"))
        plain = args.plain if args.plain is not None else str(trained.get("model", "")).startswith("plain")
        model = recipes.model_for(weights, plain).to(args.device)
        _check_fit(args.weights, weights, x.shape, int(y.max()))
        loss, accuracy = evaluate(model, x, y, args.batch_size, args.device)
    except (DataError, checkpoint.CheckpointError, ValueError) as error:
        raise CommandError(str(error)) from error
    table = Table(title=f"{args.weights} on {name}", title_justify="left", show_header=False)
    table.add_row("network", f"{model!r}")
    table.add_row("right", f"{round(accuracy * len(y)):,} of {len(y):,} test images")
    table.add_row("accuracy", Text(f"{accuracy:.2%}", "bold"))
    table.add_row("mean cross-entropy", f"{loss:.5f}")
    screen = console()
    screen.print(fitted(table, screen.width))
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
    if wanted not in data.NAMES and not Path(wanted).is_dir():
        hint = nearest(wanted, data.NAMES, "check the name")
        raise CommandError(f"--data {wanted}: neither a folder nor one of {', '.join(data.NAMES)}; {hint}")
    return wanted, *data.load_test(wanted, args.data_dir)


def _check_fit(path: Path, weights: dict, shape: tuple[int, ...], top_label: int) -> None:
    from minires.pretrained import translate

    shapes = {translate(name): array.shape for name, array in weights.items()}
    channels, classes = shapes["conv1.weight"][1], shapes["linear.weight"][0]
    if channels != shape[1] or classes <= top_label:
        raise CommandError(
            f"{path} takes images of {channels} channels and knows {classes} classes; these have {shape[1]} "
            f"and at least {top_label + 1}"
        )
