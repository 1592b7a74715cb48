"""Memory for the fast way: arrays that begin at a cache line, from large blocks.

A processor moves whole lines of 64 bytes. An array that begins in the middle of a line makes every second vector
instruction touch two lines: on such arrays NumPy multiplies and adds half as fast, and BLAS loses a quarter. For large
blocks the system uses large pages, which it finds faster.
"""

import math
import mmap
from contextlib import suppress
from types import ModuleType
from typing import Any

import numpy as np

from minires.backend import Array

LINE_BYTES = 64
BLOCK_BYTES = 2**25
"""Memory that is asked for at once, at most (or else what one array takes)."""

PRIVATE = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_ANONYMOUS") else {}
"""A forked child must not share it. (Windows does not fork.)"""


class Memory:
    """Where a worker's arrays lie."""

    def __init__(self, xp: ModuleType) -> None:
        self.xp, self._block, self._used = xp, b"", 0
        self._scratch: dict[Any, Array] = {}

    def new(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """Zeros in memory of their own; the first one begins a cache line. (A GPU's arrays do anyway.)"""
        if self.xp is not np:
            return self.xp.zeros(shape, dtype)
        size = -(-math.prod(shape) * np.dtype(dtype).itemsize // LINE_BYTES) * LINE_BYTES
        if self._used + size > len(self._block):
            length = max(size, min(BLOCK_BYTES, max(2**20, 2 * len(self._block))))
            self._block, self._used = mmap.mmap(-1, length, **PRIVATE), 0
            with suppress(OSError, AttributeError):  # a system without large pages
                self._block.madvise(mmap.MADV_HUGEPAGE)
        self._used += size
        return np.ndarray(shape, dtype, self._block, self._used - size)

    def scratch(self, name: Any, shape: tuple[int, ...], dtype: Any) -> Array:
        """An array that is valid until the same name is asked for again. It holds zeros, or what was left in it."""
        key, size = (name, np.dtype(dtype)), math.prod(shape)
        if key not in self._scratch or self._scratch[key].size < size:
            self._scratch[key] = self.new((size,), dtype)
        return self._scratch[key][:size].reshape(shape)
