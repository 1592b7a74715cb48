"""The compiled model computes what the model computes: some of the random networks of `agreement.py`."""

import pytest

from tests.fast.agreement import COLUMN_BYTES, TOLERANCE, compare, random_case


@pytest.mark.parametrize("seed", range(1, 7))
def test_ten_random_networks_agree_with_their_compiled_twins(seed, monkeypatch):
    for i in range(10):
        monkeypatch.setattr("minires.fast.conv.COLUMN_BYTES", COLUMN_BYTES[i % 2])
        _, model, x, rng, threads = random_case((seed, i))
        assert compare(model, x, rng, threads) < TOLERANCE, (seed, i)
