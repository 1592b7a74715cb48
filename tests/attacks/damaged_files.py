"""Damaged files of every kind that minires reads: each is refused in a sentence, or gives what the good file gave.

Formats without checksums (IDX, CIFAR, pictures, PyTorch's old format) may give other numbers of the right shape; the
table says how many did. Memory stays below three times the file and 500 MB: the child could not have more.
"""

import collections
import gzip
import io
import pickle
import struct
import tempfile
from pathlib import Path

import numpy as np

from tests.checkpoint.damage import flipped, overwritten, swapped, truncated

from .common import in_child, silenced, table

BATCH = 40
DAMAGES = (truncated, flipped, swapped, overwritten)
CHECKED = ("npz", "compressed npz", "safetensors", "pth", "idx.gz", "checkpoint of a run")
"""Formats whose checksums show every change."""


def goods():
    """{kind: (name, bytes, read: path -> arrays)}."""
    from minires import checkpoint, nn
    from minires.data import images
    from minires.data.cifar import CIFAR10, read_cifar_file
    from minires.data.idx import read_idx

    rng = np.random.default_rng(0)
    weights = {
        n: a + rng.standard_normal(a.shape).astype(a.dtype) for n, a in nn.resnet(8, width=4).state_dict().items()
    }
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        checkpoint.write_weights(base / "w.npz", weights)
        checkpoint.write_weights(base / "w.safetensors", weights)
        np.savez_compressed(base / "c.npz", **weights)
        run = checkpoint.save_checkpoint(base, 3, weights, {"epoch": 1})
        found = {
            "npz": ("w.npz", (base / "w.npz").read_bytes(), checkpoint.read_weights),
            "compressed npz": ("w.npz", (base / "c.npz").read_bytes(), checkpoint.read_weights),
            "safetensors": ("w.safetensors", (base / "w.safetensors").read_bytes(), checkpoint.read_weights),
            "checkpoint of a run": (
                run.name,
                run.read_bytes(),
                lambda path: checkpoint.load_checkpoint(path.parent)[1],
            ),
        }
    idx = b"\0\0\x08\3" + struct.pack(">III", 30, 28, 28) + rng.integers(0, 256, 30 * 784, np.uint8).tobytes()
    records = rng.integers(0, 256, (20, 3073), np.uint8)
    records[:, 0] %= 10
    batch = {b"data": records[:, 1:], b"labels": records[:, 0].tolist()}
    found |= {
        "idx": ("train-images-idx3-ubyte", idx, lambda path: {"x": read_idx(path, 3)}),
        "idx.gz": ("train-images-idx3-ubyte.gz", gzip.compress(idx), lambda path: {"x": read_idx(path, 3)}),
        "cifar binary": ("test_batch.bin", records.tobytes(), lambda path: _pair(read_cifar_file(path, CIFAR10))),
        "cifar python": (
            "test_batch",
            pickle.dumps(batch, 2),
            lambda path: _pair(read_cifar_file(path.with_suffix(".bin"), CIFAR10)),
        ),
    }
    return found | _pytorch(weights) | _pictures(rng, images)


def _pair(images_and_labels):
    return dict(zip(("x", "y"), images_and_labels, strict=True))


def _pytorch(weights):
    try:
        import torch
    except ImportError:
        return {}
    from minires.pytorch_files import read_pytorch

    found = {}
    for kind, zipped in (("pth", True), ("pth of PyTorch < 1.6", False)):
        content = io.BytesIO()
        state = {name: torch.tensor(array) for name, array in weights.items()}
        torch.save({"net": state, "epoch": 3}, content, _use_new_zipfile_serialization=zipped)
        found[kind] = ("w.pth", content.getvalue(), lambda path: read_pytorch(path).weights)
    return found


def _pictures(rng, images):
    try:
        from PIL import Image
    except ImportError:
        return {}
    found = {}
    for ending in ("png", "jpeg"):
        content = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(content, ending)

        def read(path):
            return {"x": images._read([images.Picture(path, 0)], ((40, 40), "RGB"))[0]}

        found[ending] = (f"a.{ending}", content.getvalue(), read)
    return found


def attack(count, seed):
    counts, wrong = collections.defaultdict(collections.Counter), []
    kinds = goods()
    for start in range(0, count, BATCH):
        numbers = range(start, min(start + BATCH, count))
        largest = max(len(content) for _, content, _ in kinds.values())
        done = in_child(lambda numbers=numbers: batch(kinds, seed, numbers), extra_memory=3 * largest + (500 << 20))
        if "died" in done:
            wrong.append(f"files {start} to {start + BATCH}: {done['died'][-300:]}")
            continue
        for kind, outcomes in done["counts"].items():
            counts[kind].update(outcomes)
        wrong += done["wrong"]
    return table("file", counts), wrong


def batch(kinds, seed, numbers):
    counts, wrong = collections.defaultdict(collections.Counter), []
    with tempfile.TemporaryDirectory() as base, silenced():
        for number in numbers:
            rng = np.random.default_rng((seed, number))
            kind = list(kinds)[number % len(kinds)]
            name, content, read = kinds[kind]
            folder = Path(base) / str(number)
            folder.mkdir()
            (folder / name).write_bytes(content)
            expected = read(folder / name)
            damage = DAMAGES[number // len(kinds) % len(DAMAGES)]
            (folder / name).write_bytes(damage(content, rng))
            outcome, text = one(kind, folder / name, read, expected)
            counts[kind][outcome] += 1
            if outcome == "wrong":
                wrong.append(f"{kind}, {damage.__name__}, number {number}: {text}")
    return {"counts": counts, "wrong": wrong}


def one(kind, path, read, expected):
    """(what came of reading it, what was wrong)."""
    from minires.checkpoint import CheckpointError
    from minires.data import DataError

    try:
        found = read(path)
    except (CheckpointError, DataError) as error:
        return ("refused", "") if str(path.parent) in str(error) else ("wrong", f"does not name the file: {error}")
    except BaseException as error:
        return "wrong", f"{type(error).__name__}: {error}"
    same = found.keys() == expected.keys() and all(np.array_equal(found[n], expected[n]) for n in expected)
    if same:
        return "right", ""
    if kind in CHECKED:
        return "wrong", "other values"
    return "other numbers", ""
