"""Dropout's law, its generator, and wrong input."""

import numpy as np
import pytest

from minires import ops
from tests.refusals import refused


def test_it_keeps_a_fraction_and_the_mean():
    """Kept entries ~ Binomial(n, 1 - p): |z| <= 4.9 has a false-alarm rate of 1e-6. Kept ones are scaled exactly."""
    n, p = 40_000, 0.3
    y, cache = ops.dropout_forward(np.ones(n), p, rng=np.random.default_rng(0))
    kept = y != 0
    assert np.all(y[kept] == 1 / (1 - p))
    assert abs(kept.sum() - n * (1 - p)) / np.sqrt(n * p * (1 - p)) <= 4.9
    dx = ops.dropout_backward(np.full(n, 2.0), cache)
    assert np.array_equal(dx, 2 * y)


def test_the_generator_decides():
    x = np.ones((40, 50))
    first, again, other = (ops.dropout_forward(x, 0.5, rng=np.random.default_rng(s))[0] for s in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_p_of_zero_changes_nothing():
    x = np.arange(6.0).reshape(2, 3)
    assert np.array_equal(ops.dropout_forward(x, 0.0, rng=np.random.default_rng(0))[0], x)


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5, float("nan")])
def test_a_p_outside_its_range_is_refused(p):
    with refused(ValueError, "p", str(p)):
        ops.dropout_forward(np.ones(3), p, rng=np.random.default_rng(0))


def test_other_nonsense_is_refused():
    with refused(TypeError, "p", "'half'"):
        ops.dropout_forward(np.ones(3), "half", rng=np.random.default_rng(0))
    with refused(TypeError, "rng", "None"):
        ops.dropout_forward(np.ones(3), 0.5, rng=None)
