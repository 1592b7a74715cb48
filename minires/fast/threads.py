"""How many threads share the work, and BLAS at one thread meanwhile.

NumPy releases Python's global lock inside its loops and inside BLAS, so threads that work on different images run
side by side. BLAS must then work on one thread: its own threads would compete with ours for the same cores.
"""

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
