"""How long a step takes, shared by ranks and by threads: `mpiexec -n 2 python -m tests.parallel.timing`.

resnet20 at batch 128, float32, compiled. Steps of three kinds take turns, so that whatever slows the machine slows all
of them: rank 0 alone with two threads, while rank 1 sleeps; two ranks with one thread each, with overlap and without.
Medians of the slowest rank's times. "Others" is what other work took of the two cores meanwhile: where it is not near
0 the figures measure that work.
"""

import os
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np

from minires import nn, optim
from minires.machine import keep_freed_memory
from minires.parallel import DataParallel, MPIGroup
from minires.train import train_step

BATCH = 128
KINDS = ("1 rank x 2 threads", "2 ranks x 1 thread", "2 ranks x 1 thread, no overlap")


def step_of(group, threads):
    """A function that makes one training step of this group, with overlap or without."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((BATCH, 3, 32, 32), dtype=np.float32)[group.share(BATCH)]
    labels = rng.integers(0, 10, BATCH)[group.share(BATCH)]
    model = nn.resnet20(rng=0)
    engine, optimizer = DataParallel(model, group, threads=threads), optim.SGD(model.parameters())

    def run(overlap=True):
        engine.overlap = overlap
        train_step(engine, nn.SoftmaxCrossEntropy(), optimizer, x, labels)

    return run


def meet(group):
    """Waits for the others, asleep: MPI's own wait would take the core that another rank needs."""
    request = group.comm.Ibarrier()
    while not request.Test():
        time.sleep(0.005)


def busy():
    """Seconds for which the cores of this machine have worked, for whomever."""
    user, nice, system, _, _, interrupts, soft = map(int, Path("/proc/stat").read_text().split()[1:8])
    return (user + nice + system + interrupts + soft) / os.sysconf("SC_CLK_TCK")


def main(steps):
    keep_freed_memory()
    with MPIGroup() as group:
        alone, together = step_of(MPIGroup(group._mpi.COMM_SELF), 2), step_of(group, 1)
        kinds = dict(zip(KINDS, (alone, together, lambda: together(overlap=False)), strict=True))
        seconds = {kind: [] for kind in kinds}
        for number in range(-2, steps):
            if number == 0:
                start, before, own = time.perf_counter(), busy(), time.process_time()
            order = KINDS if number % 2 else KINDS[::-1]  # a step finds the caches as the one before left them
            for kind in order:
                meet(group)
                began = time.perf_counter()
                if kind != KINDS[0] or group.rank == 0:
                    kinds[kind]()
                taken = time.perf_counter() - began
                meet(group)
                taken = group.comm.allreduce(taken, group._mpi.MAX)
                if number >= 0:
                    seconds[kind].append(taken)
        wall = time.perf_counter() - start
        mine = group.comm.allreduce(time.process_time() - own)
        if group.rank == 0:
            threads, early, late = (median(seconds[kind]) * 1e3 for kind in KINDS)
            others = (busy() - before - mine) / wall
            print(f"resnet20, batch {BATCH}, {steps} steps of each kind; others {others:.2f} cores\n")
            print("| | ms | |\n| --- | ---: | --- |")
            print(f"| {KINDS[0]} | {threads:.1f} | |")
            print(f"| {KINDS[1]} | {early:.1f} | {early / threads:.3f} of 1 rank x 2 threads |")
            print(f"| {KINDS[2]} | {late:.1f} | overlap takes {early / late:.3f} of it |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 40)
