"""Pooling and dropout, position by position, on the real passes (laws2.md, sections 17 and 18)."""

import math

import numpy as np
import pytest

from minires import ops
from minires.theory.laws.geometry import ConvGeometry
from minires.theory.stats import z_threshold
from tests.theory.reference import pooling as reference_pooling
from tests.theory.reference.pooling import (
    dropout_variance_ratio,
    max_moment,
    max_pool_backward_map,
    rectified_max_moment,
)
from tests.theory.reference.statistics import mean_z

DRAWS, CHANNELS = 40, 500


@pytest.mark.parametrize(
    ("n", "first", "second"),
    [(4, 1.029375, 1 + math.sqrt(3) / math.pi), (6, 1.267206, 2.021739), (9, 1.485013, 2.562617)],
)
def test_moments_of_a_maximum(n, first, second):
    assert max_moment(n, 1) == pytest.approx(first, abs=1e-6)
    assert max_moment(n, 2) == pytest.approx(second, abs=1e-6)


@pytest.mark.parametrize(
    ("n", "first", "second"), [(4, 1.045756, 1.543785), (6, 1.270073, 2.020789), (9, 1.485261, 2.562559)]
)
def test_moments_of_a_rectified_maximum(n, first, second):
    assert rectified_max_moment(n, 1) == pytest.approx(first, abs=1e-5)  # the kink at 0 costs h^2/12, h = 1/64
    assert rectified_max_moment(n, 2) == pytest.approx(second, abs=1e-5)


@pytest.mark.parametrize("rectified", [False, True])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(2, 2, 0), (3, 2, 1)])
def test_max_pooling_per_position(kernel, stride, padding, rectified):
    """Forward moments and the gradient's law at every pixel of 8x8, 20,000 independent maps, 1e-6 over all of them."""
    rng = np.random.default_rng(14)
    geometry = ConvGeometry.of((8, 8), kernel, stride, padding)
    x = rng.standard_normal((DRAWS, CHANNELS, 8, 8))
    if rectified:
        x = np.maximum(x, 0)
    y, cache = ops.max_pool2d_forward(x, kernel, stride=stride, padding=padding)
    dy = rng.standard_normal(y.shape)
    dx = ops.max_pool2d_backward(dy, cache)
    squares = [(y**2, reference_pooling.max_pool_map(geometry, rectified=rectified))]
    if not rectified:  # among several zeros the first is taken, so pixels are not exchangeable
        squares.append((dx**2, max_pool_backward_map(geometry)))
    limit = z_threshold(checks=sum(law.size for _, law in squares))
    for values, law in squares:
        for i, j in np.ndindex(law.shape):
            assert abs(mean_z(values[:, :, i, j].ravel(), law[i, j])) < limit
    np.testing.assert_allclose(dx.sum(), dy.sum(), rtol=1e-9)
    if kernel == stride:
        np.testing.assert_allclose(np.sum(dx**2), np.sum(dy**2), rtol=1e-12)


def test_padding_counted_as_zeros_would_be_seen():
    """The law of a 3x3 window everywhere is off by a quarter and more at the edge."""
    edges = reference_pooling.max_pool_map(ConvGeometry.of((8, 8), 3, 2, 1))
    assert edges[0, 0] == pytest.approx(max_moment(4, 2)) and edges[1, 1] == pytest.approx(max_moment(9, 2))
    assert edges[0, 0] < 0.75 * edges[1, 1]


@pytest.mark.parametrize(("kernel", "padding", "share"), [(2, 0, 0.9375), (3, 1, 0.9891)])
def test_share_that_passes_pooling_and_the_relu_below(kernel, padding, share):
    geometry = ConvGeometry.of((8, 8), kernel, 2, padding)
    assert reference_pooling.max_pool_gate(geometry) == pytest.approx(share, abs=5e-5)
    rng = np.random.default_rng(15)
    z = rng.standard_normal((DRAWS * CHANNELS, 1, 8, 8))
    a, gate = ops.relu_forward(z)
    y, cache = ops.max_pool2d_forward(a, kernel, stride=2, padding=padding)
    dz = ops.relu_backward(ops.max_pool2d_backward(rng.standard_normal(y.shape), cache), gate)
    per_map = np.sum(dz**2, axis=(1, 2, 3)) / y[0].size
    assert abs(mean_z(per_map, reference_pooling.max_pool_gate(geometry))) < z_threshold(checks=1)


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(2, 2, 0), (3, 2, 1)])
def test_average_pooling_per_position(kernel, stride, padding):
    rng = np.random.default_rng(16)
    geometry = ConvGeometry.of((8, 8), kernel, stride, padding)
    law = reference_pooling.avg_pool_map(geometry, mean=0.4, variance=1.0)
    x = rng.standard_normal((DRAWS, CHANNELS, 8, 8)) + 0.4
    y, cache = ops.avg_pool2d_forward(x, kernel, stride=stride, padding=padding)
    for i, j in np.ndindex(law.shape):
        assert abs(mean_z((y[:, :, i, j] ** 2).ravel(), law[i, j])) < z_threshold(checks=law.size)
    dy = rng.standard_normal(y.shape)
    dx = ops.avg_pool2d_backward(dy, cache)
    if kernel == stride:
        np.testing.assert_allclose(np.sum(dx**2), np.sum(dy**2) / kernel**2, rtol=1e-12)


def test_global_average_pooling():
    rng = np.random.default_rng(17)
    y, cache = ops.global_avg_pool2d_forward(rng.standard_normal((3, 4, 5, 6)))
    dy = rng.standard_normal(y.shape)
    dx = ops.global_avg_pool2d_backward(dy, cache)
    np.testing.assert_allclose(np.sum(dx**2), np.sum(dy**2) / 30, rtol=1e-12)


@pytest.mark.parametrize("p", [0.2, 0.5])
def test_dropout(p):
    """Second moments and gradients times 1/(1 - p); the product of two samples as before."""
    rng = np.random.default_rng(18)
    x, dy = rng.standard_normal((2, 2, 300)) + 1
    squares, gradients, products = [], [], []
    for _ in range(2000):
        y, cache = ops.dropout_forward(x, p, rng=rng)
        squares.append(np.mean(y**2))
        gradients.append(np.mean(ops.dropout_backward(dy, cache) ** 2))
        products.append(np.mean(y[0] * y[1]))
    q, kernel = reference_pooling.dropout_kernel(np.mean(x**2), np.mean(x[0] * x[1]), p)
    limit = z_threshold(checks=6)
    assert abs(mean_z(np.array(squares), q)) < limit
    assert abs(mean_z(np.array(gradients), np.mean(dy**2) / (1 - p))) < limit
    assert abs(mean_z(np.array(products), kernel)) < limit


@pytest.mark.parametrize(("keep", "ratio"), [(0.5, 2.4669), (0.8, 1.3667)])
def test_running_statistics_taken_with_dropout_are_too_large(keep, ratio):
    assert dropout_variance_ratio(1 - keep) == pytest.approx(ratio, abs=5e-5)
