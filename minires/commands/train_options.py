"""The options of `minires train`."""

from __future__ import annotations

import argparse
from pathlib import Path

from minires.commands import INITIALIZERS, add_device_argument, initializer, nearest, positive_number, whole_number

DATA = ("digits", "mnist", "fashion", "cifar10", "cifar100")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options without a default here take it from the data set's settings in `minires.recipes`."""
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data",
        type=data_name,
        metavar="NAME|DIR",
        help=f"what to train on: {', '.join(DATA)}, or a folder that holds the files of one of them or your own "
        "pictures, one folder a class (default: digits, which need no download)",
    )
    data.add_argument(
        "--data-dir",
        type=Path,
        metavar="DIR",
        help="where its files are (default: $MINIRES_DATA, then the user's cache)",
    )
    data.add_argument(
        "--hold-out",
        dest="held_out",
        type=whole_number(1),
        metavar="N",
        help="test on N of the training images instead of the test files",
    )
    data.add_argument(
        "--pad",
        type=whole_number(0),
        metavar="N",
        help="random crops: pad by N pixels and cut out a window (default: 1 for digits, 2 for MNIST, 4 for CIFAR)",
    )
    data.add_argument(
        "--flip",
        action=argparse.BooleanOptionalAction,
        help="mirror half of the images (default: for CIFAR and fashion)",
    )

    model = parser.add_argument_group("model")
    model.add_argument(
        "--model",
        metavar="NAME",
        help="resnetN or plainN (no shortcuts), N = 6n + 2 (default: resnet8; resnet20 for CIFAR-10)",
    )
    model.add_argument(
        "--width", type=whole_number(1, 10_000), metavar="N", help="channels of the first stage (default: 16)"
    )
    model.add_argument(
        "--shortcut", choices=("A", "B"), help="where the shape changes: A subsamples and pads, B projects (default: A)"
    )
    model.add_argument(
        "--batchnorm", action=argparse.BooleanOptionalAction, help="BatchNorm after each convolution (default: yes)"
    )
    model.add_argument(
        "--init",
        type=initializer_name,
        metavar="NAME",
        help=f"what the weights are drawn from (default: he_normal): {', '.join(INITIALIZERS)}; normal:0.01 and the "
        "like give a parameter",
    )
    model.add_argument(
        "--weights",
        metavar="FILE",
        help="start from these weights (.npz, .safetensors, .pth); a head of another shape is drawn anew",
    )
    model.add_argument(
        "--freeze", dest="frozen", action=argparse.BooleanOptionalAction, help="with --weights: train the head alone"
    )

    recipe = parser.add_argument_group("training")
    recipe.add_argument(
        "--recipe",
        choices=("he2015",),
        help="He et al. 2015, section 4.2, for CIFAR-10; options given beside it replace its own",
    )
    recipe.add_argument(
        "--epochs", type=whole_number(1), metavar="N", help="passes over the training images (default: 20 for digits)"
    )
    recipe.add_argument(
        "--batch-size", type=whole_number(1), metavar="N", help="images a step (default: 32 for digits)"
    )
    recipe.add_argument("--lr", type=positive_number, metavar="RATE", help="highest learning rate (default: 0.1)")
    recipe.add_argument(
        "--schedule", choices=("cosine", "step", "constant"), help="how the rate falls (default: cosine)"
    )
    recipe.add_argument(
        "--warmup",
        type=whole_number(0),
        metavar="STEPS",
        help="steps over which the rate rises to its highest (default: 0)",
    )
    recipe.add_argument("--momentum", type=fraction, metavar="M", help="of SGD (default: 0.9)")
    recipe.add_argument("--nesterov", action=argparse.BooleanOptionalAction, help="Nesterov's momentum (default: no)")
    recipe.add_argument("--weight-decay", type=fraction, metavar="D", help="of SGD (default: 1e-4)")
    recipe.add_argument(
        "--seed",
        type=whole_number(0),
        metavar="N",
        help="start of all random numbers; the same seed gives the same run, bit for bit (default: 0)",
    )

    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder of the run (default: a new one, runs/DATA-MODEL)"
    )
    parser.add_argument(
        "--resume", type=Path, metavar="DIR", help="go on with the run in this folder, from its newest checkpoint"
    )
    ranks = parser.add_argument_group("several processes")
    ranks.add_argument(
        "--parallel",
        choices=("mpi",),
        help="share every batch among ranks, as in: mpiexec -n 4 python -m minires train --parallel mpi",
    )
    ranks.add_argument(
        "--local-bn",
        action="store_true",
        help="let BatchNorm take its statistics from each rank's share alone: that is training with smaller batches",
    )
    ranks.add_argument(
        "--no-overlap",
        action="store_true",
        help="sum the gradients after the backward pass, not while it goes on: the same result, for comparing times",
    )

    parser.add_argument(
        "--log-every",
        type=whole_number(1),
        metavar="N",
        help="look at the loss every N steps (default: 1; 10 on a GPU, which may then run ahead)",
    )
    parser.add_argument(
        "--no-compile",
        action="store_true",
        help="run the steps by the definition in ops/ and nn/, where a breakpoint is hit, instead of the fast way",
    )
    parser.add_argument(
        "--other-engine",
        action="store_true",
        help="resume a run that was started compiled, by the definition, or on another number of threads, the way it "
        "is run now: its last bits will differ",
    )
    add_device_argument(parser)


def data_name(text: str) -> str:
    """An argparse type: a data set's name, or the absolute path of a folder."""
    if text in DATA:
        return text
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a folder nor one of {', '.join(DATA)}; {nearest(text, DATA, 'check the name')}"
        )
    return str(Path(text).resolve())


def fraction(text: str) -> float:
    """An argparse type: a number from 0 up to, not including, 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text!r}; expected a number from 0 up to, not including, 1")
    return value


def initializer_name(text: str) -> str:
    """An argparse type: the text, once it is known to name an initializer."""
    initializer(text)
    return text
