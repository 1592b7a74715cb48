"""Many small runs on the ranks of an MPI job: a sweep over initializers, or the grading of a class.

    mpiexec -n 9 python -m minires compare --out runs/compare            on the machines that mpiexec knows of
    mpiexec -n 9 python -m mpi4py.futures -m minires compare             the same

A sweep is parallel without any collective: its tasks know nothing of each other. So rank 0 hands them out, one at a
time, to whichever rank is free; here eight ranks compute. Each task runs on one thread and draws its numbers from its
own seed: on machines of one kind the results have the same bits for any number of ranks. (Another processor may get
another kernel of BLAS, which adds in another order.)

Rank 0 alone writes, so only it needs to see the output's folder; submissions to be graded lie in a folder that all
machines see.

A rank that dies ends the whole job, as MPI has it. What was finished is kept, and the same command goes on there.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Executor

SIZES = ("PMI_SIZE", "PMIX_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
"""Where MPICH, Open MPI and their kin tell a process how many ranks there are."""


def ranks_started() -> int:
    """How many ranks mpiexec has started, from the environment: who runs without it need not load MPI."""
    found = next((os.environ[name] for name in SIZES if name in os.environ), "1")
    return int(found) if found.isdigit() else 1


def lead_all_ranks(lead: Callable[[Executor | None], int], jobs: int | None) -> int:
    """lead(executor) on rank 0, where `executor` computes on the other ranks, which return 0 once that is done.

    With a single rank, or without mpiexec, lead(None). jobs: what --jobs says, or None.

    Raises ValueError where mpiexec has started several ranks and mpi4py is missing, or `jobs` is given as well.
    """
    if ranks_started() == 1:
        return lead(None)
    if jobs is not None:
        raise ValueError(f"--jobs counts processes on one machine, and mpiexec has started {ranks_started()} ranks")
    try:
        from mpi4py import MPI
        from mpi4py.futures import MPICommExecutor
    except ImportError:
        raise ValueError(f"mpiexec has started {ranks_started()} ranks, and there is no mpi4py to join them") from None
    from minires.workers import become_worker

    with MPICommExecutor(MPI.COMM_WORLD, root=0, initializer=become_worker) as executor:
        return 0 if executor is None else lead(executor)
