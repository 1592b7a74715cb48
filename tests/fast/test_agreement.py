"""The compiled model computes what the model computes: some of the random networks of `agreement.py`."""

import pytest

from tests.fast.agreement import TOLERANCE, compare, random_case


@pytest.mark.parametrize("seed", range(1, 7))
def test_ten_random_networks_agree_with_their_compiled_twins(seed):
    for i in range(10):
        _, model, x, rng, threads = random_case((seed, i))
        assert compare(model, x, rng, threads) < TOLERANCE, (seed, i)
