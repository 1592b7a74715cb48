"""The step of P ranks message by message: what the formulas of `cost.py` leave out.

Each rank is a generator that yields what it does next, and the simulator resumes it when that is done:

    yield 0.003                 compute for 3 ms
    yield mail                  wait until the message is there (a `Mail`)

Events wait in a heap, ordered by time; the clock jumps from one to the next. A rank's line sends one message at a time,
for alpha + beta n seconds each, and those of a bucket and of a BatchNorm stand in one queue: so they delay each other,
which the formulas do not know. Nor do they know of ranks that are slow by chance: at each sum all wait for the last
one, and the mean of the slowest of P is above the mean.

The sums are carried out as `cost.py` describes them, round by round, by the algorithm that is the quickest there.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator
from itertools import count
from typing import Any

import numpy as np

from minires.parallel.cost import Compute, Network, Work, all_reduce, rounds
from minires.parallel.gradients import BUCKET_BYTES

Process = Generator[Any, None, None]


class Mail:
    """A message under way, or the end of a process: whoever waits for it is resumed when it is there."""

    def __init__(self) -> None:
        self.there, self.waiting = False, list[Callable[[], None]]()


class Simulator:
    """The clock, the events to come, and the lines of the ranks."""

    def __init__(self, network: Network) -> None:
        self.now, self.network = 0.0, network
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = count()
        self._line_free: defaultdict[int, float] = defaultdict(float)
        self._mail: defaultdict[Any, Mail] = defaultdict(Mail)

    def at(self, when: float, call: Callable[[], None]) -> None:
        """Has `call` made at that time."""
        heapq.heappush(self._events, (when, next(self._number), call))

    def run(self) -> float:
        """Until nothing is left to do -> the time then, in seconds."""
        while self._events:
            self.now, _, call = heapq.heappop(self._events)
            call()
        return self.now

    def start(self, process: Process) -> Mail:
        """Lets a process begin now; the mail arrives when it has ended."""
        ended = Mail()

        def resume() -> None:
            try:
                wish = next(process)
            except StopIteration:
                self._deliver(ended)
                return
            if not isinstance(wish, Mail):
                self.at(self.now + wish, resume)
            elif wish.there:
                self.at(self.now, resume)
            else:
                wish.waiting.append(resume)

        self.at(self.now, resume)
        return ended

    def send(self, source: int, target: int, tag: Any, size: float) -> Mail:
        """Puts a message into the line of `source` -> its mail, which arrives when the line has carried it."""
        begin = max(self.now, self._line_free[source])
        self._line_free[source] = end = begin + self.network.message(size)
        mail = self.mail(source, target, tag)
        self.at(end, lambda: self._deliver(mail))
        return mail

    def mail(self, source: int, target: int, tag: Any) -> Mail:
        """The message with this tag, which may not have been sent yet."""
        return self._mail[source, target, tag]

    def _deliver(self, mail: Mail) -> None:
        mail.there = True
        for resume in mail.waiting:
            self.at(self.now, resume)
        mail.waiting.clear()


def all_reduce_on(sim: Simulator, rank: int, ranks: int, size: float, tag: Any) -> Process:
    """What one rank does in a sum of `size` bytes: see `cost.py`."""
    if ranks == 1:
        return
    yield sim.network.overhead
    name = all_reduce(ranks, size, sim.network)[1]
    if name == "ring":
        yield from _swap_all(sim, rank, _ring(rank, ranks, size), tag)
        return
    k = rounds(ranks)
    excess = ranks - 2**k
    partner = rank + 2**k if rank < excess else rank - 2**k if rank >= 2**k else None
    if partner is not None:  # one of the two sends its vector, the other one goes on for both
        yield _one_way(sim, max(rank, partner), min(rank, partner), (tag, "in"), size, rank)
        yield size * sim.network.gamma if rank < partner else 0.0
    if rank < 2**k:
        yield from _swap_all(sim, rank, _tree(rank, k, size) if name == "tree" else _halving(rank, k, size), tag)
    if partner is not None:
        yield _one_way(sim, min(rank, partner), max(rank, partner), (tag, "out"), size, rank)


Swap = tuple[int, int, float, bool]
"""To whom, from whom, how many bytes, and whether those that come are added."""


def _ring(rank: int, ranks: int, size: float) -> Iterator[Swap]:
    for number in range(2 * (ranks - 1)):
        yield (rank + 1) % ranks, (rank - 1) % ranks, size / ranks, number < ranks - 1


def _tree(rank: int, k: int, size: float) -> Iterator[Swap]:
    for bit in range(k):
        yield rank ^ 2**bit, rank ^ 2**bit, size, True


def _halving(rank: int, k: int, size: float) -> Iterator[Swap]:
    for number, bit in enumerate((*range(k), *reversed(range(k)))):
        yield rank ^ 2**bit, rank ^ 2**bit, size / 2 ** (bit + 1), number < k


def _swap_all(sim: Simulator, rank: int, swaps: Iterator[Swap], tag: Any) -> Process:
    """Sends, receives and adds, round by round."""
    for number, (target, source, size, adds) in enumerate(swaps):
        yield sim.send(rank, target, (tag, number), size)
        yield sim.mail(source, rank, (tag, number))
        if adds:
            yield size * sim.network.gamma


def _one_way(sim: Simulator, source: int, target: int, tag: Any, size: float, rank: int) -> Mail:
    return sim.send(source, target, tag, size) if rank == source else sim.mail(source, target, tag)


def simulate(
    work: Work,
    compute: Compute,
    images: int,
    ranks: int,
    network: Network,
    *,
    overlap: bool = True,
    synchronize: bool = True,
    bucket: int = BUCKET_BYTES,
    scatter: float = 0.0,
    seed: int = 0,
) -> float:
    """Seconds of a step, the share of the images of each rank as even as can be.

    scatter: each piece of compute between two sums takes a normally distributed time, with this standard deviation as a
    share of it (and never less than nothing).
    """
    sim, rng = Simulator(network), np.random.default_rng(seed)

    def rank_process(rank: int) -> Process:
        share = images * (rank + 1) // ranks - images * rank // ranks
        pending: list[Mail] = []
        line = Mail()
        line.there = True
        piece = 0.0
        for number, (what, amount) in enumerate(work.events(compute.seconds(share), bucket)):
            if what == "compute":
                piece += amount
                continue
            yield piece * max(0.0, 1 + scatter * float(rng.standard_normal())) if scatter else piece
            piece = 0.0
            reduction = all_reduce_on(sim, rank, ranks, amount, number)
            if what == "bucket":
                line = sim.start(_after(line, reduction))
                pending.append(line)
                if not overlap:
                    yield line
            elif synchronize:
                yield from reduction
        yield piece
        yield from pending

    for rank in range(ranks):
        sim.start(rank_process(rank))
    return sim.run()


def _after(before: Mail, process: Process) -> Process:
    yield before
    yield from process
