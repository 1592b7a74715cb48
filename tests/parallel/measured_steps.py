"""Step times foretold by the cost model, beside measured ones. Run it on a quiet machine:

    mpiexec -n 2 python -m tests.parallel.measured_steps            resnet20 at batch 128, one thread a rank
    mpiexec -n 4 python -m tests.parallel.measured_steps --asleep   ranks that sleep in place of computing

The model is given what one rank tells alone and what a ping-pong tells; no number of it is fitted to a step of several
ranks. alpha and beta: between the first and the last rank, before anything else. Compute: of one rank's share,
measured while every rank computes its own without a word to the others, since cores on one machine share its memory.

Two cores hold two ranks. Four are tried with sleep in place of compute: resnet20's order of layers and its sums, the
time of each layer slept through. Sleeping wakes up late, so here, too, a rank's time without the others is measured
first. With --asleep there are three steps: of 80 ms, of 20 ms, and of 5 ms, in which communication is no small part.

"others": the processor time that other work took meanwhile, in cores. Where it is not near 0 the figures say nothing.
"""

from __future__ import annotations

import argparse
import os
import time

import numpy as np
from threadpoolctl import threadpool_limits

from minires import nn
from minires.fast.compiled import Compiled
from minires.machine import keep_freed_memory
from minires.parallel import MPIGroup
from minires.parallel.cost import Compute, Network, Work, step, work_of
from minires.parallel.network import measure_network
from minires.parallel.simulation import simulate

BATCH, STEPS = 128, 12


class Alone:
    """A group of one."""

    rank, size = 0, 1

    def sum(self, rows):
        return rows.sum(axis=0)


def seconds_of(run, group, steps=STEPS):
    """The median time of a step, all ranks beginning together; the slowest rank's counts."""
    taken = []
    for _ in range(steps + 2):
        group.comm.Barrier()
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return float(np.median(np.max(group.comm.allgather(taken[2:]), axis=0)))


def training_step(group, images):
    """The compiled step of resnet20 on this rank's images, and the sum of the gradients after it."""
    rng = np.random.default_rng(group.rank)
    x, labels = rng.standard_normal((images, 3, 32, 32), dtype=np.float32), rng.integers(0, 10, images)
    model = nn.resnet20()
    fast = Compiled(model, threads=1, group=group if group.size > 1 else None)

    def run():
        fast.step(x, labels)
        if group.size > 1:
            group.start_sum(np.concatenate([p.grad.ravel() for p in model.parameters()])).wait()

    return run


def sleeping_step(group, work: Work, compute: float):
    """The same order of compute and sums, the compute slept through."""
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
            if group.size > 1:
                if what == "norm":
                    group.sum(arrays[amount])
                else:
                    pending.append(group.start_sum(arrays[amount]))
        time.sleep(piece)
        for each in pending:
            each.wait()

    return run


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

    def cores(self):
        return (self.now() - self.before) / (time.perf_counter() - self.start)


def tell(what, measured, work, compute, images, ranks, network, **how):
    foretold = step(work, Compute(compute, 0.0), images, ranks, network, **how)
    simulated = simulate(work, Compute(compute, 0.0), images, ranks, network, **how)
    off = [f"{1000 * t:7.2f} ms ({t / measured - 1:+5.1%})" for t in (foretold.seconds, simulated)]
    print(
        f"{what:26} measured {1000 * measured:7.2f} ms, foretold {off[0]}, simulated {off[1]}; "
        f"compute {1000 * compute:.2f}, norms {1000 * foretold.norms:.2f}, gradients {1000 * foretold.gradients:.2f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--asleep", action="store_true")
    asleep = parser.parse_args().asleep
    keep_freed_memory()
    with MPIGroup() as group, threadpool_limits(1):
        ranks, work = group.size, work_of(nn.resnet20(), name="resnet20")
        fit = measure_network(group.comm) if ranks > 1 else None
        network: Network = group.comm.bcast(fit.network if fit else Network(0.0, 0.0))
        if group.rank == 0 and ranks > 1:
            print(f"{ranks} ranks: alpha {1e6 * network.alpha:.2f} us, beta {1e9 * network.beta:.3f} ns a byte")
        single, others = Alone(), Others(group)
        single.comm = group.comm
        if asleep:
            for planned in (0.08, 0.02, 0.005):
                compute = seconds_of(sleeping_step(single, work, planned), group)
                measured = seconds_of(sleeping_step(group, work, planned), group)
                if group.rank == 0:
                    tell(
                        f"{ranks} ranks asleep for {1000 * planned:.0f} ms",
                        measured,
                        work,
                        compute,
                        ranks,
                        ranks,
                        network,
                    )
            print_others(group, others)
            return
        share = BATCH // ranks
        compute = seconds_of(training_step(single, share), group)
        measured = seconds_of(training_step(group, share), group)
        if group.rank == 0:
            tell(f"{ranks} ranks, {share} images each", measured, work, compute, BATCH, ranks, network, overlap=False)
        print_others(group, others)


def print_others(group, others):
    cores = others.cores()
    if group.rank == 0:
        print(f"others: {cores:.2f} cores", flush=True)


if __name__ == "__main__":
    main()
