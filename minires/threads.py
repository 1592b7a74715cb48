"""All of the threading: how many threads there are, BLAS at one thread meanwhile, and the team that shares a batch.

NumPy releases Python's global lock inside its loops and inside BLAS, so threads that work on different images run
side by side. BLAS must then work on one thread: its own threads would compete with ours for the same cores.

A team is the calling thread and its helpers, each of which is one rank of a group. `team.run(size, work)` has every
rank call work(group) and returns what they returned, in the order of the ranks; the caller is rank 0. The ranks talk
by `collect`, which hands each of them what all of them brought.

Whatever goes wrong, in any thread, ends the work of all: an exception, Ctrl-C in the caller. `run` raises it only
once nobody is at work any more, so that no thread is left writing into an array that the caller has given up.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from functools import partial
from itertools import pairwise
from queue import SimpleQueue
from typing import Any, Protocol
from weakref import WeakKeyDictionary, finalize

from minires.backend import Array, array_namespace


def num_threads() -> int:
    """The number of threads that share a batch: MINIRES_NUM_THREADS, or else the cores this process may use.

    Raises ValueError unless MINIRES_NUM_THREADS is a whole number of at least 1.
    """
    wanted = os.environ.get("MINIRES_NUM_THREADS")
    if wanted is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not (wanted.isascii() and wanted.isdigit()) or int(wanted) < 1:
        raise ValueError(f"MINIRES_NUM_THREADS is {wanted!r}; expected a whole number of at least 1")
    return int(wanted)


_locks: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


def lock_of(thing: Any) -> Any:
    """The one lock that belongs to an object for as long as it lives: who holds it is alone with the object."""
    return _locks.setdefault(thing, threading.Lock())


class _Blas:
    """The BLAS libraries of this process, and how many blocks of code hold them at one thread."""

    def __init__(self) -> None:
        """Also for a forked child: it has one thread, and a lock that another thread held would stay locked."""
        self.lock, self.holders = threading.Lock(), 0
        self.libraries: list[Any] | None = None
        self.before: list[int] | None = None
        """Their threads as they were; kept until they have them back, since some obey one thread alone."""

    def set(self, threads: list[int]) -> None:
        for library, number in zip(self.libraries, threads, strict=True):
            library.set_num_threads(number)


_blas = _Blas()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_blas.__init__)


@contextmanager
def blas_at_one_thread() -> Iterator[None]:
    """Holds BLAS at one thread, for as long as the block (or the function it decorates) runs.

    Several threads may be inside at once: the first one sets the limit, the last one lifts it.
    """
    with _blas.lock:
        if _blas.libraries is None:
            from threadpoolctl import ThreadpoolController

            _blas.libraries = ThreadpoolController().select(user_api="blas").lib_controllers
        _blas.before = _blas.before or [library.num_threads for library in _blas.libraries]
        _blas.holders += 1
        _blas.set([1] * len(_blas.before))
    try:
        yield
    finally:
        with _blas.lock:
            _blas.holders -= 1
            if _blas.holders == 0:
                _blas.set(_blas.before)
                if [library.num_threads for library in _blas.libraries] == _blas.before:
                    _blas.before = None


class Group(Protocol):
    """What a pass needs of the ranks that share a batch, threads here and perhaps processes elsewhere.

    rank: which of them this one is, from 0. size: how many they are.
    """

    rank: int
    size: int

    def sum(self, rows: Array) -> Array:
        """rows (n, K), one for each image of this rank -> (K,), the sum over the images of all ranks.

        Every rank calls this at the same point of its work and receives the same bits. The rows are added in the
        order of the batch, so that the bits do not depend on how the batch is divided.
        """


class Alone:
    """A group of one rank, which has the whole batch. See `minires.parallel.MPIGroup` for the others."""

    rank, size = 0, 1

    def sum(self, rows: Array) -> Array:
        """(n, K) -> (K,)."""
        return rows.sum(axis=0)

    def share(self, count: int) -> slice:
        """The part of range(count) that falls to this rank."""
        return slice(0, count)

    def broadcast(self, arrays: Any = None, state: Any = None) -> tuple[Any, Any]:
        """What rank 0 has."""
        return arrays, state


def divide(start: int, stop: int, parts: int) -> list[slice]:
    """range(start, stop) in `parts` contiguous slices of nearly equal length, none of them empty."""
    parts = max(1, min(parts, stop - start))
    ends = [start + (stop - start) * i // parts for i in range(parts + 1)]
    return [slice(*both) for both in pairwise(ends)]


class Ended(Exception):
    """Another rank has failed: the work ends here, too."""


class ThreadGroup:
    """One rank's view of a run. outer: the group that this process is a rank of, if there is one."""

    def __init__(self, rank: int, boxes: list[list[SimpleQueue[Any]]], outer: Group | None = None) -> None:
        self.rank, self.size, self._boxes, self._outer = rank, len(boxes), boxes, outer

    def collect(self, value: Any) -> list[Any]:
        """What each rank brought, in their order. Every rank has to call it."""
        self.send(value)
        found = [value if r == self.rank else self._boxes[self.rank][r].get() for r in range(self.size)]
        if any(each is Ended for each in found):
            raise Ended
        return found

    def send(self, value: Any) -> None:
        """Puts a value into the boxes of all others."""
        for other in range(self.size):
            if other != self.rank:
                self._boxes[other][self.rank].put(value)

    def sum(self, rows: Array) -> Array:
        """(n, K) -> (K,): see `Group`. The threads put their rows together, and the outer group adds them."""
        parts = self.collect(rows)
        every = rows if len(parts) == 1 else array_namespace(rows).concatenate(parts)
        if self._outer is None:  # each does the small sum itself, which is quicker than to wait for it
            return every.sum(axis=0)
        return self.collect(self._outer.sum(every) if self.rank == 0 else None)[0]


