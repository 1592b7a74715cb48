"""SIGKILL at random moments of a short training, also in the middle of a save: the resumed run must end alike.

`python -m tests.train.kills` does it 100 times and prints the table kept in evidence.md.

Half of the runs are killed from outside after a random time. The other half kill themselves inside a save, at a place
drawn at random: with so many bytes written, before the flush to disk, before the renaming, after it.
"""

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
PLACES = ("while writing", "before the flush", "before the renaming", "after the renaming")


def train(folder, resume):
    """The short training; prints its progress and at last a digest of the weights."""
    from minires import nn, optim
    from minires.data import Augmentation, Split, load_digits
    from minires.train import fit

    digits = load_digits()
    data = Split(digits.x_train[:128], digits.y_train[:128], digits.x_test[:20], digits.y_test[:20])
    body = nn.resnet(8, width=4, in_channels=1, num_classes=16)
    model = nn.Sequential(body, nn.Dropout(0.2, rng=np.random.default_rng(1)), nn.Linear(16, 10, rng=2))
    print("start", flush=True)
    fit(
        model,
        data,
        epochs=6,
        batch_size=32,
        schedule=optim.Cosine(0.1, 24),
        augmentation=Augmentation(pad=1),
        folder=folder,
        resume=resume,
    )
    digest = hashlib.sha256(b"".join(array.tobytes() for array in model.state_dict().values()))
    print("digest", digest.hexdigest(), flush=True)


def die_inside_save(number, place, rng):
    """Arrange for this process to kill itself at `place` of the save with this number (each makes two files)."""
    from minires import files

    counts = Counter()

    def is_time(which):
        counts[which] += 1
        return which == place and counts[which] == number

    def die(which):
        if is_time(which):
            os.kill(os.getpid(), signal.SIGKILL)

    write, fsync, replace = files.atomic_write, os.fsync, os.replace

    class Dying:
        """A file that kills its writer after a random number of bytes."""

        def __init__(self, file):
            self.file, self.left = file, rng.randrange(1, 4000) if is_time("while writing") else None

        def write(self, data):
            if self.left is not None and self.left < len(data):
                self.file.write(bytes(data)[: self.left])
                self.file.flush()
                os.kill(os.getpid(), signal.SIGKILL)
            if self.left is not None:
                self.left -= len(data)
            return self.file.write(data)

        def __getattr__(self, name):
            return getattr(self.file, name)

    def dying_replace(source, target):
        die("before the renaming")
        replace(source, target)
        die("after the renaming")

    def dying_fsync(handle):
        die("before the flush")
        fsync(handle)

    files.os.replace, files.os.fsync = dying_replace, dying_fsync
    import minires.checkpoint
    import minires.train

    def dying_write(path, fill):
        write(path, lambda file: fill(Dying(file)))

    minires.checkpoint.atomic_write = dying_write


def run(folder, *, resume=False, place="", number=0, seed=0, kill_after=None):
    """One process. Returns (the digest it printed or None, seconds from its "start" to its end)."""
    arguments = [str(folder), str(int(resume)), place, str(number), str(seed)]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.train.kills", "child", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "MINIRES_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    first = process.stdout.readline()
    assert first == "start\n", first + process.stdout.read()
    started = time.perf_counter()
    if kill_after is not None:
        time.sleep(kill_after)
        process.kill()
    output = process.stdout.read()  # not communicate(), which overlooks what readline() has read ahead
    process.wait()
    seconds = time.perf_counter() - started
    if process.returncode == -signal.SIGKILL:
        return None, seconds
    assert process.returncode == 0, output
    return output.split()[-1], seconds


def trials(count, seed=0):
    """Yields (where the run was killed, whether there was a checkpoint, whether it ended with the right weights)."""
    from minires.checkpoint import checkpoints

    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as base:
        expected, seconds = run(Path(base) / "whole")
        for trial in range(count):
            folder = Path(base) / str(trial)
            if trial % 2:
                place = PLACES[trial // 2 % len(PLACES)]
                digest, _ = run(folder, place=place, number=rng.randrange(1, 8), seed=rng.randrange(1 << 30))
            else:
                place = "at a random time"
                digest, _ = run(folder, kill_after=rng.uniform(0, seconds))
                while digest is not None:  # too late: it was finished
                    shutil.rmtree(folder)
                    digest, seconds = run(folder, kill_after=rng.uniform(0, seconds))
            assert digest is None, f"{place}: not reached"
            found = bool(checkpoints(folder)) if folder.exists() else False
            digest, _ = run(folder, resume=found)
            yield place, found, digest == expected


def main(count=100, seed=0):
    table = Counter()
    for place, found, right in trials(count, seed):
        table[place, "killed"] += 1
        table[place, "no checkpoint yet"] += not found
        table[place, "same bits"] += right
    print(f"seed {seed}, {time.strftime('%Y-%m-%d')}\n")
    print("| killed | times | before the first checkpoint | same bits at the end |\n| --- | --- | --- | --- |")
    for place in dict.fromkeys(place for place, _ in table):
        row = (table[place, column] for column in ("killed", "no checkpoint yet", "same bits"))
        print(f"| {place} | {' | '.join(map(str, row))} |")


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        child_folder, resume, place, number, seed = sys.argv[2:]
        if place:
            die_inside_save(int(number), place, random.Random(int(seed)))
        train(Path(child_folder), bool(int(resume)))
    else:
        main(*map(int, sys.argv[1:]))
