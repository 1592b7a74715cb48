"""A team: the calling thread and its helpers, each of which is one rank of a group that shares a batch.

`team.run(size, work)` has every rank call work(group) and returns what they returned, in the order of the ranks. The
caller is rank 0. The ranks talk by `collect`, which hands each of them what all of them brought.

Whatever goes wrong, in any thread, ends the work of all: an exception, Ctrl-C in the caller. `run` raises it only
once nobody is at work any more, so that no thread is left writing into an array that the caller has given up.
"""

import os
import threading
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from queue import SimpleQueue
from typing import Any, Protocol
from weakref import finalize

from minires.backend import Array, array_namespace


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
        every = array_namespace(rows).concatenate(self.collect(rows))
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
        ended, outcomes, interrupted = SimpleQueue(), [None] * size, False
        job = partial(_take_a_rank, deque(range(1, size)), groups, work, outcomes, ended)
        while None in outcomes:
            try:
                if interrupted or outcomes[0] is None:  # once more where it is not known whether it has been done
                    for _ in range(size - 1):
                        self._jobs.put([partial(copy_context().run, job)])  # np.errstate holds on all threads
                if outcomes[0] is None:
                    outcomes[0] = _attempt(groups[0], work)
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


def _attempt(group: ThreadGroup, work: Callable[[ThreadGroup], Any]) -> tuple[Any, BaseException | None]:
    try:
        return work(group), None
    except BaseException as error:
        group.send(Ended)
        return None, error


def _take_a_rank(ranks: deque[int], groups: Any, work: Any, outcomes: list[Any], ended: SimpleQueue[int]) -> None:
    """Does the work of a rank that no helper has drawn yet, if there is one."""
    try:
        rank = ranks.popleft()
    except IndexError:
        return
    outcomes[rank] = _attempt(groups[rank], work)
    ended.put(rank)


def _help(jobs: SimpleQueue[Any]) -> None:
    while (job := jobs.get()) is not None:
        job.pop()()
        job = None  # and with it, its arrays


def _dismiss(jobs: SimpleQueue[Any], helpers: int) -> None:
    for _ in range(helpers):
        jobs.put(None)
