"""Ranks that are threads: what they return, what they raise, and that none of them waits for ever."""

from __future__ import annotations

import numpy as np
import pytest

from minires.parallel.in_one_process import on_ranks, what_is_wrong


def test_each_rank_returns_its_own():
    assert on_ranks(lambda group: (group.rank, group.size), 3) == [(0, 3), (1, 3), (2, 3)]
    assert [found.tolist() for found in on_ranks(lambda group: group.sum(np.full((2, 1), group.rank)), 3)] == [[6]] * 3


@pytest.mark.parametrize("asks", [0, 1])
def test_who_asks_alone_does_not_wait_for_ever(asks):
    with pytest.raises(RuntimeError, match="a rank waits for what nobody sends"):
        on_ranks(lambda group: group.sum(np.ones((1, 1))) if group.rank == asks else None)


def test_what_a_rank_raises_is_raised():
    def work(group):
        if group.rank == 1:
            raise ValueError("no such thing")
        return group.sum(np.ones((1, 1)))

    with pytest.raises(ValueError, match="no such thing"):
        on_ranks(work)


def test_what_is_wrong():
    right = [np.zeros(3), np.array([1.0, -4])]
    assert what_is_wrong(right, right) == ""
    assert what_is_wrong([np.zeros(2), right[1]], right) == "rank 0 returns shape (2,) where (3,) is needed."
    assert "rank 1 is off by up to 4, and the right numbers go up to 4" in what_is_wrong(
        [right[0], np.ones(2) * 0 + [1, 0]], right
    )
    assert "rank 0 is off by up to nan" in what_is_wrong([np.full(3, np.nan), right[1]], right)
    assert "rank 1 returns shape ()" in what_is_wrong([right[0], None], right)
