"""v1 and v2 streams without edges: closed forms, the grid recursion, simulated walks and real 1x1 networks."""

import math

import numpy as np
import pytest

from minires import nn
from minires.theory.laws.reflected_walk import Grid
from minires.theory.stats import t_threshold, z_threshold
from tests.theory.reference import batchnorm_networks, padded_networks
from tests.theory.reference.blocks import Block, resnet_layout, stages
from tests.theory.reference.statistics import mean_z

GRID = 1e-3  # what the default grid may change, see walk.grid_for

# laws.md, section 7: computed by an independent implementation
SPITZER = {
    1: (0.5, 0.34085, 0.5),
    2: (1.15915, 0.69534, 0.625),
    3: (1.88423, 1.05365, 0.6875),
    4: (2.64759, 1.41363, 0.72656),
    5: (3.43669, 1.77453, 0.75391),
    7: (5.06713, 2.49783, 0.79053),
    9: (6.74512, 3.22225, 0.81453),
}
GROWTH = {1: 3.3149, 2: 7.4597, 3: 13.8131, 4: 22.7433, 6: 49.72, 8: 91.02, 16: 446.8, 32: 2501.0}


@pytest.mark.parametrize("n", SPITZER)
def test_closed_forms_have_the_published_values(n):
    found = batchnorm_networks.second_moment(n), batchnorm_networks.variance(n), batchnorm_networks.positive(n)
    np.testing.assert_allclose(found, SPITZER[n], atol=6e-6)


def test_closed_forms_are_those_of_a_simulated_walk():
    rng = np.random.default_rng(0)
    h = np.zeros(200_000)
    limit = z_threshold(checks=18)
    for n in range(1, 7):
        h = np.maximum(0, h + rng.standard_normal(h.size))
        assert abs(mean_z(h, batchnorm_networks.mean(n))) < limit
        assert abs(mean_z(h**2, batchnorm_networks.second_moment(n))) < limit
        assert abs(mean_z((h > 0).astype(float), batchnorm_networks.positive(n))) < limit


def test_grid_walk_follows_the_closed_forms_and_keeps_its_mass():
    grid = Grid(960, 24.0)
    walk = grid.start()
    for n in range(1, 10):
        walk = grid.step(walk, 1.0)
        assert walk.sum() == pytest.approx(1, abs=1e-12)
        assert grid.moment(walk, 2) == pytest.approx(batchnorm_networks.second_moment(n), rel=1e-4)
        assert grid.positive(walk) == pytest.approx(batchnorm_networks.positive(n), rel=1e-4)


def test_pull_back_is_the_adjoint_of_a_step():
    """E f(h') 1{h' > 0} over the law after the step = E (pull-back of f)(h) over the law before it."""
    grid = Grid(960, 24.0)
    f = np.concatenate([[5.0], np.sin(grid.points[1:])])
    before = grid.step(grid.step(grid.start(), 2.0), 0.5)
    after = grid.step(before, 1.5)
    assert grid.expect(before, grid.pull_back(f, 1.5)) == pytest.approx(
        float(grid.expect(after, f, gated=True)), rel=1e-12
    )


def test_pull_back_against_quadrature():
    """At one h, with and without the factor g."""
    grid = Grid(960, 24.0)
    g = np.linspace(-12, 12, 400_001)
    density = np.exp(-0.5 * g**2 / 0.7) / math.sqrt(2 * math.pi * 0.7) * (g[1] - g[0])
    f = np.exp(-grid.points)
    plain, times_g = grid.pull_back(f, 0.7), batchnorm_networks.pull_back_times_step(grid, f, 0.7)
    for index in (0, 51):
        h = grid.points[index]
        inside = np.where(h + g > 0, np.exp(-(h + g)), 0)
        assert plain[index] == pytest.approx(np.sum(density * inside), rel=1e-4)
        assert times_g[index] == pytest.approx(np.sum(density * g * inside), rel=1e-3)


def test_a_step_of_nothing_changes_nothing():
    grid = Grid(240, 12.0)
    walk = grid.step(grid.start(), 1.0)
    assert grid.step(walk, 0.0) is walk
    pulled = grid.pull_back(np.ones(grid.n + 1), 0.0)
    assert pulled[0] == 0 and np.all(pulled[1:] == 1)  # the gate alone: relu'(0) = 0


def test_a_step_finer_than_the_grid_is_refused():
    grid = Grid(24, 24.0)
    with pytest.raises(ValueError, match="too small for a grid"):
        grid.step(grid.start(), 0.1)


@pytest.mark.parametrize("blocks", GROWTH)
def test_growth_of_the_gradient_in_one_stage(blocks):
    law = batchnorm_networks.basic_block_law(stages((16,), (blocks,)))
    assert law.gradient[0] == pytest.approx(GROWTH[blocks], rel=GRID)


