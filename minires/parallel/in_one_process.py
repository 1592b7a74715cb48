"""Ranks that are threads of this process: to step through what several machines do, and to judge it.

on_ranks(lambda group: group.sum(rows[group.rank]), 2)           [sum, sum], one for each rank
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minires.threads import Ended, Team, ThreadGroup


def on_ranks(work: Callable[[ThreadGroup], Any], ranks: int = 2) -> list[Any]:
    """[work(group of rank 0), work(group of rank 1), ...]. Rank 0 is the calling thread: a debugger steps through it.

    Raises what a rank raises; RuntimeError where a rank waits for others that have already ended.
    """

    def work_to_the_end(group: ThreadGroup) -> Any:
        result = work(group)
        group.send(Ended)  # who asks for more than the others would wait for ever
        return result

    try:
        return Team(ranks).run(ranks, work_to_the_end)
    except Ended:
        raise RuntimeError("a rank waits for what nobody sends: all ranks have to meet equally often") from None


def what_is_wrong(found: Sequence[Any], expected: Sequence[np.ndarray], within: float = 1e-9) -> str:
    """A sentence on the first rank whose array is not the expected one; "" where all are."""
    for rank, (a, b) in enumerate(zip(found, expected, strict=True)):
        if np.shape(a) != b.shape:
            return f"rank {rank} returns shape {np.shape(a)} where {b.shape} is needed."
        off = np.abs(a - b).max()
        if not off <= within:
            return f"rank {rank} is off by up to {off:.2g}, and the right numbers go up to {np.abs(b).max():.2g}."
    return ""
