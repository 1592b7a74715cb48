"""How slow this machine is, and how long a test waits: so that no test fails because the machine is slow or busy.

A bound that something must keep to is in seconds of processor, which others do not use up, on a machine like ours: it
is multiplied by the machine's slowness, measured beside the work, with BLAS at one thread (a second one that waits for
work is counted as working). A bound that only ends what would hang is `PATIENCE`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

PATIENCE = 600
"""Seconds after which something hangs. On a busy machine, what takes a second may take a minute; nothing takes ten."""

ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""The environment of a child whose processor time is measured."""

YARDSTICK = 0.145
"""Seconds that the yardstick takes on the machine that the bounds are for, with nothing else running (best of 36)."""


def slowness() -> float:
    """How many times as long as there the processor takes here and now; at least 1."""
    values = np.random.default_rng(0).standard_normal((64, 32, 32))
    start = time.process_time()
    for _ in range(400):  # transforms, products, sums, Python
        spectrum = np.fft.rfft2(values)
        (spectrum * spectrum.conj()).real.sum(axis=0)
        sum({i: i * i for i in range(3000)}.values())
    return max(1.0, (time.process_time() - start) / YARDSTICK)


@dataclass
class Spent:
    """What the work took. Its `seconds` are of processor, in this process and in the children that have ended."""

    seconds: float = float("nan")
    slowness: float = float("nan")

    @property
    def there(self) -> float:
        """The seconds that it would take on the machine that bounds are for."""
        return self.seconds / self.slowness


@contextmanager
def measured() -> Iterator[Spent]:
    """Measures the work in the block, with BLAS at one thread in this process (children are given `ONE_THREAD`)."""
    spent = Spent()
    with threadpool_limits(1):
        before, start = slowness(), _processor()
        yield spent
        spent.seconds = _processor() - start
        spent.slowness = max(before, slowness())


def patient(browser: Any) -> Any:
    """A driver of selenium that waits for its browser; by itself it gives a script half a minute."""
    browser.set_script_timeout(PATIENCE)
    browser.set_page_load_timeout(PATIENCE)
    return browser


def _processor() -> float:
    now = os.times()
    return time.process_time() + now.children_user + now.children_system
