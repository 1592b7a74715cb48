"""What the ranks of `test_group.py` do: `mpiexec -n 3 python -m tests.parallel.group_programs NAME FOLDER`."""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from minires.parallel import MPIGroup


def rows_of(rank):
    """Rank r brings r rows, rank 0 none at all: seeded, so that the test can add them up itself."""
    return np.random.default_rng(rank).standard_normal((rank, 5))


def sums(group, folder):
    """Blocking sums with others under way, and what rank 0 broadcasts."""
    pending = [group.start_sum(np.full(3, k + group.rank, np.float32)) for k in range(4)]
    total = group.sum(rows_of(group.rank))
    later = np.stack([each.wait() for each in pending])
    imaginary = group.sum(np.full((1, 2), 1j * (group.rank + 1)))
    mine = {"weight": np.full((2, 3), group.rank), "none": np.empty((0, 4), np.float32)} if group.rank in (0, 1) else {}
    arrays, state = group.broadcast(mine, {"from": group.rank})
    share = group.share(10)
    np.savez(
        folder / f"{group.rank}.npz",
        total=total,
        later=later,
        imaginary=imaginary,
        weight=arrays["weight"],
        empty=np.array(arrays["none"].shape),
        source=state["from"],
        share=[share.start, share.stop],
        here=group.ranks_here,
    )


def stop(group, folder):
    """Rank 1 fails, the others wait for it."""
    if group.rank == 1:
        raise ValueError("the disk of this machine is full")
    group.sum(np.ones((1, 1)))


def all_stop(group, folder):
    raise ValueError("no such data set")


def killed(group, folder):
    if group.rank == group.size - 1:
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGKILL)
    while True:
        group.sum(np.ones((1, 1)))


def late(group, folder):
    """Rank 1 comes two seconds after rank 0, which says how much of a core its waiting took."""
    waits = folder / "rank 0 waits"
    wall, cpu = time.perf_counter(), time.process_time()
    if group.rank == 0:
        waits.touch()
    else:
        while not waits.exists():
            time.sleep(0.01)
        time.sleep(2)
    group.sum(np.ones((1, 1)))
    if group.rank == 0:
        print(time.perf_counter() - wall, time.process_time() - cpu)


if __name__ == "__main__":
    with MPIGroup() as the_group:
        globals()[sys.argv[1]](the_group, Path(sys.argv[2]))
