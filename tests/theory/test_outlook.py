"""What training will do, foreseen: the words, and the learning rates between which it moves."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from minires.theory.laws.tangent_kernel import LayerKernel, TangentKernel
from minires.theory.outlook import MOVES, TOO_LARGE, TOO_SMALL, UNDECIDED, learning_rates, outlook

WORDS = [TOO_SMALL, UNDECIDED, MOVES, UNDECIDED, TOO_LARGE]


def kernel(normalized=True, log_variance=0.0, scale=1.0, layers=20):
    return TangentKernel(tuple(LayerKernel(str(i), scale, 10.0) for i in range(layers)), 10, normalized, log_variance)


@pytest.mark.parametrize("normalized", [True, False])
def test_the_words_follow_each_other_as_the_rate_grows(normalized):
    said = [outlook(kernel(normalized), rate, rate * 100).word for rate in (10 ** (i / 10) for i in range(-60, 41))]
    assert [word for i, word in enumerate(said) if i == 0 or word != said[i - 1]] == WORDS


def test_the_numbers_are_those_of_the_derivation():
    """20 layers with T_l = 4 and |W_l| = 10: sqrt(T)/|W| = 0.2 each. Momentum 0.9 makes ten of a rate."""
    found = outlook(kernel(True, scale=4.0), 0.01, 2.0)
    assert found.reach == pytest.approx(2.0 * 10 * 4 / 10)  # S: the head's T_l over ten outputs
    assert found.change == pytest.approx(0.01 * 10 * 20 * 0.2)
    found = outlook(kernel(False, scale=4.0), 0.01, 2.0, momentum=0.0)
    assert (found.reach, found.change) == pytest.approx((2.0 * 0.2, 0.01 * 20 * 0.2))


def test_what_varies_between_networks_is_less_certain_and_lower():
    sure, vague = (outlook(kernel(False, v, scale=400.0), 0.001, 0.1) for v in (0.0, 4.0))
    assert sure.word == MOVES and vague.moves < sure.moves and vague.small > sure.small


@pytest.mark.parametrize("scale", [0.0, 1e-300])
def test_nothing_moves_without_a_gradient(scale):
    assert outlook(kernel(scale=scale), 1.0, 1e4).word == TOO_SMALL
    assert learning_rates(kernel(scale=scale), 1e4) is None


def test_no_law_and_overflow():
    assert outlook(None, 0.1, 10.0).word == UNDECIDED
    assert learning_rates(None, 100) is None
    assert outlook(kernel(False, scale=math.inf), 1e-5, 1e-3).word == TOO_LARGE


@pytest.mark.parametrize("normalized", [True, False])
def test_the_range_of_learning_rates_is_where_it_moves(normalized):
    below = kernel(normalized, scale=1e4 if normalized else 25.0)
    net = replace(below, layers=(*below.layers, LayerKernel("head", 1.0, 1.0)))
    low, high = learning_rates(net, 100)
    assert 1e-5 < low < high < 1
    said = [outlook(net, rate, rate * 100).word for rate in (low / 1.1, low, high, high * 1.1)]
    assert said == [UNDECIDED, MOVES, MOVES, UNDECIDED]
    longer = learning_rates(net, 1000)
    assert longer[0] == pytest.approx(low / 10, rel=0.1) and longer[1] == high


def test_rates_that_nobody_tested_are_not_promised():
    assert learning_rates(kernel(scale=1e-3), 1e6)[1] == 1.0
