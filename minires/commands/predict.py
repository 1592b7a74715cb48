"""`minires predict`: what an initializer does to a network, in a sentence and block by block, without running it."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from minires.commands import (
    CommandError,
    add_device_argument,
    add_seed_argument,
    console,
    fitted,
    initializer,
    picture_file,
    positive_number,
    whole_number,
)

if TYPE_CHECKING:
    from rich.table import Table

    from minires.nn import ResNet
    from minires.theory import SignalReport, TangentKernel
    from minires.theory.compare import Comparison, ComparisonReport

HELP = "foretell a network's signal, layer by layer, without running it"

BATCH = 32
"""Images in the batch: BatchNorm's laws and every spread depend on it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the signal's forecast; --parallel foretells the time of a step instead."""
    parser.add_argument(
        "--model", default="resnet20", metavar="NAME", help="resnetN or plainN, N = 6n + 2 (default: resnet20)"
    )
    parser.add_argument(
        "--init",
        type=named_initializer,
        nargs="+",
        default=[named_initializer("he_normal")],
        metavar="NAME",
        help="initializers, e.g. he_normal xavier_uniform normal:0.01 (default: he_normal)",
    )
    parser.add_argument(
        "--input",
        type=image_shape,
        default=(3, 32, 32),
        metavar="CxHxW",
        help="size of an image; its values are white noise (default: 3x32x32)",
    )
    parser.add_argument(
        "--shortcut",
        choices=("A", "B"),
        default="A",
        help="where the shape changes: A subsamples and pads, B projects (default: A)",
    )
    parser.add_argument(
        "--batchnorm",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="BatchNorm after each convolution (default: yes)",
    )
    parser.add_argument(
        "--lr",
        type=positive_number,
        metavar="X",
        help="highest learning rate, with momentum 0.9 and a cosine: foretell whether it trains the network",
    )
    parser.add_argument(
        "--steps",
        type=whole_number(1),
        default=1000,
        metavar="N",
        help="length of the training that is foretold, in batches (default: 1000)",
    )
    parser.add_argument("--layers", action="store_true", help="a row for each layer, with all its numbers and grades")
    parser.add_argument(
        "--measure", type=whole_number(1), metavar="R", help="run R networks as well and lay the two side by side"
    )
    parser.add_argument(
        "--plot", type=picture_file, metavar="FILE", help="draw the signal by layer into this file: .png, .pdf or .svg"
    )
    parser.add_argument(
        "--parallel",
        type=whole_number(1, 1024),
        metavar="P",
        help="instead: foretell the time of a training step that P ranks share, see --network, --batch and --compute",
    )
    parser.add_argument(
        "--network",
        type=network,
        metavar="A,B[,O,G]",
        help="with --parallel: seconds of a message and of each of its bytes; of a sum beside its messages and of "
        "adding a byte. `mpiexec -n 2 python -m minires bench --network` measures them (default: under mpiexec "
        "measured at the start, else 25e-6,8e-10, 10 Gbit/s Ethernet)",
    )
    parser.add_argument(
        "--batch", type=whole_number(1), default=128, metavar="N", help="with --parallel: images in a batch (128)"
    )
    parser.add_argument(
        "--compute",
        type=compute,
        metavar="FILE|MS",
        help="with --parallel: what `bench --json FILE` has written, or a number, ms of a step per image (default: "
        "measured at the start, with MINIRES_NUM_THREADS threads)",
    )
    add_seed_argument(parser)
    add_device_argument(parser)


def network(text: str) -> tuple[float, ...]:
    """An argparse type: "2e-6,1e-10" -> (2e-6, 1e-10), seconds and seconds a byte; two more of a sum may follow."""
    parts = text.split(",")
    if len(parts) not in (2, 4):
        raise argparse.ArgumentTypeError(f"{text!r}; expected seconds of a message and of a byte, as in 2e-6,1e-10")
    return (*map(positive_number, parts[:2]), *(0.0 if part == "0" else positive_number(part) for part in parts[2:]))


def compute(text: str) -> float | Path:
    """An argparse type: ms of an image, or a file that is there."""
    try:
        float(text)
    except ValueError:
        if not Path(text).is_file():
            raise argparse.ArgumentTypeError(f"{text!r} is neither a number of ms nor a file") from None
        return Path(text)
    return positive_number(text)


def named_initializer(text: str) -> tuple[str, object]:
    """An argparse type: an initializer and what the user called it."""
    return text, initializer(text)


def image_shape(text: str) -> tuple[int, int, int]:
    """An argparse type: "3x32x32" -> (3, 32, 32)."""
    parts = text.lower().split("x")
    if len(parts) != 3 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise argparse.ArgumentTypeError(
            f"invalid image size {text!r}; expected channels x height x width as in 3x32x32"
        )
    channels, height, width = map(int, parts)
    return channels, height, width


def run(args: argparse.Namespace) -> int:
    """0: foretold, and measured within the laws where it was measured; 1: some layer departs from its law."""
    from minires.commands import _predict_parallel

    if args.parallel is None and (args.network or args.compute):
        raise CommandError("--network and --compute go with --parallel P")
    try:
        return _run(args) if args.parallel is None else _predict_parallel.run(args, build(args))
    except ValueError as error:  # an initializer that does not fit the network's shapes, say
        raise CommandError(str(error)) from error


def _run(args: argparse.Namespace) -> int:
    from minires.theory import compare, measure, predict, summary, tangent_kernel

    model, shape, screen = build(args), (BATCH, *args.input), console()
    signals, reports, sentences = {}, {}, {}
    for name, law in args.init:
        predicted = predict(model, shape, weight=law)
        measured = None
        if args.measure:
            measured = measure(model.to(args.device), shape, seeds=args.measure, weight=law, rng=args.seed)
            reports[name] = compare(predicted, measured)
        signals[name] = (predicted, measured)
        sentences[name] = summary.sentence(predicted)
        screen.print(f"{name}, predicted: {sentences[name]}", style="bold", highlight=False)
        screen.print(f"{name}, training: {training(tangent_kernel(model, predicted, law), args)}", highlight=False)
        if measured:
            screen.print(f"{name}, measured: {reports[name].verdict}", highlight=False)
    predictions = {name: predicted for name, (predicted, _) in signals.items()}
    if args.layers:
        for name, predicted in predictions.items():
            table = side_by_side(reports[name], name) if reports else predicted.table()
            screen.print(fitted(table, screen.width, ESSENTIALS))
        screen.print(LEGEND, style="dim", highlight=False)
    else:
        for table in block_tables(predictions, reports, screen.width):
            screen.print(table)
        if any(not row.forward.grade for report in predictions.values() for row in summary.blocks(report)):
            screen.print("?: no grade, the law may be off by a factor of two. --layers says why.", style="dim")
    if args.plot:
        _draw(args, signals)
        screen.print(f"figure: {args.plot}", highlight=False)
    return 0 if all(report.ok for report in reports.values()) else 1


def training(kernel: TangentKernel | None, args: argparse.Namespace) -> str:
    """Which learning rates will train the network, and what the one of --lr will do."""
    from minires.theory import learning_rates, outlook

    if kernel is None:
        return "no law"
    mean_steps = args.steps / 2  # a cosine's mean is half of its highest rate
    found = learning_rates(kernel, mean_steps)
    span = (
        f"learning rates from {found[0]:.2g} to {found[1]:.2g} will train it"
        if found
        else "no rate up to 1 is sure to train it"
    )
    said = f"{span}, in {args.steps} steps"
    if args.lr is None:
        return said
    return f"{said}; {args.lr:g}: {outlook(kernel, args.lr, args.lr * mean_steps).word}"


def block_tables(
    predictions: dict[str, SignalReport], reports: dict[str, ComparisonReport], width: int
) -> Iterator[Table]:
    """The signal block by block; where the screen has no room for all initializers, in several tables."""
    from minires.terminal import natural_width

    names = list(predictions)
    while names:
        for count in range(len(names), 0, -1):
            table = block_table({name: predictions[name] for name in names[:count]}, reports)
            if natural_width(table) <= width:
                break
        yield fitted(table, width)
        names = names[count:]


def block_table(predictions: dict[str, SignalReport], reports: dict[str, ComparisonReport]) -> Table:
    """A row a block; for each initializer the rms of the block's output and of the gradient there, in units of that at
    the network's output, and measured/law where it was measured."""
    from rich.table import Table

    from minires.theory import summary

    table = Table(title="rms of the signal and of the gradient, block by block", title_justify="left")
    table.add_column("block", no_wrap=True)
    for name in predictions:
        table.add_column(f"{name}\nsignal", justify="right", no_wrap=True)
        table.add_column("\ngradient", justify="right", no_wrap=True)
    found = {(name, c.path, c.quantity): c for name, report in reports.items() for c in report.comparisons}
    for rows in zip(*map(summary.blocks, predictions.values()), strict=True):
        cells = []
        for name, row in zip(predictions, rows, strict=True):
            for quantity in ("forward", "gradient_out"):
                law, c = getattr(row, quantity), found.get((name, row.path, quantity))
                text = "-" if math.isnan(law.rms) else f"{law.rms:.3g}{'' if law.grade else ' ?'}"
                cells.append(text if c is None else f"{text} ×{math.sqrt(max(1 + c.deviation, 0)):.2f}{mark(c)}")
        table.add_row(rows[0].path, *cells)
    return table


