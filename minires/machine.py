"""A setting of the process that NumPy's speed depends on: `python -m minires` makes it, a library import does not.

A training step frees its activations, and the C library hands their memory back to the system, only to ask for it
again in the next step, page by page: about a tenth of the step's time. Told to keep some, it does not.

For one's own program: `minires.machine.keep_freed_memory()`, once, at its start.
"""

from __future__ import annotations

import ctypes
import os
import sys

KEPT_BYTES, LARGEST_BYTES = 2**28, 2**25
"""Freed memory that the process keeps at most, and the size of the largest array that is made from it."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""The numbers of these settings in glibc's malloc.h."""


def keep_freed_memory() -> bool:
    """Makes the setting, on Linux with glibc and unless the environment has one (MALLOC_...): whether it was made."""
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST_BYTES) and mallopt(M_TRIM_THRESHOLD, KEPT_BYTES))
