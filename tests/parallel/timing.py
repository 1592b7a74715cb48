"""How long a step takes, shared by ranks and by threads: `python -m tests.parallel.timing`, on a machine at rest.

1 rank x 2 threads and 2 ranks x 1 thread, resnet20 at batch 128, each a process of its own, in turn. In the ranks,
steps with and without overlap alternate. Medians over all steps; the first two of each process are not counted.
"""

import json
import sys
import time
from statistics import median

import numpy as np

from minires import nn, optim
from minires.machine import keep_freed_memory
from minires.parallel import DataParallel, MPIGroup
from minires.train import train_step

from .launch import run

BATCH, ROUNDS = 128, 3


def measure(steps):
    """Seconds of each step by kind, printed by rank 0 as JSON."""
    keep_freed_memory()
    group, rng = MPIGroup(), np.random.default_rng(0)
    x = rng.standard_normal((BATCH, 3, 32, 32), dtype=np.float32)[group.share(BATCH)]
    labels = rng.integers(0, 10, BATCH)[group.share(BATCH)]
    model = nn.resnet20()
    engine, optimizer = DataParallel(model, group), optim.SGD(model.parameters())
    seconds = {"overlap": [], "no overlap": []}
    for step in range(-2, steps):
        kind = ("overlap", "no overlap")[step % 2]
        engine.overlap = kind == "overlap"
        group.comm.Barrier()
        start = time.perf_counter()
        train_step(engine, nn.SoftmaxCrossEntropy(), optimizer, x, labels)
        if step >= 0:
            seconds[kind].append(time.perf_counter() - start)
    if group.rank == 0:
        print(json.dumps(seconds))


def main(steps=24):
    found = {1: {"overlap": [], "no overlap": []}, 2: {"overlap": [], "no overlap": []}}
    for _ in range(ROUNDS):
        for ranks in (1, 2):
            code, output, _ = run(ranks, "tests.parallel.timing", "measure", steps, threads=2 // ranks)
            assert code == 0, output
            for kind, seconds in json.loads(output.splitlines()[-1]).items():
                found[ranks][kind] += seconds
    threads = median(found[1]["overlap"] + found[1]["no overlap"])
    early, late = (median(found[2][kind]) for kind in ("overlap", "no overlap"))
    print(f"resnet20, batch {BATCH}, medians of {ROUNDS} x {steps} steps and of half as many\n")
    print("| | ms | against |\n| --- | ---: | ---: |")
    print(f"| 1 rank x 2 threads | {threads * 1e3:.1f} | |")
    print(f"| 2 ranks x 1 thread | {early * 1e3:.1f} | {early / threads:.3f} of 1 rank x 2 threads |")
    print(f"| 2 ranks x 1 thread, no overlap | {late * 1e3:.1f} | overlap takes {early / late:.3f} of it |")


if __name__ == "__main__":
    measure(int(sys.argv[2])) if sys.argv[1:2] == ["measure"] else main(*map(int, sys.argv[1:]))
