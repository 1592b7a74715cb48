"""Step times foretold by the cost model, beside measured ones. Run it on a quiet machine:

    mpiexec -n 1 python -m tests.parallel.measured_steps            resnet20 at batch 128, one thread a rank
    mpiexec -n 2 python -m tests.parallel.measured_steps
    mpiexec -n 4 python -m tests.parallel.measured_steps --asleep   ranks that sleep in place of computing

The model is given what one rank tells alone and what a ping-pong tells; no number of it is fitted to a step of several
ranks. alpha and beta: between the first and the last rank, before anything else; then overhead and gamma, by sums over
all ranks with nothing to do between them. Compute: fixed + images * per_image
through steps of 16 and of 64 images, which every rank takes at the same time and without a word to the others, since
the cores of a machine share its memory. Then the ranks train together, on 128 images.

Two cores hold two ranks. Four are tried with sleep in place of compute: resnet20's order of layers and its sums, the
time of each layer slept through. Sleeping wakes up late, and by chance, so here the time of a rank without the others
is measured first, and how much it scatters: the interquartile range of steps over 1.349 is a normal law's standard
deviation (and a few late steps do not move it); over the median, and times the square root of the number
of pieces that a step consists of, it is that of a piece. There are three steps: of 80 ms, of 20 ms, and of 5 ms, in
which communication is no small part.

"others": the processor time that other work took meanwhile, in cores. Where it is not near 0 the figures say nothing.
"""

from __future__ import annotations

import argparse
import os
import time

import numpy as np
from threadpoolctl import threadpool_limits

from minires import nn, optim
from minires.bench.compute import line
from minires.machine import keep_freed_memory
from minires.parallel import DataParallel, MPIGroup
from minires.parallel.cost import Compute, Network, Work, step, work_of
from minires.parallel.network import measure_network, measure_sums, with_sums
from minires.parallel.simulation import simulate

BATCH, STEPS = 128, 15
ALONE = (16, 64)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--asleep", action="store_true")
    asleep = parser.parse_args().asleep
    keep_freed_memory()
    with MPIGroup() as group, threadpool_limits(1):
        fit = measure_network(group.comm) if group.size > 1 else None
        sums = measure_sums(group)
        network: Network = group.comm.bcast(with_sums(fit.network, sums, group.size) if fit else Network(0.0, 0.0))
        work = work_of(nn.resnet20(), name="resnet20")
        if group.rank == 0 and fit:
            alpha, beta, overhead, gamma = (f"{1e6 * value:.3g}" for value in network)
            print(f"{group.size} ranks, us: alpha {alpha}, beta {beta} a byte; of sums {overhead} and {gamma} a byte")
        lines = of_sleep(group, work, network) if asleep else of_training(group, work, network)
        if group.rank == 0:
            print("\n".join(lines), flush=True)


def of_training(group, work, network):
    alone = MPIGroup(group._mpi.COMM_SELF)
    others = Others(group)
    seconds = {images: float(np.median(times(training_step(alone, images), group))) for images in ALONE}
    compute = line(seconds)
    found = [f"compute: {1000 * compute.fixed:.2f} ms + {1000 * compute.per_image:.3f} ms an image; {others}"]
    share = group.share(BATCH)
    for overlap in (True, False) if group.size > 1 else (True,):
        others = Others(group)
        measured = float(np.median(times(training_step(group, share.stop - share.start, overlap), group)))
        what = f"training, {'' if overlap else 'no '}overlap"
        found += tell(f"{what}; {others}", measured, work, compute, BATCH, group.size, network, overlap=overlap)
    return found


def of_sleep(group, work, network):
    found = []
    for planned in (0.08, 0.02, 0.005):
        steps = max(STEPS, int(1 / planned))  # short ones for a second, too: a burst of other work is shorter
        alone = times(sleeping_step(None, work, planned), group, steps)
        compute = Compute(float(np.median(alone)), 0.0)
        pieces = 1 + sum(what != "compute" for what, _ in work.events(planned))
        low, high = np.percentile(alone, [25, 75])
        scatter = float((high - low) / 1.349 / np.median(alone) * pieces**0.5)
        others = Others(group)
        measured = float(np.median(times(sleeping_step(group, work, planned), group, steps)))
        found += tell(
            f"asleep for {1000 * planned:.0f} ms; {others}",
            measured,
            work,
            compute,
            group.size,
            group.size,
            network,
            scatter=scatter,
        )
    return found


def times(run, group, steps=STEPS):
    """Seconds of steps that all ranks begin together: the slowest rank's."""
    taken = []
    for _ in range(steps + 3):
        group.comm.Barrier()
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return np.max(group.comm.allgather(taken[3:]), axis=0)


def training_step(group, images, overlap=True):
    """A step of resnet20, compiled, on so many images of this rank: forward, loss, backward, SGD."""
    rng = np.random.default_rng(group.rank)
    x, labels = rng.standard_normal((images, 3, 32, 32), dtype=np.float32), rng.integers(0, 10, images)
    fast, loss = DataParallel(nn.resnet20(), group, threads=1, overlap=overlap), nn.SoftmaxCrossEntropy()
    optimizer = optim.SGD(fast.parameters(), lr=0.01, momentum=0.9)

    def run():
        fast.zero_grad()
        loss.forward(fast.forward(x), labels)
        fast.backward(loss.backward())
        optimizer.step()

    return run


def sleeping_step(group, work: Work, compute: float):
    """The same order of compute and sums, the compute slept through. group None: without the sums."""
    events = [*work.events(compute)]
    arrays = {amount: np.zeros((1, int(amount) // 8)) for what, amount in events if what != "compute"}

    def run():
        piece, pending = 0.0, []
        for what, amount in events:
            if what == "compute":
                piece += amount
                continue
            time.sleep(piece)
            piece = 0.0
            if group and what == "norm":
                group.sum(arrays[amount])
            elif group:
                pending.append(group.start_sum(arrays[amount]))
        time.sleep(piece)
        for each in pending:
            each.wait()

    return run


def tell(what, measured, work, compute, images, ranks, network, scatter=0.0, **how):
    foretold = step(work, compute, images, ranks, network, **how)
    draws = [simulate(work, compute, images, ranks, network, scatter=scatter, seed=seed, **how) for seed in range(20)]
    off = [f"{1000 * t:.2f} ms ({t / measured - 1:+.1%})" for t in (foretold.seconds, float(np.mean(draws)))]
    yield (
        f"{ranks} ranks {what}: measured {1000 * measured:.2f} ms, foretold {off[0]}, simulated {off[1]}; "
        f"of it compute {1000 * foretold.compute:.2f}, norms {1000 * foretold.norms:.2f}, gradients "
        f"{1000 * foretold.gradients:.2f}" + (f"; scatter {scatter:.0%}" if scatter else "")
    )


class Others:
    """Processor time taken by processes that are not ours, on Linux."""

    def __init__(self, group):
        self.group, self.start = group, time.perf_counter()
        self.before = self.now()

    def now(self):
        with open("/proc/stat") as file:
            user, nice, system, _, _, *interrupts = map(int, file.readline().split()[1:9])
        own = sum(os.times()[:2])
        busy = (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")
        return busy - sum(self.group.comm.allgather(own))

    def __str__(self):
        """On every rank at the same place: all have to be asked."""
        return f"others {(self.now() - self.before) / (time.perf_counter() - self.start):.2f} cores"


if __name__ == "__main__":
    main()
