"""The loss before learning: published values, simulation, and networks' own heads."""

import math

import numpy as np
import pytest

from minires import init, nn, ops
from minires.theory.stats import z_threshold
from tests.theory.reference import loss
from tests.theory.reference.statistics import mean_z


def test_published_values():
    """laws.md, section 9, ten classes: s = 0.5 measured, s = 1 and 2 the exact integral."""
    assert loss.expected_cross_entropy(10, 1.0) == pytest.approx(2.728864, abs=1e-6)
    assert loss.expected_cross_entropy(10, 4.0) == pytest.approx(3.7730, abs=5e-5)
    assert loss.series_cross_entropy(10, 1.0, order=2) == pytest.approx(2.7526, abs=5e-5)
    assert loss.series_cross_entropy(10, 1.0) == pytest.approx(2.7301, abs=5e-5)
    assert loss.series_cross_entropy(10, 0.25) == pytest.approx(2.413679, abs=5e-7)


@pytest.mark.parametrize("classes", [1, 2, 10, 1000])
def test_no_logits_make_log_k(classes):
    assert loss.expected_cross_entropy(classes, 0.0) == pytest.approx(math.log(classes), abs=1e-9)


def test_small_variances_follow_the_series():
    for s2 in (1e-4, 1e-2):
        assert loss.expected_cross_entropy(7, s2) == pytest.approx(loss.series_cross_entropy(7, s2), abs=s2**3)


@pytest.mark.parametrize(("classes", "s"), [(2, 3.0), (10, 1.0), (100, 2.0)])
def test_simulated_logits(classes, s):
    """50,000 samples through minires' own loss; log K + s^2/2 would be seen to be wrong."""
    rng = np.random.default_rng(12)
    logits = s * rng.standard_normal((50_000, classes))
    each = np.log(np.exp(logits).sum(axis=1)) - logits[:, 0]
    whole, _ = ops.softmax_cross_entropy_forward(logits, np.zeros(len(logits), dtype=np.int64))
    assert float(whole) == pytest.approx(each.mean(), rel=1e-12)
    assert abs(mean_z(each, loss.expected_cross_entropy(classes, s * s))) < z_threshold(checks=3)
    assert abs(mean_z(each, math.log(classes) + s * s / 2)) > z_threshold(checks=3)


def test_head_of_a_network():
    """A LeCun head on ReLU features of 400 networks, one sample each: s^2 = E a^2."""
    values, rng = [], np.random.default_rng(13)
    for _ in range(400):
        features = np.maximum(rng.standard_normal((1, 256)), 0)
        features *= math.sqrt(128 / np.sum(features**2))
        head = nn.Linear(256, 10, bias=False, weight_init=init.LeCunNormal(), rng=rng).astype(np.float64)
        values.append(float(nn.SoftmaxCrossEntropy().forward(head.forward(features), np.array([3]))))
    s2 = loss.logit_variance(1 / 256, 256, 0.5)
    assert abs(mean_z(np.array(values), loss.expected_cross_entropy(10, s2))) < z_threshold(checks=1)


def test_gradient_at_zero_logits():
    labels = np.arange(20) % 10
    _, cache = ops.softmax_cross_entropy_forward(np.zeros((20, 10)), labels)
    gradient = ops.softmax_cross_entropy_backward(np.float64(1.0), cache)
    assert 20 * np.sum(gradient**2) == pytest.approx(1 - 1 / 10, rel=1e-14)


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="classes >= 1"):
        loss.expected_cross_entropy(0, 1.0)
    with pytest.raises(ValueError, match="variance >= 0"):
        loss.expected_cross_entropy(10, -1.0)
