"""`minires convert`: weights from one format, or one set of names, into another."""

from __future__ import annotations

import argparse
from pathlib import Path

from minires.commands import CommandError

HELP = "convert weights: PyTorch's .pth into .npz or .safetensors, these into each other, and back to PyTorch's names"

PYTORCH = (".pth", ".pt", ".th")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, help=".pth, .pt, .th (needs PyTorch), .npz or .safetensors")
    parser.add_argument(
        "target", type=Path, nargs="?", help=".npz or .safetensors (default: the source's name with .safetensors)"
    )
    parser.add_argument(
        "--head", choices=("linear", "fc"), default="linear", help="what the last layer is called (default: linear)"
    )
    parser.add_argument(
        "--projection",
        choices=("shortcut", "downsample"),
        default="shortcut",
        help="what the convolution on a shortcut is called (default: shortcut; torchvision: downsample)",
    )


def run(args: argparse.Namespace) -> int:
    """Reads, renames, writes."""
    from minires import checkpoint

    target = args.target or args.source.with_suffix(".safetensors")
    if target.exists() and args.target is None:
        raise CommandError(f"{target} exists; name the target to replace it")
    try:
        if args.source.suffix in PYTORCH:
            weights, metadata = checkpoint.read_pytorch(args.source), {}
        else:
            weights, metadata = checkpoint.read(args.source)
        names = checkpoint.pytorch_names(weights, args.head, args.projection)
        checkpoint.write_weights(target, names, metadata)
    except checkpoint.CheckpointError as error:
        raise CommandError(str(error)) from error
    print(f"{target}: {len(names)} arrays, {sum(array.size for array in names.values()):,} numbers")
    return 0
