"""The matrix products of a step, and nothing else: what the engine would take if all else were free.

The products are not listed by hand. `record` watches `np.matmul` during one real step and notes the shape and memory
order of every operand; `Replay` makes the same products again, on arrays that stay in the processor's cache, dealt
out to the threads evenly. So the floor is that of the engine as it is now, on this machine and with its BLAS. A
compiled step has to be watched when it is made for the first time, since it is planned then; like its arrays, those of
the replay begin at cache lines.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from minires.fast.worker import at_line


@dataclass(frozen=True)
class Operand:
    """Shape, bytes between neighbors along each axis, and dtype."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str

    @classmethod
    def of(cls, array: np.ndarray) -> Operand:
        return cls(array.shape, tuple(abs(stride) for stride in array.strides), array.dtype.str)

    @property
    def extent(self) -> int:
        """Bytes from the first to the last number."""
        steps = zip(self.shape, self.strides, strict=True)
        return sum((size - 1) * stride for size, stride in steps) + np.dtype(self.dtype).itemsize

    def on(self, block: np.ndarray) -> np.ndarray:
        """An array like this one in the memory of `block` (bytes)."""
        return np.ndarray(self.shape, self.dtype, block, strides=self.strides)


@dataclass(frozen=True)
class Product:
    a: Operand
    b: Operand
    out: Operand

    @property
    def flops(self) -> int:
        """Two for each multiply-add."""
        return 2 * math.prod(self.out.shape) * self.a.shape[-1]


def record(step: Callable[[], Any]) -> Counter[Product]:
    """The products that one call of `step` makes, and how often it makes each."""
    made: Counter[Product] = Counter()
    matmul, lock = np.matmul, threading.Lock()

    def watched(a: np.ndarray, b: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        result = matmul(a, b, out=out)
        with lock:
            made[Product(Operand.of(a), Operand.of(b), Operand.of(result))] += 1
        return result

    np.matmul = watched
    try:
        step()
    finally:
        np.matmul = matmul
    return made


class Replay:
    """Makes the products of one step again with each call of `run`."""

    def __init__(self, products: Counter[Product], threads: int) -> None:
        operands = [operand for product in products for operand in (product.a, product.b, product.out)]
        size = max((operand.extent for operand in operands), default=0)
        self.shares = [_Share(size) for _ in range(threads)]
        self.pool = ThreadPoolExecutor(threads)
        for product in sorted(products.elements(), key=lambda product: -product.flops):
            min(self.shares, key=lambda share: share.flops).add(product)

    def run(self) -> None:
        """All threads at once, each with BLAS at one thread, as in the engine."""
        with threadpool_limits(1, user_api="blas"):
            list(self.pool.map(_Share.run, self.shares))


class _Share:
    """The products of one thread, on memory of its own."""

    def __init__(self, size: int) -> None:
        self.blocks = [at_line(size) for _ in range(3)]
        self.products: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self.flops = 0

    def add(self, product: Product) -> None:
        a, b, out = (o.on(block) for o, block in zip((product.a, product.b, product.out), self.blocks, strict=True))
        self.products.append((a, b, out))
        self.flops += product.flops

    def run(self) -> None:
        for a, b, out in self.products:
            np.matmul(a, b, out=out)
