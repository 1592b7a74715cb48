"""`minires convert`: weights from one format, or one set of names, into another."""

from __future__ import annotations

import argparse
from pathlib import Path

from minires.commands import CommandError, some

HELP = "convert weights: PyTorch's .pth into .npz or .safetensors, these into each other, and back to PyTorch's names"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, help=".pth, .pt, .th, .pth.tar (need PyTorch), .npz or .safetensors")
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
    """Reads, renames, writes, and says which arrays were left out."""
    from minires import checkpoint
    from minires.pytorch_files import is_pytorch, read_pytorch

    if not args.source.is_file():
        raise CommandError(f"{args.source}: {'a folder' if args.source.is_dir() else 'no such file'}")
    target = args.target or _beside(args.source)
    if target.exists() and args.target is None:
        raise CommandError(f"{target} exists; name the target to replace it")
    try:
        if is_pytorch(args.source):
            (weights, left_out), metadata = read_pytorch(args.source), {}
        else:
            weights, metadata = checkpoint.model_in(*checkpoint.read(args.source))
            left_out = []
        names = checkpoint.pytorch_names(weights, args.head, args.projection)
        checkpoint.write_weights(target, names, metadata)
    except checkpoint.CheckpointError as error:
        raise CommandError(str(error)) from error
    print(f"{target}: {len(names)} arrays, {sum(array.size for array in names.values()):,} numbers")
    if counters := len(weights) - len(names):
        left_out = [*left_out, f"{counters} num_batches_tracked (BatchNorm's counters, of no use to its averages)"]
    if left_out:
        print(f"left out: {some(left_out, 20)}")
    return 0


def _beside(source: Path) -> Path:
    """The source's name with .safetensors in place of its endings: model.pth.tar -> model.safetensors."""
    from minires.pytorch_files import ENDINGS

    name = source.name
    while Path(name).suffix.lower() in (*ENDINGS, ".npz"):
        name = Path(name).stem
    return source.with_name(f"{name.removesuffix('.safetensors')}.safetensors")
