"""Thresholds against published tables and against simulation of the distributions they speak of."""

import math
from statistics import NormalDist

import numpy as np
import pytest

from minires.theory import stats
from tests.theory.reference.statistics import laurent_massart, mean_z, wilson_hilferty


@pytest.mark.parametrize(("freedom", "published"), [(15, 7.90), (29, 6.17), (49, 5.59), (99, 5.22)])
def test_t_threshold_at_one_in_a_million(freedom, published):
    assert stats.t_threshold(freedom + 1) == pytest.approx(published, abs=0.011)


@pytest.mark.parametrize(
    ("freedom", "p", "table"),  # Student 1908 / any textbook: two-sided quantiles
    [(1, 0.05, 12.7062), (2, 0.01, 9.9248), (5, 0.05, 2.5706), (10, 0.001, 4.5869), (30, 0.05, 2.0423)],
)
def test_t_distribution_against_the_textbook_table(freedom, p, table):
    assert stats.t_two_sided(table, freedom) == pytest.approx(p, rel=1e-4)
    assert stats.t_threshold(freedom + 1, false_alarm=p) == pytest.approx(table, abs=6e-5)


def test_z_thresholds():
    assert stats.z_threshold() == pytest.approx(4.8916, abs=1e-4)
    assert stats.z_threshold(false_alarm=0.05) == pytest.approx(1.95996, abs=1e-5)
    # Bonferroni: twenty checks at 5 % in all are one check at a quarter of a per cent
    assert stats.z_threshold(20, 0.05) == pytest.approx(stats.z_threshold(false_alarm=0.0025), rel=1e-12)


def test_normal_cdf_and_its_quantile_are_inverse():
    for p in (1e-9, 1e-3, 0.3, 0.5, 0.999):
        assert stats.normal_cdf(NormalDist().inv_cdf(p)) == pytest.approx(p, rel=1e-9)


def test_t_distribution_closed_forms():
    for t in (0.1, 1.0, 7.0):
        assert stats.t_two_sided(t, 1) == pytest.approx(1 - 2 / math.pi * math.atan(t), rel=1e-12)
        assert stats.t_two_sided(t, 2) == pytest.approx(1 - t / math.sqrt(2 + t * t), rel=1e-12)


@pytest.mark.parametrize("freedom", [5, 40, 300])
def test_wilson_hilferty_makes_a_chi_square_normal(freedom):
    q = np.random.default_rng(3).chisquare(freedom, size=4000)
    assert stats.ks_test(wilson_hilferty(q, freedom)) > 1e-6
    assert stats.ks_test(wilson_hilferty(1.3 * q, freedom)) < 1e-6  # a scale that is off is seen


def test_laurent_massart_holds_and_is_not_vacuous():
    weights = np.array([3.0, 1.0, 0.5, 0.5, 0.1])
    low, high = laurent_massart(weights, false_alarm=0.01)
    q = np.random.default_rng(4).chisquare(1, size=(40000, weights.size)) @ weights
    assert np.mean((q < low) | (q > high)) <= 0.01
    sd = math.sqrt(2 * weights @ weights)
    assert high < weights.sum() + sd / math.sqrt(0.005)  # tighter than Chebyshev's bound


def test_kolmogorov_tail_against_its_table():
    # Smirnov 1948: P(K > 1.3581) = 0.05, P(K > 1.6276) = 0.01
    assert stats.kolmogorov_tail(1.3581) == pytest.approx(0.05, rel=1e-3)
    assert stats.kolmogorov_tail(1.6276) == pytest.approx(0.01, rel=1e-3)


def test_ks_false_alarms_come_at_the_stated_rate():
    rng = np.random.default_rng(5)
    p = np.array([stats.ks_test(rng.standard_normal(50)) for _ in range(2000)])
    for rate in (0.5, 0.1):
        se = math.sqrt(rate * (1 - rate) / p.size)
        # Stephens' correction is good to about 1 % of the rate
        assert abs(np.mean(p < rate) - rate) < 4.9 * se + 0.02 * rate
    assert stats.ks_test(0.5 * rng.standard_normal(400)) < 1e-6  # z-scores that are too small are no triumph


def test_mean_z_is_zero_for_samples_that_equal_the_law_and_infinite_for_constants_that_do_not():
    assert mean_z([2.0, 2.0, 2.0], 2.0) == 0
    assert mean_z([2.0, 2.0, 2.0], 1.0) == math.inf
    assert mean_z([1.0, 3.0], 1.0) == pytest.approx(1.0)
