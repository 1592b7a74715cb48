"""A group: several ranks that each hold a share of the batch, and can add up what depends on all of it.

A rank is a thread here (`team.py`) and may be a process on another machine. All that a rank needs to know of the
others is in `Group`: BatchNorm's sums go through it, and nothing else does.
"""

from __future__ import annotations

from typing import Protocol

from minires.backend import Array


class Group(Protocol):
    """What a step needs of the ranks that share a batch."""

    rank: int
    """Which of them this one is, from 0."""
    size: int
    """How many they are."""

    def sum(self, rows: Array) -> Array:
        """rows (n, K), one for each image of this rank -> (K,), the sum of the rows of all ranks.

        Every rank calls this at the same point of its work and receives the same bits. The rows are added in the
        order of the batch, so that the bits do not depend on how the batch is divided.
        """
        ...


class Alone:
    """The group of a single rank: the whole batch is its share."""

    rank, size = 0, 1

    def sum(self, rows: Array) -> Array:
        """(n, K) -> (K,)."""
        return rows.sum(axis=0)
