"""A group of processes that share each batch, and can add up what each of them has: `minires.threads.Group` over MPI.

    mpiexec -n 4 python program.py

starts `program.py` four times. Each process is a rank; `MPIGroup().rank` says which, `.size` how many there are. All
ranks run the same program and meet in its sums: a sum ends when every rank has called it.

Memory on a GPU goes through MPI as it is where MPI can read it, and otherwise by way of the host.

A rank that fails must take the others with it, or they would wait for it in their next sum for ever. So a program does
its work inside `with MPIGroup() as group:`. (A rank that is killed from outside is mpiexec's affair: it ends the rest.)
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
import traceback
import zlib
from collections.abc import Mapping
from typing import Any, NoReturn, Self

import numpy as np

from minires.backend import Array, array_namespace, to_device, to_numpy

EAGER_SECONDS, PAUSE_SECONDS = 2e-3, 2e-4
"""How long a waiting rank asks at every turn whether the sum is there; then it sleeps between two questions. MPI's own
wait never sleeps, and where there are more ranks than cores it holds up the rank that it is waiting for."""

GRACE_SECONDS = 1.0
"""What all ranks find wrong is said by rank 0 alone: the others give it so much time to end the job first."""


class MPIGroup:
    """The ranks of a communicator: those that mpiexec started, unless `comm` says otherwise.

    Raises RuntimeError where mpi4py or an MPI library is missing.
    """

    def __init__(self, comm: Any = None) -> None:
        try:
            from mpi4py import MPI
        except (ImportError, RuntimeError) as error:  # no mpi4py; no MPI library that it could load
            raise RuntimeError(
                f'several processes talk by MPI, which cannot be loaded ({error}): pip install -e ".[mpi]"'
            ) from error
        self._mpi, self.comm = MPI, (MPI.COMM_WORLD if comm is None else comm).Dup()
        self.rank, self.size = self.comm.rank, self.comm.size
        neighbors = self.comm.Split_type(MPI.COMM_TYPE_SHARED)
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        own, every = np.array(zlib.crc32(repr(cores).encode())), np.empty(neighbors.size, int)
        neighbors.Allgather(own, every)
        self.ranks_here = int((every == own).sum())
        """How many ranks share the cores of this one, itself included."""
        self.rank_here = neighbors.rank
        """The number of this rank among those on its machine."""
        neighbors.Free()

    def sum(self, rows: Array) -> Array:
        """rows (n, K), one for each image of this rank -> (K,), the sum over the images of all ranks.

        Every rank has to call it, and receives the same bits.
        """
        return self.start_sum(rows.sum(axis=0)).wait()

    def start_sum(self, array: Array) -> PendingSum:
        """Begins to add up every rank's `array`, all of one shape and dtype; `.wait()` gives the sum.

        The ranks have to begin their sums in the same order. What becomes of `array` afterwards is no matter.
        """
        return PendingSum(self, array)

    def share(self, count: int) -> slice:
        """The part of range(count) that falls to this rank: contiguous, of equal length but for one."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def threads(self, cores: int) -> int:
        """How many threads this rank has if those that share its cores divide them."""
        return max(1, cores // self.ranks_here)

    def broadcast(self, arrays: Mapping[str, Array] | None = None, state: Any = None) -> tuple[dict[str, Array], Any]:
        """Rank 0's arrays, and its `state` (what JSON can hold), on every rank; what the others bring is not looked at.

        The arrays come as NumPy's.
        """
        mine = {name: np.ascontiguousarray(to_numpy(array)) for name, array in (arrays or {}).items()}
        described = {name: (array.dtype.str, array.shape) for name, array in mine.items()}
        text = np.frombuffer(json.dumps([described, state]).encode(), np.uint8)
        length = np.array(len(text))
        wait(self.comm.Ibcast(length))
        text = text if self.rank == 0 else np.empty(int(length), np.uint8)
        wait(self.comm.Ibcast(text))
        described, state = json.loads(text.tobytes())
        if self.rank > 0:
            mine = {name: np.empty(shape, dtype) for name, (dtype, shape) in described.items()}
        for name in described:
            wait(self.comm.Ibcast(mine[name].reshape(-1).view(np.uint8)))
        return mine, state

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        """Waits for the others; if this rank has failed, says why and ends them all."""
        if error is None or (isinstance(error, SystemExit) and not error.code):
            wait(self.comm.Ibarrier())
        elif self.size > 1:
            self.abort("".join(traceback.format_exception(kind, error, trace)))

    def abort(self, message: str, code: int = 1) -> NoReturn:
        """Prints the message of this rank and ends all of them, with the exit code."""
        if self.rank > 0:
            time.sleep(GRACE_SECONDS)
        print(f"rank {self.rank} of {self.size}: {message.rstrip()}", file=sys.stderr, flush=True)
        self.comm.Abort(code)
        raise SystemExit(code)  # which nobody lives to see

    def reads_gpu_memory(self) -> bool:
        """Whether the MPI library takes arrays on a GPU as they are."""
        query = getattr(ctypes.CDLL(self._mpi.__file__), "MPIX_Query_cuda_support", None)  # MPICH and Open MPI have it
        return query is not None and query() == 1


def wait(request: Any) -> None:
    """Until MPI has done what was requested: first without a pause, then with some."""
    start = time.perf_counter()
    while not request.Test():
        if time.perf_counter() - start > EAGER_SECONDS:
            time.sleep(PAUSE_SECONDS)
        elif hasattr(os, "sched_yield"):
            os.sched_yield()


class PendingSum:
    """A sum over the ranks that is under way while this one works on."""

    def __init__(self, group: MPIGroup, array: Array) -> None:
        self.xp = xp = array_namespace(array)
        on_host = xp is np or not group.reads_gpu_memory()
        self.total = np.array(to_numpy(array), order="C") if on_host else xp.ascontiguousarray(array).copy()
        if not on_host:
            xp.cuda.get_current_stream().synchronize()  # MPI does not know what the GPU has yet to do
        self._request = group.comm.Iallreduce(group._mpi.IN_PLACE, self.total)

    def help_on(self) -> None:
        """Lets MPI work on it, which it does only while it is called."""
        self._request.Test()

    def wait(self) -> Array:
        """The sum, once all ranks have given their part: an array of the library that this rank's part was of."""
        wait(self._request)
        return to_device(self.total, self.xp)
