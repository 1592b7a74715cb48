"""A setting of the process that NumPy's speed depends on. `python -m minires` makes it; importing the library does not.

A training step frees its activations. The C library returns that memory to the system, only to ask for it again in the
next step, page by page. This costs about a fifth of the step's time, and more where a step takes a gigabyte (batches of
512, networks of 110 layers). `keep_freed_memory` tells the C library to keep it instead.

In a program of your own, call `minires.machine.keep_freed_memory()` once, at its start.
"""

from __future__ import annotations

import ctypes
import os
import sys

KEPT_BYTES = 2**31 - 1
"""How much freed memory the process may keep: the largest value that the setting takes."""

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Two settings of glibc's malloc.h: when freed memory goes back to the system, and how many arrays may have a memory
mapping of their own, which goes back as soon as the array is freed."""


def keep_freed_memory() -> bool:
    """Makes the setting on Linux with glibc, unless the environment has one (MALLOC_...). Returns whether it did."""
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, KEPT_BYTES))
