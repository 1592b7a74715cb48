"""Many tasks on all cores, where nothing that was computed is lost.

    for task, result in each_result(function, tasks, workers=2):
        ...                                  # as they come; a task that failed gives a `Failure` in place of a result

A task that raises, or whose process is killed from outside, fails alone: a new process takes the next one. Whoever
stops reading (Ctrl-C, an error) stops the work. And however this process ends, kill -9 included, its workers end too:
each of them waits for its parent's end.

Each task has one thread, however many workers there are: so its result does not depend on their number. On several
machines the workers are the ranks of an MPI job, see `minires.parallel.sweep`.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, as_completed
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from threadpoolctl import threadpool_limits


class Failure(NamedTuple):
    """Why a task has no result, as one sentence."""

    reason: str


def each_result(
    function: Callable[[Any], Any], tasks: Iterable[Any], workers: int, executor: Executor | None = None
) -> Iterator[tuple[Any, Any]]:
    """(task, function(task) or a `Failure`) of each task, in the order in which they end.

    `function` and tasks are sent to processes that start afresh, so they must be picklable. A single worker is this
    process itself: a browser and a GPU have no use for a second one. An executor has workers of its own.
    """
    if executor is not None:
        yield from _of_executor(executor, function, tasks)
        return
    if workers == 1:
        with _one_thread():
            yield from ((task, _attempt(function, task)) for task in tasks)
        return
    from multiprocessing.connection import wait

    waiting, busy = deque(tasks), {}
    idle: list[_Worker] = []
    try:
        while waiting or busy:
            while waiting and len(busy) < workers:
                worker, task = idle.pop() if idle else _Worker(function), waiting.popleft()
                with suppress(OSError):  # it may just have been killed: then our end of the line says so below
                    worker.connection.send(task)
                busy[worker.connection] = worker, task
            for connection in wait(list(busy)):
                worker, task = busy.pop(connection)
                try:
                    result = connection.recv()
                    idle.append(worker)
                except (EOFError, OSError):
                    result = Failure(worker.epitaph())
                yield task, result
    finally:
        for worker in (*idle, *(worker for worker, _ in busy.values())):
            worker.process.kill()
            worker.process.join()


def _of_executor(executor: Executor, function: Callable[[Any], Any], tasks: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    waiting = {executor.submit(_attempt, function, task): task for task in tasks}
    try:
        for future in as_completed([*waiting]):
            task = waiting.pop(future)
            yield task, _attempt(lambda _, future=future: future.result(), task)
    finally:
        for future in waiting:
            future.cancel()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Within the block this process works as a worker does, on one thread."""
    before = os.environ.get("MINIRES_NUM_THREADS")
    os.environ["MINIRES_NUM_THREADS"] = "1"
    try:
        with threadpool_limits(1):
            yield
    finally:
        if before is None:
            os.environ.pop("MINIRES_NUM_THREADS", None)
        else:
            os.environ["MINIRES_NUM_THREADS"] = before


def become_worker() -> None:
    """From here on this process works on one thread; for processes that do nothing else."""
    import numpy  # noqa: F401 - its BLAS can be limited only once it is loaded

    from minires.machine import keep_freed_memory

    os.environ["MINIRES_NUM_THREADS"] = "1"
    keep_freed_memory()
    threadpool_limits(1)


class _Worker:
    """A process that answers one task after the other, and our end of the line to it."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        from multiprocessing import get_context

        context = get_context("spawn")  # a fork would inherit threads that are not there
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, function), daemon=True)
        self.process.start()
        theirs.close()  # now the process alone holds that end: when it dies, ours says so

    def epitaph(self) -> str:
        """How the process ended."""
        self.process.join()
        code = self.process.exitcode
        if code is not None and code < 0:
            return f"its process was stopped by {signal.Signals(-code).name}, perhaps for want of memory"
        return f"its process ended with exit code {code}"


def _serve(connection: Any, function: Callable[[Any], Any]) -> None:
    """A worker's life: one core, no word on Ctrl-C (the main process speaks), and an end with its parent's."""
    from multiprocessing import parent_process

    def end_with(parent: Any) -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with, args=(parent_process(),), daemon=True).start()
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # in the background it is ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    become_worker()
    while True:
        connection.send(_attempt(function, connection.recv()))


def _attempt(function: Callable[[Any], Any], task: Any) -> Any:
    try:
        return function(task)
    except Exception as error:
        return Failure(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