def test_gates_are_correlated():
    """Independent gates would let P(on) of the gradient pass at each block: 56 instead of 91 at eight blocks."""
    law = batchnorm_networks.basic_block_law(stages((16,), (8,)))
    naive = 1.0
    for l in range(7, -1, -1):  # noqa: E741
        naive *= law.positive[l + 1] * (1 + batchnorm_networks.BRANCH_GAIN / law.variance[l])
    assert naive == pytest.approx(56, rel=0.02)
    assert law.gradient[0] > 1.5 * naive


def test_transitions():
    b = batchnorm_networks.basic_block_law(resnet_layout(20, "B"))
    assert b.gradient[0] == pytest.approx(190.4, rel=GRID)
    np.testing.assert_allclose(b.second_moment[4:7], [1, 1.6812, 2.4255], rtol=GRID)
    np.testing.assert_allclose(b.variance[4:7], [0.6817, 0.9972, 1.3407], rtol=GRID)
    deep = batchnorm_networks.basic_block_law(stages((16, 32, 64, 128), (2, 2, 2, 2), "B"))
    assert deep.gradient[0] == pytest.approx(143.7, rel=GRID)


def test_option_a_without_stride_or_new_channels_is_the_identity():
    plain = batchnorm_networks.basic_block_law(stages((16,), (4,)))
    a = batchnorm_networks.basic_block_law([Block(16, 16, 1, "A")] * 4)
    np.testing.assert_array_equal(plain.gradient, a.gradient)


def test_option_a_that_subsamples():
    """Totals are those of the position-resolved law with 1x1 kernels, which has no edges either."""
    layout = [Block(16, 16), Block(16, 32, 2, "A"), Block(32, 32)]
    pointwise = [block._replace(kernel_size=1, padding=0) for block in layout]
    found = padded_networks.basic_block_law(pointwise, (4, 4), stem=(1, 0))
    np.testing.assert_allclose(batchnorm_networks.basic_block_law(layout).gradient, found.gradient, rtol=GRID)


def test_plain_and_preactivation_networks():
    assert batchnorm_networks.plain_gradient(8)[0] == pytest.approx(21.44, rel=1e-3)
    law = batchnorm_networks.preact_law(8, start=1.0)
    assert law.gradient[0] == pytest.approx(33.28, rel=1e-3)
    assert law.variance[-1] == pytest.approx(6.454, rel=1e-3)
    assert batchnorm_networks.preact_law(8).gradient[0] == pytest.approx(13.20, rel=1e-3)


def one_by_one_network(channels, blocks, rng):
    """BasicBlocks with 1x1 convolutions: no edges, so that the law of this file is the right one."""
    layers = [nn.Conv2d(channels, channels, 1, bias=False, rng=rng), nn.BatchNorm2d(channels), nn.ReLU()]
    for _ in range(blocks):
        block = nn.BasicBlock(channels, channels)
        block.conv1 = nn.Conv2d(channels, channels, 1, bias=False, rng=rng)
        block.conv2 = nn.Conv2d(channels, channels, 1, bias=False, rng=rng)
        layers.append(block)
    return layers


def growth_of(layers, x, rng):
    """|dL/dh_0|^2 / |dL/dh_L|^2, and the mean squares of h_0..h_L."""
    h, moments = x, []
    for number, layer in enumerate(layers):
        h = layer.forward(h)
        if number >= 2:
            moments.append(np.mean(h**2))
    g = rng.standard_normal(h.shape).astype(np.float32)
    top = np.sum(g**2)
    for layer in layers[:2:-1]:
        g = layer.backward(g)
    return np.sum(g**2) / top, moments


@pytest.mark.parametrize("scale", [1, 2])
def test_real_networks_without_edges_within_the_allowance_that_halves(scale):
    """Four blocks; the mean-field allowance is 1.2/C + 1.5/m a block, so width and batch twice as large halve it."""
    channels, pixels, blocks, networks = 64 * scale, 512 * scale, 4, 16
    law = batchnorm_networks.basic_block_law(stages((channels,), (blocks,)))
    growths, forwards = [], []
    for seed in range(networks):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((pixels // 16, channels, 4, 4)).astype(np.float32)
        growth, moments = growth_of(one_by_one_network(channels, blocks, rng), x, rng)
        growths.append(growth)
        forwards.append(moments)
    allowance = blocks * (1.2 / channels + 1.5 / pixels)
    se = np.std(growths, ddof=1) / math.sqrt(networks)
    off = abs(np.mean(growths) / law.gradient[0] - 1)
    assert off <= allowance + t_threshold(networks, false_alarm=1e-4) * se / law.gradient[0]
    np.testing.assert_allclose(np.mean(forwards, axis=0), law.second_moment, rtol=0.02)
