"""Memory for the fast way: arrays that begin at a cache line, and that are used again and again.

A processor moves whole lines of 64 bytes. An array that begins in the middle of a line makes every second vector
instruction touch two lines: on such arrays NumPy multiplies and adds half as fast, and BLAS loses a quarter.
"""

from __future__ import annotations

import math
import mmap as mmap_module
from mmap import mmap
from sys import getrefcount
from types import ModuleType
from typing import Any

import numpy as np

from minires.backend import Array

LINE_BYTES = 64
BLOCK_BYTES = 2**25
"""Memory that is asked for at once."""

FREE = 2
"""References to a part of memory that nobody uses: the list's, and the one that counting them takes."""


def aligned(xp: ModuleType, shape: tuple[int, ...], dtype: Any) -> Array:
    """An uninitialized array whose first number begins a cache line. (A GPU's arrays begin at one anyway.)"""
    if xp is not np:
        return xp.empty(shape, dtype)
    block = np.empty(math.prod(shape) * np.dtype(dtype).itemsize + LINE_BYTES, np.uint8)
    return np.ndarray(shape, dtype, block, -block.__array_interface__["data"][0] % LINE_BYTES)


def aligned_copy(xp: ModuleType, array: Array) -> Array:
    """The same numbers in C order, from the start of a cache line on."""
    copy = aligned(xp, array.shape, array.dtype)
    copy[...] = array
    return copy


class Memory:
    """The memory of one worker: arrays that are used again from step to step.

    Fresh arrays of many megabytes cost a page fault for every 4 kB of them, and those of a helping thread are handed
    back to the system and faulted in again in every step. Here they come from large blocks, for which the system uses
    large pages, too.
    """

    def __init__(self) -> None:
        self._large, self._used = _large_block(LINE_BYTES), LINE_BYTES
        self._parts: dict[int, list[np.ndarray]] = {}
        self._last: dict[int, int] = {}
        self._named: dict[Any, Array] = {}

    def take(self, xp: ModuleType, shape: tuple[int, ...], dtype: Any) -> Array:
        """An uninitialized array. Its memory is used again once nobody has a reference to it any more."""
        if xp is not np:
            return xp.empty(shape, dtype)
        size = _rounded(math.prod(shape) * np.dtype(dtype).itemsize)
        parts, last = self._parts.setdefault(size, []), self._last.get(size, 0)
        for i in (*range(last, len(parts)), *range(last)):
            if getrefcount(parts[i]) == FREE:
                break
        else:
            i = len(parts)
            parts.append(self._part(size))
        self._last[size] = i
        return np.ndarray(shape, dtype, parts[i])

    def _part(self, size: int) -> np.ndarray:
        if self._used + size > len(self._large):
            self._large, self._used = _large_block(max(size, BLOCK_BYTES)), 0
        self._used += size
        return np.ndarray(size, np.uint8, self._large, self._used - size)

    def scratch(self, xp: ModuleType, name: str, shape: tuple[int, ...], dtype: Any) -> Array:
        """An uninitialized array that is valid until the same name is asked for again."""
        if xp is not np:
            return xp.empty(shape, dtype)
        size = math.prod(shape) * np.dtype(dtype).itemsize
        block = self._named.get(name)
        if block is None or block.nbytes < size:
            block = self._named[name] = aligned(np, (size,), np.uint8)
        return np.ndarray(shape, dtype, block)

    def zeros(self, xp: ModuleType, name: Any, shape: tuple[int, ...], dtype: Any) -> Array:
        """Scratch that held zeros when it was made, and since then what has been written in other places of it."""
        if xp is not np:
            return xp.zeros(shape, dtype)
        block = self._named.get((name, dtype))
        if block is None or len(block) < shape[0]:
            block = self._named[name, dtype] = aligned(np, shape, dtype)
            block[...] = 0
        return block[: shape[0]]


def _large_block(size: int) -> mmap:
    """Memory of this process alone (a forked child must not share it), in large pages where the system has them."""
    if not hasattr(mmap_module, "MAP_PRIVATE"):  # Windows
        return mmap(-1, size)
    block = mmap(-1, size, mmap_module.MAP_PRIVATE | mmap_module.MAP_ANONYMOUS)
    if hasattr(mmap_module, "MADV_HUGEPAGE"):
        block.madvise(mmap_module.MADV_HUGEPAGE)
    return block


def _rounded(size: int) -> int:
    """A little more than `size`, so that batches of nearly the same length share memory."""
    step = max(LINE_BYTES, 2 ** (size.bit_length() - 4))
    return -(-size // step) * step
