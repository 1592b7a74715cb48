"""The four numbers of a network, measured: `mpiexec -n 2 python -m minires bench --network`.

alpha and beta, of the line between two ranks, by ping-pong.

Rank 0 sends n bytes, the other rank sends them back; half of that time is a message. The median over many turns is
t(n), and alpha + beta n is fitted to it for sizes from nothing to 4 MB, each relative error counting the same. Real
lines are not quite straight: MPI copies short messages at once and asks before it sends long ones (eager and
rendezvous), so the fit is off by a third somewhere between. `Fit.worst` says by how much.

overhead and gamma, from sums over all ranks: what they take beyond their messages, as `cost.py` counts these. Ranks
that share cores get in each other's way, so start as many on each machine as are to be foretold.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minires.parallel.cost import Network, all_reduce
from minires.parallel.group import MPIGroup

SIZES = (0, 8, 64, 512, 4096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304)
TURN_SECONDS, MOST_TURNS, LEAST_TURNS = 0.1, 1000, 20
"""Each size is sent to and fro for about so many seconds."""

SUM_SIZES, SUM_TURNS = (264, 1032, 1_078_888), 50
"""BatchNorm's sums of 16 and of 64 channels, and the gradients of resnet20."""


@dataclass(frozen=True)
class Fit:
    """The fitted network, and what it was fitted to: seconds of a message by its bytes. places: the two machines."""

    network: Network
    seconds: dict[int, float]
    places: tuple[str, str]

    @property
    def where(self) -> str:
        """Between which machines."""
        return (
            f"between two ranks on {self.places[0]}"
            if len({*self.places}) == 1
            else "between " + " and ".join(self.places)
        )

    @property
    def worst(self) -> tuple[int, float]:
        """(bytes, fitted / measured - 1) where the line is farthest off."""
        errors = {size: self.network.message(size) / taken - 1 for size, taken in self.seconds.items()}
        return max(errors.items(), key=lambda item: abs(item[1]))


def measure_network(comm: Any, sizes: Sequence[int] = SIZES) -> Fit | None:
    """Ping-pong between the first and the last rank of an mpi4py communicator. Every rank has to call it.

    Returns the fit on rank 0, None on the others. Raises ValueError where there is only one rank.
    """
    if comm.size < 2:
        raise ValueError("a ping-pong needs two ranks")
    other = {0: comm.size - 1, comm.size - 1: 0}.get(comm.rank)
    places = comm.gather(platform.node(), root=0)
    seconds = {} if other is None else {size: _message(comm, other, size) for size in sizes}
    meet_asleep(comm)
    return Fit(fit(seconds), seconds, (places[0], places[-1])) if comm.rank == 0 else None


def meet_asleep(comm: Any) -> None:
    """Waits until all ranks are here. MPI's own waiting never sleeps: it would take the cores from those at work."""
    meeting = comm.Ibarrier()
    while not meeting.Test():
        time.sleep(0.01)


def _message(comm: Any, other: int, size: int) -> float:
    """Median seconds of a message of `size` bytes, one way."""
    leads = comm.rank == 0
    buffer = np.zeros(size, np.uint8)

    def turn() -> float:
        start = time.perf_counter()
        for sends in (leads, not leads):
            comm.Send(buffer, other) if sends else comm.Recv(buffer, other)
        return time.perf_counter() - start

    turn()
    turns = np.array(min(MOST_TURNS, max(LEAST_TURNS, int(TURN_SECONDS / turn()))))
    if leads:
        comm.Send(turns, other)
    else:
        comm.Recv(turns, other)
    return float(np.median([turn() for _ in range(int(turns))])) / 2


def measure_sums(group: MPIGroup, sizes: Sequence[int] = SUM_SIZES) -> dict[int, float]:
    """Median seconds of a sum of so many bytes over all ranks. Every rank has to call it, and gets the same."""
    found = {}
    for size in sizes:
        rows, turns = np.zeros((1, size // 8)), []
        for _ in range(SUM_TURNS):
            group.comm.Barrier()
            start = time.perf_counter()
            group.sum(rows)
            turns.append(time.perf_counter() - start)
        found[size] = float(np.median(np.max(group.comm.allgather(turns), axis=0)))
    return found


def fit(seconds: dict[int, float]) -> Network:
    """alpha and beta that make the sum of squares of (alpha + beta n) / t(n) - 1 least; neither is negative."""
    return Network(*_line([*seconds], [*seconds.values()], [*seconds.values()]))


def with_sums(network: Network, sums: dict[int, float], ranks: int) -> Network:
    """The network with overhead and gamma besides: those that foretell sums of so many bytes over the ranks best."""
    beyond = [taken - all_reduce(ranks, size, network)[0] for size, taken in sums.items()]
    added = [(ranks - 1) / ranks * size for size in sums]
    return Network(network.alpha, network.beta, *_line(added, beyond, [*sums.values()]))


def _line(x: Sequence[float], y: Sequence[float], unit: Sequence[float]) -> tuple[float, float]:
    """a and b that make the sum of squares of (a + b x - y) / unit least, none of them negative."""
    x, y, unit = (np.array(values, float) for values in (x, y, unit))
    columns = np.stack([1 / unit, x / unit], axis=1)
    scale = columns.max(axis=0)
    a, b = np.linalg.lstsq(columns / scale, y / unit, rcond=None)[0] / scale
    return max(0.0, float(a)), max(0.0, float(b))
