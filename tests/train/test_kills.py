"""A few of the kills of `kills.py`; all hundred run by `python -m tests.train.kills`."""

import os

import pytest

from .kills import PLACES, trials


@pytest.mark.skipif(not hasattr(os, "fork"), reason="SIGKILL is a matter of POSIX systems")
def test_a_killed_run_ends_with_the_same_bits():
    results = list(trials(5, seed=1))
    assert all(right for _, _, right in results)
    assert {place for place, _, _ in results} & set(PLACES)
