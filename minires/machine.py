"""A setting of the process that NumPy's speed depends on: `python -m minires` makes it, a library import does not.

A training step frees its activations, and the C library hands their memory back to the system, only to ask for it
again in the next step, page by page: about a fifth of the step's time, and more where a step takes a gigabyte
(batches of 512, networks of 110 layers). Told to keep it, it does not; the most that was needed at once is kept.

For one's own program: `minires.machine.keep_freed_memory()`, once, at its start.
"""

from __future__ import annotations

import ctypes
import os
import sys

KEPT_BYTES = 2**31 - 1
"""Freed memory that the process keeps at most: the most that can be said."""

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""The numbers of these settings in glibc's malloc.h: when memory is handed back, and how many arrays may have a
mapping of their own, which is handed back as soon as the array is freed."""


def keep_freed_memory() -> bool:
    """Makes the setting, on Linux with glibc and unless the environment has one (MALLOC_...): whether it was made."""
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, KEPT_BYTES))
