"""SIGKILL for a random rank at a random moment of a short training of several ranks.

The job must end within seconds, with a message, and leave a checkpoint that can be read. Resumed on as many ranks it
must end with the same bits as a run that nobody disturbed; on another number of ranks, with the same losses.

`python -m tests.parallel.kills` does it 20 times and prints the table kept in evidence.md.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

from .launch import clear_shared_memory, run, start

SIZES = (2, 3, 4)
STEPS = 50


def train(folder, resume):
    """Five epochs of ten steps in float64. Every rank leaves its process's number beside the folder; rank 0 prints the
    weights' digest and the losses."""
    from minires import nn, optim
    from minires.data import Augmentation, Split, load_digits
    from minires.parallel import DataParallel, MPIGroup
    from minires.train import fit

    digits = load_digits()
    x_train, x_test = digits.x_train[:315].astype(np.float64), digits.x_test[:50].astype(np.float64)
    data = Split(x_train, digits.y_train[:315], x_test, digits.y_test[:50])
    model = nn.resnet(8, width=4, in_channels=1, num_classes=10, shortcut="B", rng=1).astype("float64")
    with MPIGroup() as group:
        Path(f"{folder}.rank{group.rank}").write_text(f"{os.getpid()}\n")
        group.comm.Barrier()
        history = fit(
            model,
            data,
            epochs=5,
            batch_size=32,
            schedule=optim.Cosine(0.1, STEPS),
            augmentation=Augmentation(pad=1),
            folder=folder,
            resume=resume,
            parallel=DataParallel(model, group),
        )
        digest = hashlib.sha256(b"".join(array.tobytes() for array in model.state_dict().values())).hexdigest()
        _, first = group.broadcast(state=digest)
        assert digest == first, "the ranks end with different weights"
        if group.rank == 0:
            print(json.dumps([digest, [row["loss"] for row in history.steps]]), flush=True)


def finish(size, folder, resume=False):
    """A run that nobody disturbs: (digest of the weights, losses of all steps, seconds)."""
    code, output, seconds = run(size, "tests.parallel.kills", "child", folder, int(resume))
    assert code == 0, output
    digest, losses = json.loads(next(line for line in output.splitlines() if line.startswith("[")))
    assert len(losses) == STEPS
    return digest, losses, seconds


def kill_one(size, folder, rng, seconds):
    """Starts a run and kills one of its ranks: (its exit code, what it printed, seconds until it had ended)."""
    process = start(size, "tests.parallel.kills", "child", folder, 0)
    pids = [pid_in(Path(f"{folder}.rank{rank}"), process) for rank in range(size)]
    time.sleep(rng.uniform(0, seconds))
    with suppress(ProcessLookupError):  # too late: it was finished
        os.kill(pids[rng.randrange(size)], signal.SIGKILL)
    killed = time.perf_counter()
    printed = process.stdout.read()
    process.wait()
    clear_shared_memory()
    return process.returncode, printed, time.perf_counter() - killed


def pid_in(path, process):
    """What a rank has written, once it has; the file is removed."""
    ended = False
    while not (path.exists() and path.read_text().endswith("\n")):
        assert not ended, process.stdout.read()
        ended = process.poll() is not None
        time.sleep(0.01)
    pid = int(path.read_text())
    path.unlink()
    return pid


def trials(count, seed=0):
    """Yields what became of each kill."""
    from minires.checkpoint import checkpoints, load_checkpoint

    rng, whole = random.Random(seed), {}
    with tempfile.TemporaryDirectory() as base:
        for trial in range(count):
            size, other = rng.sample(SIZES, 2)
            other = rng.choice([1, other])
            folder, copy = Path(base) / str(trial), Path(base) / f"{trial}-copy"
            if size not in whole:
                whole[size] = finish(size, Path(base) / f"whole-{size}")
            expected, losses, seconds = whole[size]
            code = 0
            while code == 0:
                shutil.rmtree(folder, ignore_errors=True)
                code, printed, ended = kill_one(size, folder, rng, seconds)
            found = folder.is_dir() and bool(checkpoints(folder))
            step = len(load_checkpoint(folder)[2]["history"]["steps"]) if found else 0
            if found:
                shutil.copytree(folder, copy)
            digest, _, _ = finish(size, folder, resume=found)
            _, resumed, _ = finish(other, copy, resume=found)
            yield {
                "ranks": size,
                "message": "Killed (signal 9)" in printed,
                "seconds": ended,
                "checkpoint of step": step if found else None,
                "same bits": digest == expected,
                "on ranks": other,
                "largest difference of a loss": max(abs(a - b) for a, b in zip(resumed, losses, strict=True)),
            }


def main(count=20, seed=0):
    found = []
    for row in trials(count, seed):
        found.append(row)
        if len(found) == 1:
            print(f"seed {seed}, {time.strftime('%Y-%m-%d')}\n")
            print(f"| {' | '.join(row)} |\n|{' --- |' * len(row)}")
        cells = (f"{value:.2g}" if isinstance(value, float) else str(value) for value in row.values())
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        train(Path(sys.argv[2]), bool(int(sys.argv[3])))
    else:
        main(*map(int, sys.argv[1:]))