LEGEND = (
    "law: exact, an expectation that holds at any width; approximate, right for many channels and a large batch and to "
    "within a stated allowance; none, where the law may be off by a factor of two (in brackets: because of what) or "
    "there is none. ±: from one network to the next."
)
"""What the words in the table of all layers mean."""

ESSENTIALS = ("layer", "forward E y²", "gradient E dy²", "E dy²", "E dW²", "verdict")
"""What a narrow terminal shows of either table."""

COLUMNS = {"forward": "forward E y²", "gradient_out": "gradient E dy²", "weight_gradient": "E dW²"}


def side_by_side(report: ComparisonReport, name: str) -> Table:
    """Law and measured/law of the quantities that a reader asks for first; `str(report)` has them all."""
    from rich.table import Table

    table = Table(title=f"{name}, {report.networks} networks: law, measured/law", title_justify="left")
    for title in ("layer", "kind"):
        table.add_column(title, no_wrap=True)
    for title in COLUMNS.values():
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("verdict")
    found = {(c.path, c.quantity): c for c in report.comparisons}
    for row, _ in report.rows:
        numbers = [found.get((row.path, quantity)) for quantity in COLUMNS]
        cells = [f"{c.predicted:.4g}, {1 + c.deviation:.3f}{mark(c)}" if c else "-" for c in numbers]
        table.add_row(row.path, row.kind, *cells, row.note or report.row_verdict(row.path))
    return table


def mark(comparison: Comparison) -> str:
    """An exclamation mark behind what departs from its law."""
    return "" if comparison.ok else " !"


def build(args: argparse.Namespace) -> ResNet:
    """The network of the options; CommandError for a name or an image that makes none."""
    from minires import nn
    from minires.recipes import depth_of

    try:
        model = nn.resnet(
            depth_of(args.model),
            shortcut=args.shortcut if args.model.startswith("resnet") else None,
            batchnorm=args.batchnorm,
            in_channels=args.input[0],
        )
        model.output_shape((BATCH, *args.input))
    except ValueError as error:
        raise CommandError(str(error)) from None
    return model


def _draw(args: argparse.Namespace, signals: dict[str, tuple]) -> None:
    from minires.plot.signal import Signal, draw_signals
    from minires.plot.style import save
    from minires.theory.summary import BLOCKS

    network = args.model + ("" if args.batchnorm else " without BatchNorm")
    title = f"{network}: the signal block by block, foretold" + (" and measured" if args.measure else "")
    save(draw_signals({name: Signal(*pair) for name, pair in signals.items()}, title, BLOCKS), args.plot)
