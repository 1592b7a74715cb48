"""Sums of a skip path and a branch, maxima, batches of few directions: 200,000 draws. Grouped convolutions."""

from __future__ import annotations

import math

import numpy as np
import pytest

from minires import init, nn
from minires.theory import predict
from minires.theory.laws.activations import RELU, SIGMOID, TANH, leaky_relu, rectified_match
from minires.theory.laws.batchnorm import batchnorm
from minires.theory.laws.pooling import gate_of_largest, independent_count, largest_of
from minires.theory.laws.signal import Signal
from minires.theory.laws.sums import Summands, gate_of_sum, sum_law

DRAWS = 200_000
RNG = np.random.default_rng(5)


def z_score(samples, law):
    return (np.mean(samples) - law) / (np.std(samples) / math.sqrt(len(samples)))


@pytest.mark.parametrize("kind", [RELU, leaky_relu(0.2), TANH, SIGMOID], ids=lambda kind: kind.name)
def test_two_blocks_in_a_row(kind):
    """h'' = phi(phi(h + g) + g'), h = phi(z): moments, and the gates of both blocks as a function of z."""
    z, g, g2 = RNG.standard_normal((3, DRAWS))
    h = kind.value(z)
    first, second = h + 0.8 * g - 0.2, kind.value(h + 0.8 * g - 0.2) + 1.3 * g2
    law = sum_law(kind, (Summands(1.0, kind.value, -0.2, 0.64),))
    again = (Summands(1.0, law.function.value, 0.0, 1.69),)
    law2 = sum_law(kind, again)
    found = {
        law.mean: kind.value(first),
        law.second: kind.value(first) ** 2,
        law.slope2: kind.derivative(first) ** 2,
        law2.second: kind.value(second) ** 2,
        law2.slope2: kind.derivative(second) ** 2,
    }
    assert max(abs(z_score(samples, expected)) for expected, samples in found.items()) < 5
    _, above = gate_of_sum(kind, again, law2, None)
    both = kind.derivative(first) ** 2 * kind.derivative(second) ** 2
    left, gate = gate_of_sum(kind, (Summands(1.0, kind.value, -0.2, 0.64),), law, above)
    assert left * law2.slope2 == pytest.approx(both.mean(), rel=0.01)
    positive = left * law2.slope2 * np.mean(gate(z) * (z > 0))
    assert positive == pytest.approx(np.mean(both * (z > 0)), rel=0.02)
    assert left * law2.slope2 != pytest.approx(law.slope2 * law2.slope2, rel=0.01) or kind is SIGMOID  # not independent


def test_channels_that_differ_are_a_mixture():
    z, g = RNG.standard_normal((2, DRAWS))
    law = sum_law(RELU, (Summands(0.25, np.zeros_like, 0.0, 1.0), Summands(0.75, RELU.value, 0.0, 1.0)))
    samples = RELU.value(np.where(np.arange(DRAWS) % 4 == 0, 0.0, RELU.value(z)) + g)
    assert abs(z_score(samples**2, law.second)) < 5 and abs(z_score(samples > 0, law.above)) < 5


@pytest.mark.parametrize("shift", [-1.0, 0.0, 0.7])
def test_the_gaussian_behind_a_rectified_signal(shift):
    z = 1.5 * RNG.standard_normal(DRAWS) + shift
    h = np.maximum(z, 0)
    mean, variance = rectified_match(float(h.mean()), float((h**2).mean()))
    assert mean == pytest.approx(shift, abs=0.05) and variance == pytest.approx(2.25, rel=0.03)


def test_the_maximum_as_a_function_and_its_gate():
    z = RNG.standard_normal((DRAWS, 4))
    largest = largest_of(4, 0.0, 1.0, TANH)
    samples = np.tanh(z).max(axis=1)
    again = RNG.standard_normal(DRAWS)
    for power in (1, 2):
        assert np.mean(largest.value(again) ** power) == pytest.approx(np.mean(samples**power), rel=0.02)
    gate = gate_of_largest(4, Signal.white_noise((1, 1)), None)
    slopes = TANH.derivative(z.max(axis=1)) ** 2
    assert np.mean(gate(z[:, 0]) * TANH.derivative(z[:, 0]) ** 2) == pytest.approx(slopes.mean(), rel=0.02)
    assert independent_count(4, 0.0) == pytest.approx(4, rel=1e-3) and independent_count(9, 1.0) == pytest.approx(1)


@pytest.mark.parametrize("samples", [4, 16])
def test_few_directions_make_the_batch_variance_uncertain(samples):
    """v = sum lambda chi2 along the batch's directions, and N - 1 degrees of what is left: E[1/v]."""
    shares = np.array([0.6, 0.3, 0.1])
    spread = 0.25 * float(shares @ shares)  # half of v lies along the directions
    law = batchnorm(Signal.white_noise((2, 2)), samples, spread, shares)
    along = 0.5 * law.v * (RNG.standard_normal((DRAWS, 3)) ** 2 @ shares)
    freedom = 4 * samples - 1
    v = along + 0.5 * law.v * RNG.chisquare(freedom, DRAWS) / freedom
    assert abs(z_score(1 / v, law.inverse_v)) < 5
    assert law.inverse_v * law.v > 1.1


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_grouped_convolutions_against_networks(groups):
    """Two layers with a ReLU between on one pixel, 100,000 networks: forward and backward second moments."""
    shape, networks = (1, 4, 1, 1), 100_000
    layers = [nn.Conv2d(4, 8, 1, groups=groups, bias=False), nn.ReLU(), nn.Conv2d(8, 4, 1, groups=groups, bias=False)]
    rows = list(predict(nn.Sequential(*layers), shape, weight=init.HeNormal()))
    x, dy = RNG.standard_normal((2, networks, groups, 4 // groups))
    first = RNG.standard_normal((networks, groups, 8 // groups, 4 // groups)) * math.sqrt(2 * groups / 4)
    second = RNG.standard_normal((networks, groups, 4 // groups, 8 // groups)) * math.sqrt(2 * groups / 8)
    z = np.einsum("ngoi,ngi->ngo", first, x)
    y = np.einsum("ngoi,ngi->ngo", second, np.maximum(z, 0))
    dz = np.einsum("ngoi,ngo->ngi", second, dy) * (z > 0)
    dx = np.einsum("ngoi,ngo->ngi", first, dz)
    found = {
        rows[0].forward.mean: z,
        rows[2].forward.mean: y,
        rows[2].gradient_in.mean: np.einsum("ngoi,ngo->ngi", second, dy),
        rows[0].gradient_in.mean: dx,
    }
    for expected, samples in found.items():
        assert abs(z_score((samples**2).reshape(networks, -1).mean(axis=1), expected)) < 5
    assert all(row.forward.grade == "EX" for row in rows)
