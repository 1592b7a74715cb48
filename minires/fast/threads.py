"""How many threads share the work, and BLAS at one thread meanwhile.

NumPy releases Python's global lock inside its loops and inside BLAS, so threads that work on different images run
side by side. BLAS must then work on one thread: its own threads would compete with ours for the same cores.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


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


class _Blas:
    """The BLAS libraries of this process, and how many blocks of code hold them at one thread."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.holders = 0
        self.libraries: list[Any] | None = None
        self.threads_before: list[int] = []
        self.owed = False
        """Whether the libraries have not yet been given back their threads: some obey one thread alone."""


_blas = _Blas()


def _start_anew() -> None:
    """A forked child starts anew: it has one thread, and a lock that another thread held would stay locked."""
    global _blas
    _blas = _Blas()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)


@contextmanager
def blas_at_one_thread() -> Iterator[None]:
    """Holds BLAS at one thread, for as long as the block (or the function it decorates) runs.

    Several threads may be inside at once: the first one sets the limit, the last one lifts it.
    """
    blas = _blas
    with blas.lock:
        if blas.holders == 0:
            if blas.libraries is None:
                from threadpoolctl import ThreadpoolController

                blas.libraries = ThreadpoolController().select(user_api="blas").lib_controllers
            if not blas.owed:
                blas.threads_before = [library.num_threads for library in blas.libraries]
            for library in blas.libraries:
                library.set_num_threads(1)
        blas.holders += 1
    try:
        yield
    finally:
        with blas.lock:
            blas.holders -= 1
            if blas.holders == 0:
                for library, threads in zip(blas.libraries, blas.threads_before, strict=True):
                    library.set_num_threads(threads)
                blas.owed = [library.num_threads for library in blas.libraries] != blas.threads_before
