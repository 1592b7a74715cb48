"""Work on a batch in shares, one thread each.

NumPy releases Python's global lock inside its loops and inside BLAS, so two threads that work on the two halves of a
batch run truly side by side. BLAS itself is held at one thread meanwhile: its own threads would compete with ours
for the same cores. Shares are contiguous, one a thread, and results are combined in the order of the batch: the
same number of threads gives the same bits.

The number of threads is the number of cores this process may use, or MINIRES_NUM_THREADS. None of this happens for
an array on a GPU: there the whole batch is one share.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import ModuleType
from typing import TypeVar

import numpy as np

from minires.backend import Array

T = TypeVar("T")

PIECE_BYTES, GPU_PIECE_BYTES = 2**21, 2**29
"""The memory that the work on one piece may touch: about what a core's own cache holds. (Much less costs calls.)"""

SMALL_BYTES = 2**21
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
    """[work(piece), ...] over slices that make up range(count), in their order; one contiguous share a thread.

    `item_bytes` is the memory that the work on one of the `count` items touches: a piece has as many items as fit
    into PIECE_BYTES. Work that is small in all, and any that is not NumPy's, is done as one share.
    An exception in any share is raised here, after all shares have ended (Ctrl-C included): nobody is left writing
    into an array that the caller believes to be finished.
    """
    on_host = xp is np
    step = max(1, (PIECE_BYTES if on_host else GPU_PIECE_BYTES) // item_bytes)

    def work_on(share: range) -> list[T]:
        return [work(slice(start, min(start + step, share.stop))) for start in share[::step]]

    if not on_host:
        return work_on(range(count))
    number = 1 if count * item_bytes < SMALL_BYTES else min(num_threads(), count)
    shares = [range(count * i // number, count * (i + 1) // number) for i in range(number)]
    with blas_at_one_thread():
        futures = [_pool().submit(work_on, share) for share in shares[1:]]
        try:
            results = work_on(shares[0])
        finally:
            for future in futures:
                future.exception()  # waits until that share has ended
    return results + [result for future in futures for result in future.result()]


def scratch(xp: ModuleType, name: str, shape: tuple[int, ...], dtype: np.dtype) -> Array:
    """An uninitialized array that this thread may use until it asks for the same `name` again.

    Fresh arrays of many megabytes cost page faults; this memory is kept, one block per thread and name.
    """
    if xp is not np:
        return xp.empty(shape, dtype)
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    block = getattr(_local, name, None)
    if block is None or block.nbytes < size:
        block = np.empty(size, np.uint8)
        setattr(_local, name, block)
    return block[:size].view(dtype).reshape(shape)


# --- state of the process: a pool of threads, and how many regions hold BLAS at one thread -----------------------


class _State:
    """What a forked child must start anew: locks and threads do not survive a fork."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.pool: ThreadPoolExecutor | None = None
        self.regions = 0
        self.controller = None
        self.limit = None


_local = threading.local()
_state = _State()


def _start_anew() -> None:
    global _state
    _state = _State()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)


def _pool() -> ThreadPoolExecutor:
    with _state.lock:
        if _state.pool is None:
            _state.pool = ThreadPoolExecutor(max_workers=32, thread_name_prefix="minires")
        return _state.pool


@contextmanager
def blas_at_one_thread() -> Iterator[None]:
    """Holds BLAS at one thread, for as long as the block (or the function it decorates) runs.

    Several user threads may be inside at once: the first one sets the limit, the last one lifts it.
    """
    state = _state
    with state.lock:
        if state.regions == 0:
            if state.controller is None:
                from threadpoolctl import ThreadpoolController

                state.controller = ThreadpoolController().select(user_api="blas")
            state.limit = state.controller.limit(limits=1)
        state.regions += 1
    try:
        yield
    finally:
        with state.lock:
            state.regions -= 1
            if state.regions == 0:
                state.limit.restore_original_limits()
