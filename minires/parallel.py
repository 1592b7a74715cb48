"""Work on a batch, cut into pieces that several threads take.

NumPy releases Python's global lock inside its loops and inside BLAS, so two threads that work on different images
run truly side by side. BLAS itself is held at one thread meanwhile: its own threads would compete with ours for the
same cores. Whoever is free takes the next piece: the caller begins at once, a helping thread joins in when it has
woken up (some 0.1 ms later, as long as a small operation takes), and neither waits for the other but at the end.

How a batch is cut depends on its size and on the number of threads, never on who takes what, and results are
combined in the order of the batch: the same number of threads gives the same bits.

The number of threads is the number of cores this process may use, or MINIRES_NUM_THREADS. None of this happens for
an array on a GPU: there the caller works on the whole batch.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from functools import partial
from queue import SimpleQueue
from types import ModuleType
from typing import Any, TypeVar

import numpy as np

from minires.backend import Array

T = TypeVar("T")
PIECE_BYTES, GPU_PIECE_BYTES = 2**21, 2**29
"""The memory that the work on one piece may touch: about what a core's own cache holds. (Much less costs calls.)"""

SMALL_BYTES = 2**19
"""Work on less than this costs more to hand over to another thread than it saves."""


def num_threads() -> int:
    """How many threads share a batch: MINIRES_NUM_THREADS, or else the cores this process may use."""
    wanted = os.environ.get("MINIRES_NUM_THREADS")
    if wanted is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not wanted.isdigit() or int(wanted) < 1:
        raise ValueError(f"MINIRES_NUM_THREADS is {wanted!r}; expected a whole number of at least 1")
    return int(wanted)


def map_pieces(xp: ModuleType, count: int, item_bytes: int, work: Callable[[slice], T]) -> list[T]:
    """[work(piece), ...] over slices that make up range(count), in their order.

    `item_bytes` is the memory that the work on one of the `count` items touches: a piece takes about PIECE_BYTES, or
    less, so that there is at least one for each thread. Work that is small in all, and any that is not NumPy's, is
    done by the calling thread alone.
    An exception in any piece is raised here, after all threads have ended their work (Ctrl-C included): nobody is
    left writing into an array that the caller believes to be finished.
    """
    on_host, total = xp is np, count * item_bytes
    threads = num_threads() if on_host and total >= SMALL_BYTES else 1
    rounds = math.ceil(total / (threads * (PIECE_BYTES if on_host else GPU_PIECE_BYTES)))
    step = max(1, math.ceil(count / (threads * max(1, rounds))))
    pieces = [slice(start, min(start + step, count)) for start in range(0, count, step)]
    if not on_host:
        return [work(piece) for piece in pieces]
    untaken, ended = iter(range(len(pieces))), SimpleQueue()
    results: list[tuple[T] | tuple[()] | None] = [None] * len(pieces)
    errors: list[tuple[int, BaseException]] = []

    def take_pieces() -> None:
        for i in untaken:  # one iterator for all threads: each number comes out once
            try:
                results[i] = () if errors else (work(pieces[i]),)
            except BaseException as error:
                errors.append((i, error))
                results[i] = ()
            ended.put(i)

    jobs = [[partial(copy_context().run, take_pieces)] for _ in range(min(threads, len(pieces)) - 1)]
    waiting = iter(enumerate(jobs, 1))
    with blas_at_one_thread():
        while None in results:
            try:
                for number, job in waiting:
                    _hand_over(job, number)
                take_pieces()
                ended.get()  # in any order; what counts is `results`
            except BaseException as error:
                errors.append((-1, error))
    for job in jobs:
        job.clear()  # one that no helper has come to would keep the arrays alive
    try:
        if errors:
            raise min(errors, key=lambda found: found[0])[1]
    finally:
        errors.clear()  # its traceback leads back to them, and to the arrays
    return [result for (result,) in results]


def scratch(xp: ModuleType, name: str, shape: tuple[int, ...], dtype: np.dtype) -> Array:
    """An uninitialized array that this thread may use until it asks for the same `name` again.

    Fresh arrays of many megabytes cost page faults; this memory is kept, one block per thread and name.
    """
    if xp is not np:
        return xp.empty(shape, dtype)
    size = math.prod(shape) * np.dtype(dtype).itemsize
    block = getattr(_local, name, None)
    if block is None or block.nbytes < size:
        block = np.empty(size, np.uint8)
        setattr(_local, name, block)
    return block[:size].view(dtype).reshape(shape)


# --- state of the process: the helping threads, and how many regions hold BLAS at one thread -----------------------


class _State:
    """What a forked child must start anew: locks and threads do not survive a fork."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.jobs: SimpleQueue[Job] = SimpleQueue()
        self.helpers: list[threading.Thread] = []
        self.regions = 0
        self.blas: list[Any] | None = None
        self.blas_threads: list[int] = []


_local = threading.local()
_state = _State()


def _start_anew() -> None:
    global _state
    _state = _State()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)


Job = list[Callable[[], None]]
"""A function to call; or none any more, if whoever asked for it has gone on."""


def _hand_over(job: Job, number: int) -> None:
    """Has a helping thread do the job, if one comes to it in time; starts helper `number` if there is none yet."""
    state = _state
    state.jobs.put(job)
    with state.lock:
        if len(state.helpers) < number:
            helper = threading.Thread(target=_help, args=(state.jobs,), name="minires helper", daemon=True)
            with suppress(RuntimeError):  # the system has no more threads to give: the others do the work
                helper.start()
                state.helpers.append(helper)


def _help(jobs: SimpleQueue[Job]) -> None:
    while True:
        for function in list(jobs.get()):
            function()
        function = None  # and with it, its arrays


@contextmanager
def blas_at_one_thread() -> Iterator[None]:
    """Holds BLAS at one thread, for as long as the block (or the function it decorates) runs.

    Several user threads may be inside at once: the first one sets the limit, the last one lifts it.
    """
    state = _state
    with state.lock:
        if state.regions == 0:
            if state.blas is None:
                from threadpoolctl import ThreadpoolController

                state.blas = ThreadpoolController().select(user_api="blas").lib_controllers
            state.blas_threads = [library.num_threads for library in state.blas]
            for library in state.blas:
                library.set_num_threads(1)
        state.regions += 1
    try:
        yield
    finally:
        with state.lock:
            state.regions -= 1
            if state.regions == 0:
                for library, threads in zip(state.blas, state.blas_threads, strict=True):
                    library.set_num_threads(threads)