class Team:
    """`size` ranks, of which all but the first have a thread of their own that waits for work."""

    def __init__(self, size: int, outer: Group | None = None) -> None:
        self.size, self.outer = size, outer
        self._process, self._jobs, self._helpers = -1, SimpleQueue(), 0

    def run(self, size: int, work: Callable[[ThreadGroup], Any]) -> list[Any]:
        """[work(group of rank 0), work(group of rank 1), ...] for the first `size` ranks.

        Raises the exception of the lowest rank that failed, after all have ended.
        """
        if self.at_most(size) < size:
            raise RuntimeError(f"the system has no {size} threads to give")
        boxes = [[SimpleQueue() for _ in range(size)] for _ in range(size)]
        groups = [ThreadGroup(rank, boxes, self.outer) for rank in range(size)]
        ended, outcomes, interrupted, ranks = SimpleQueue(), [None] * size, False, deque(range(1, size))

        def attempt(rank: int) -> None:
            try:
                outcomes[rank] = work(groups[rank]), None
            except BaseException as error:
                groups[rank].send(Ended)
                outcomes[rank] = None, error

        def take_a_rank() -> None:
            """Does the work of a rank that no helper has drawn yet, if there is one."""
            with suppress(IndexError):
                attempt(rank := ranks.popleft())
                ended.put(rank)

        while None in outcomes:
            try:
                if interrupted or outcomes[0] is None:  # once more where it is not known whether it has been done
                    for _ in range(size - 1):
                        self._jobs.put([partial(copy_context().run, take_a_rank)])  # np.errstate holds on all threads
                if outcomes[0] is None:
                    attempt(0)
                if None in outcomes:
                    ended.get()  # in any order; what counts is `outcomes`
            except BaseException as error:
                interrupted, outcomes[0] = True, (None, error)
                groups[0].send(Ended)
        errors = [error for _, error in outcomes if error is not None]
        results, outcomes[:] = [result for result, _ in outcomes], []
        try:
            if errors:
                raise next((error for error in errors if not isinstance(error, Ended)), errors[0])
        finally:
            errors.clear()  # their tracebacks lead back to them, and to the arrays
        return results

    def at_most(self, size: int) -> int:
        """`size`, or fewer if the system has no more threads to give. A forked process starts its own."""
        if self._process != os.getpid():
            self._process, self._jobs, self._helpers = os.getpid(), SimpleQueue(), 0
            finalize(self, _dismiss, self._jobs, self.size)
        while self._helpers < min(size, self.size) - 1:
            helper = threading.Thread(target=_help, args=(self._jobs,), name="minires helper", daemon=True)
            try:
                helper.start()
            except RuntimeError:
                break
            self._helpers += 1
        return min(size, self._helpers + 1)


def _help(jobs: SimpleQueue[Any]) -> None:
    while (job := jobs.get()) is not None:
        job.pop()()
        job = None  # and with it, its arrays


def _dismiss(jobs: SimpleQueue[Any], helpers: int) -> None:
    for _ in range(helpers):
        jobs.put(None)
