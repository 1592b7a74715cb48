"""Two settings of the process that NumPy's speed depends on; `python -m minires` makes them, a library import does not.

BLAS kernels. OpenBLAS chooses its matrix product by the processor's model number. A model newer than itself gets the
kernels of 2013 (AVX2), even if the processor has AVX-512: half the speed. For AMD processors with AVX-512 the right
choice is made by name here. OpenBLAS reads it once, when NumPy is loaded.

Memory. A training step frees its activations, and the C library hands them back to the system, only to ask for them
again in the next step, page by page: a tenth of the step's time. Told to keep some, it does not.

For one's own program: `import minires.machine; minires.machine.prepare()` before `import numpy`.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

KEPT_BYTES = 2**28
"""Freed memory that the process keeps for itself, at most (if unused, it is not taken in the first place)."""


def prepare() -> None:
    """Makes both settings where they apply (Linux); whatever the user's environment says already wins."""
    if sys.platform != "linux":
        return
    if _is_amd_with_avx512():
        os.environ.setdefault("OPENBLAS_CORETYPE", "SkylakeX")
    if "MALLOC_TOP_PAD_" not in os.environ:
        top_pad = -2  # M_TOP_PAD in glibc's malloc.h
        try:
            ctypes.CDLL(None).mallopt(top_pad, KEPT_BYTES)
        except (OSError, AttributeError):  # another C library
            return


def _is_amd_with_avx512() -> bool:
    try:
        cpu = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    flags = set(cpu.partition("flags")[2].partition("\n")[0].split())
    return "AuthenticAMD" in cpu and {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd"} <= flags
