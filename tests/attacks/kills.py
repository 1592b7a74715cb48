"""A run killed at a point of its saving, then resumed: the same weights, the whole history, nothing left over.

The points are counted in a run that is left alone: every write into a file, every flush to the disk, every renaming,
every removal. Then the run is made again and killed just before one of them: half of the points are of the
rarer kinds (all of them, where they are fewer), the others writes, each spread evenly over the run.
"""

import hashlib
import json
import os
import signal
import tempfile
from pathlib import Path

from .common import in_child, silenced, table

EPOCHS = 5


def attack(count, seed):
    with tempfile.TemporaryDirectory() as base:
        whole = in_child(lambda: run(Path(base) / "whole", seed=seed))
        points = whole["points"]
        rare = [point for point, what in enumerate(points) if what != "a write"]
        writes = [point for point, what in enumerate(points) if what == "a write"]
        chosen = spread(rare, count // 2)
        chosen = sorted(chosen + spread(writes, count - len(chosen)))
        counts, wrong = {}, []
        for point in chosen:
            problem = trial(Path(base) / f"at-{point}", point, whole, seed)
            row = counts.setdefault(points[point], {})
            row["killed"] = row.get("killed", 0) + 1
            row["right"] = row.get("right", 0) + (problem is None)
            if problem:
                wrong.append(f"killed before point {point} of {len(points)} ({points[point]}): {problem}")
    return table(f"killed before, of {len(points)} points", counts), wrong


def spread(points, count):
    """So many of the points, evenly over all of them."""
    return [points[i * len(points) // count] for i in range(min(count, len(points)))] if count < len(points) else points


def trial(folder, point, whole, seed):
    """None where the run that is killed before `point` and resumed ends like the one that was not."""
    killed = in_child(lambda: run(folder, kill_before=point, seed=seed))
    if killed.get("died") != "signal SIGKILL":
        return f"was not killed: {killed}"
    from minires.checkpoint import checkpoints

    resumed = in_child(lambda: run(folder, resume=bool(checkpoints(folder)), seed=seed))
    if resumed.get("weights") != whole["weights"]:
        return f"other weights: {resumed.get('died', '')}"
    if resumed["history"] != whole["history"]:
        return f"another history: {len(resumed['history'])} of {EPOCHS} epochs"
    left = sorted(path.name for path in folder.iterdir() if path.name.startswith("."))
    return f"left over: {left}" if left else None


def run(folder, kill_before=None, resume=False, seed=0):
    """The points of saving, a digest of the weights, and the losses in history.json of a short training."""
    points = watch(kill_before)
    from minires import nn
    from minires.data import Split, load_digits
    from minires.train import fit

    digits = load_digits()
    data = Split(digits.x_train[:64], digits.y_train[:64], digits.x_test[:16], digits.y_test[:16])
    model = nn.resnet(8, width=2, in_channels=1, rng=seed)
    with silenced():
        fit(model, data, epochs=EPOCHS, batch_size=32, seed=seed, folder=folder, resume=resume)
    history = json.loads((folder / "history.json").read_text())["epochs"]
    digest = hashlib.sha256(b"".join(array.tobytes() for array in model.state_dict().values())).hexdigest()
    return {"points": points, "weights": digest, "history": [row["train_loss"] for row in history]}


def watch(kill_before):
    """Note every step of saving in a list, and kill this process before the one with that number."""
    from minires import files

    points = []

    def note(what):
        if len(points) == kill_before:
            os.kill(os.getpid(), signal.SIGKILL)
        points.append(what)

    def noted(function, what):
        def call(*arguments, **options):
            note(what)
            return function(*arguments, **options)

        return call

    class File:
        """A file whose writes are noted; a piece of more than 256 bytes is written in two halves."""

        def __init__(self, file):
            self.file = file

        def write(self, data):
            data = bytes(data)
            note("a write")
            if len(data) > 256:
                self.file.write(data[: len(data) // 2])
                self.file.flush()
                note("a write")
                return len(data) // 2 + self.file.write(data[len(data) // 2 :])
            return self.file.write(data)

        def __getattr__(self, name):
            return getattr(self.file, name)

    fdopen = os.fdopen
    files.os = type("os", (), {**{n: getattr(os, n) for n in dir(os)}, "fdopen": lambda *a: Opened(fdopen(*a), File)})
    files.os.fsync = staticmethod(noted(os.fsync, "a flush to the disk"))
    files.os.replace = staticmethod(noted(os.replace, "a renaming"))
    files.os.fdopen = staticmethod(files.os.fdopen)
    Path.unlink = noted(Path.unlink, "a removal")
    return points


class Opened:
    """`with os.fdopen(...) as file` that gives the watched file."""

    def __init__(self, file, kind):
        self.file, self.kind = file, kind

    def __enter__(self):
        return self.kind(self.file.__enter__())

    def __exit__(self, *problem):
        return self.file.__exit__(*problem)
