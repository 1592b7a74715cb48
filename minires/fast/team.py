"""A team: the calling thread and its helpers, each of which is one rank of a group.

`team.run(work)` has every rank call work(group) and returns what they returned, in the order of the ranks. The caller
is rank 0. The ranks talk by `collect`, which hands each of them what all of them brought.

Whatever goes wrong, in any thread, ends the work of all: an exception, Ctrl-C in the caller. `run` raises it only
once nobody is at work any more, so that no thread is left writing into an array that the caller has given up.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from queue import SimpleQueue
from typing import Any
from weakref import finalize

from minires.backend import Array, array_namespace
from minires.fast.group import Alone, Group


class Ended(Exception):
    """Another rank has failed: the work ends here, too."""


class ThreadGroup:
    """One rank's view of a run: what it sends to the others and receives from them."""

    def __init__(self, rank: int, boxes: list[list[SimpleQueue[Any]]], outer: Group) -> None:
        self.rank, self.size = rank, len(boxes)
        self._boxes, self._outer = boxes, outer

    def collect(self, value: Any) -> list[Any]:
        """What each rank brought, in their order. Every rank has to call it."""
        for other in range(self.size):
            if other != self.rank:
                self._boxes[other][self.rank].put(value)
        found = [value if r == self.rank else self._boxes[self.rank][r].get() for r in range(self.size)]
        if any(value is Ended for value in found):
            raise Ended
        return found

    def sum(self, rows: Array) -> Array:
        """(n, K) -> (K,): see `Group`. Threads put their rows together; the outer group adds them."""
        if self.size == 1:
            return self._outer.sum(rows)
        every = self.collect(rows)
        xp = array_namespace(rows)
        if isinstance(self._outer, Alone):  # each does the small sum itself, which is quicker than to wait for it
            return self._outer.sum(xp.concatenate(every))
        return self.collect(self._outer.sum(xp.concatenate(every)) if self.rank == 0 else None)[0]

    def end(self) -> None:
        """Tells the others that this rank has failed."""
        for other in range(self.size):
            self._boxes[other][self.rank].put(Ended)


Work = Callable[[ThreadGroup], Any]


class _Job:
    """One piece of work for all ranks but the caller's. A helper that comes to it draws a rank."""

    def __init__(self, work: Work, groups: list[ThreadGroup]) -> None:
        self.work, self.groups = work, groups
        self.ranks = deque(range(1, len(groups)))
        self.outcomes: list[tuple[Any, BaseException | None] | None] = [None] * len(groups)
        self.ended: SimpleQueue[int] = SimpleQueue()

    def help(self) -> None:
        """Does the work of a rank that nobody has drawn yet, if there is one."""
        try:
            rank = self.ranks.popleft()
        except IndexError:
            return
        self.outcomes[rank] = self.do(rank)
        self.ended.put(rank)

    def do(self, rank: int) -> tuple[Any, BaseException | None]:
        try:
            return self.work(self.groups[rank]), None
        except BaseException as error:
            self.groups[rank].end()
            return None, error


class Team:
    """`size` ranks, of which all but the first have a thread of their own that waits for work.

    outer: the group that this process is a rank of, if the batch is shared among several processes.
    """

    def __init__(self, size: int, outer: Group | None = None) -> None:
        self.size, self.outer = size, outer or Alone()
        self._process, self._jobs, self._helpers = -1, SimpleQueue(), 0

    def run(self, size: int, work: Work) -> list[Any]:
        """[work(group of rank 0), work(group of rank 1), ...] for the first `size` ranks.

        Raises the exception of the lowest rank that failed, after all have ended.
        """
        if self.at_most(size) < size:
            raise RuntimeError(f"the system has not enough threads to give for {size} of them")
        boxes = [[SimpleQueue() for _ in range(size)] for _ in range(size)]
        groups = [ThreadGroup(rank, boxes, self.outer) for rank in range(size)]
        job = _Job(work, groups)
        interrupted: list[BaseException] = []
        while None in job.outcomes:
            try:
                if job.outcomes[0] is None:
                    self._hand_over(job)
                    job.outcomes[0] = job.do(0)
                elif interrupted:
                    self._hand_over(job)  # perhaps it had not been yet
                if None in job.outcomes:
                    job.ended.get()  # in any order; what counts is `outcomes`
            except BaseException as error:
                interrupted.append(error)
                groups[0].end()
                job.outcomes[0] = None, error
        errors = interrupted + [error for _, error in job.outcomes if error is not None]
        outcomes, job.outcomes = job.outcomes, []
        if errors:
            try:
                raise next((error for error in errors if not isinstance(error, Ended)), errors[0])
            finally:
                errors.clear()  # their tracebacks lead back to them, and to the arrays
                outcomes.clear()
        return [result for result, _ in outcomes]

    def _hand_over(self, job: _Job) -> None:
        for _ in job.groups[1:]:
            self._jobs.put([partial(copy_context().run, job.help)])  # np.errstate holds on all threads

    def at_most(self, size: int) -> int:
        """`size`, or fewer if the system has no more threads to give. A forked process starts its own."""
        if self._process != os.getpid():
            self._process, self._jobs, self._helpers = os.getpid(), SimpleQueue(), 0
            finalize(self, _dismiss, self._jobs, self.size)
        while self._helpers < min(size, self.size) - 1:
            helper = threading.Thread(target=_wait_for_work, args=(self._jobs,), name="minires helper", daemon=True)
            try:
                helper.start()
            except RuntimeError:
                break
            self._helpers += 1
        return min(size, self._helpers + 1)


def _wait_for_work(jobs: SimpleQueue[Any]) -> None:
    while (job := jobs.get()) is not None:
        job.pop()()
        job = None  # and with it, its arrays


def _dismiss(jobs: SimpleQueue[Any], helpers: int) -> None:
    for _ in range(helpers):
        jobs.put(None)
