"""The position-resolved law: its parts, the published values, and networks with zero padding that people build."""

import math

import numpy as np
import pytest

from minires import init, nn
from minires.theory.laws import batchnorm
from minires.theory.laws import signal as signals
from minires.theory.laws.activations import arc_cosine
from minires.theory.laws.geometry import ConvGeometry
from minires.theory.laws.reflected_walk import Grid
from minires.theory.laws.signal import Signal
from minires.theory.stats import t_threshold
from tests.theory.evidence.__main__ import blocks_of, stream_gradients
from tests.theory.reference import batchnorm_networks, padded_networks
from tests.theory.reference.blocks import Block, resnet_layout, stages

# laws2.md, sections 12 and 13: computed by an independent implementation
RESNET20_B = [141.65, 40.44, 17.98, 10.445, 11.206, 5.189, 3.042, 3.173, 1.565, 1.0]
RESNET20_A = [84.08, 23.99, 10.60, 5.837, 5.249, 2.979, 1.911, 1.994, 1.303, 1.0]
DEEP_B = [75.50, 22.09, 10.72, 8.948, 4.673, 3.822, 2.148, 1.767, 1.0]
DEEP_A = [42.41, 12.34, 5.681, 4.570, 2.527, 2.361, 1.463, 1.496, 1.0]
ONE_STAGE = {2: 11.78, 4: 12.57, 8: 15.92, 16: 18.83}
PLAIN = {2: 9.11, 4: 9.98, 8: 13.54, 16: 16.88}
PREACT = {2: 8.83, 4: 10.10, 8: 11.54, 16: 12.34}
COHERENT = {0.089: 132.26, 0.113: 129.73}


def deep_layout(shortcut, width=16):
    return stages(tuple(width * 2**s for s in range(4)), (2, 2, 2, 2), shortcut)


def some_signal(image, rng, samples=6):
    """A signal with a genuine covariance between positions."""
    n = image[0] * image[1]
    root = rng.standard_normal((n, samples)) + 1
    kernel = root @ root.T / samples
    return Signal(np.diagonal(kernel) + rng.random(n), kernel)


# ---- the parts


@pytest.mark.parametrize("image", [(3, 4), (9, 9)])  # all eigenpairs; the leading ones
def test_batchnorm_normalizes(image):
    normalized = batchnorm.batchnorm(some_signal(image, np.random.default_rng(0)))
    assert normalized.signal.q.mean() == pytest.approx(1, abs=1e-3)
    np.testing.assert_allclose(normalized.signal.kernel.mean(axis=0), 0, atol=1e-9)


def test_random_scale_against_simulated_channels():
    """v = v_d + mean square of a common map drawn from C; E[1/v] and E[map map'/v] by Monte Carlo."""
    rng = np.random.default_rng(1)
    signal = some_signal((2, 3), rng)
    normalized = batchnorm.batchnorm(signal)
    row = signal.kernel.mean(axis=1)
    c = signal.kernel - row[:, None] - row[None, :] + row.mean()
    certain = normalized.v - np.trace(c) / 6
    root = np.linalg.svd(c)[0] * np.sqrt(np.linalg.svd(c)[1])
    common = rng.standard_normal((400_000, 6)) @ root.T
    v = certain + np.mean(common**2, axis=1)
    se = np.std(1 / v) / math.sqrt(v.size)
    assert abs(np.mean(1 / v) - normalized.inverse_v) < 5 * se
    assert normalized.inverse_v > 1.05 / normalized.v  # the effect is there to be seen
    products = common[:, 0] * common[:, 4] / v
    assert abs(products.mean() - normalized.signal.kernel[0, 4]) < 5 * products.std() / math.sqrt(v.size)


def test_leading_eigenpairs_do_for_large_maps(monkeypatch):
    """The common map of a real signal has the rank of the kernel's taps: 32 directions give what all give."""
    geometry = ConvGeometry.of((10, 10), 3, padding=1)
    white = padded_networks.conv_batchnorm(Signal.white_noise((10, 10)), geometry)
    signal = signals.conv(padded_networks.relu(white), geometry)
    few = batchnorm.batchnorm(signal)
    monkeypatch.setattr(batchnorm, "_ALL_PAIRS", 100)
    every = batchnorm.batchnorm(signal)
    assert few.inverse_v == pytest.approx(every.inverse_v, rel=1e-5)
    np.testing.assert_allclose(few.signal.kernel, every.signal.kernel, atol=1e-5)


def test_arc_cosine_kernel_against_quadrature():
    z = np.linspace(-9, 9, 1801)
    density = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi) * (z[1] - z[0])
    q, c = np.array([0.7, 1.9]), 0.4
    x = math.sqrt(q[0]) * z[:, None]
    correlation = c / math.sqrt(q[0] * q[1])
    y = math.sqrt(q[1]) * (correlation * z[:, None] + math.sqrt(1 - correlation**2) * z[None, :])
    expected = density @ (np.maximum(x, 0) * np.maximum(y, 0)) @ density
    kernel = arc_cosine(np.sqrt(q), np.array([[q[0], c], [c, q[1]]]))
    assert kernel[0, 1] == pytest.approx(expected, rel=1e-4)
    np.testing.assert_allclose(np.diagonal(kernel), q / 2)


def test_convolution_and_its_backward_are_adjoint():
    rng = np.random.default_rng(2)
    geometry = ConvGeometry.of((7, 5), (3, 2), (2, 1), (1, 0))
    signal = some_signal((7, 5), rng)
    energy = rng.random(math.prod(geometry.outputs))
    forward = signals.conv(signal, geometry).q @ energy
    assert forward == pytest.approx(signal.q @ signals.conv_backward(energy, geometry), rel=1e-12)


def test_batch_variance_of_a_signal_is_its_second_moment_less_the_common_map():
    signal = some_signal((3, 3), np.random.default_rng(3))
    assert signal.variance == pytest.approx(batchnorm.batchnorm(signal).v, rel=1e-12)


# ---- the law


@pytest.mark.parametrize(
    ("layout", "image", "expected", "tolerance"),
    [
        (resnet_layout(20, "B"), (32, 32), RESNET20_B, 1e-3),
        (resnet_layout(20, "A"), (32, 32), RESNET20_A, 1e-3),
        (deep_layout("B"), (16, 16), DEEP_B, 1e-3),
        (deep_layout("A"), (16, 16), DEEP_A, 5e-3),  # S_s from the average walk; the specification's is per position
    ],
    ids=["resnet20-B", "resnet20-A", "16to2-B", "16to2-A"],
)
def test_published_values(layout, image, expected, tolerance):
    law = padded_networks.basic_block_law(layout, image)
    np.testing.assert_allclose(law.gradient, expected, rtol=tolerance)


@pytest.mark.parametrize("size", ONE_STAGE)
def test_one_stage(size):
    law = padded_networks.basic_block_law(stages((16,), (4,)), (size, size))
    assert law.gradient[0] == pytest.approx(ONE_STAGE[size], rel=1e-3)


def test_forward_moments_of_resnet20():
    law = padded_networks.basic_block_law(resnet_layout(20, "B"), (32, 32))
    v = [0.3415, 0.6973, 1.0571, 1.4189, 0.6831, 1.0014, 1.3482, 0.6846, 1.0059, 1.3559]
    np.testing.assert_allclose(law.variance, v, rtol=5e-4)
    one = batchnorm_networks.basic_block_law(resnet_layout(20, "B"))
    np.testing.assert_allclose(law.second_moment, one.second_moment, rtol=2e-3)  # BN hides the edges going forward
    np.testing.assert_allclose(law.positive, one.positive, rtol=2e-3)


@pytest.mark.parametrize("blocks", [1, 4])
def test_without_edges_it_is_the_edge_free_law(blocks):
    layout = [Block(16, 16, kernel_size=1, padding=0)] * blocks
    layout.append(Block(16, 32, kernel_size=1, padding=0, shortcut="B"))
    grid = Grid(480, 24.0)
    found, expected = (
        padded_networks.basic_block_law(layout, (1, 1), stem=(1, 0), grid=grid),
        batchnorm_networks.basic_block_law(layout, grid),
    )
    np.testing.assert_allclose(found.gradient, expected.gradient, rtol=2e-4)  # one takes E h from the grid,
    np.testing.assert_allclose(found.variance, expected.variance, rtol=2e-4)  # the other from the arc-cosine kernel


def test_without_padding_the_outputs_agree_at_all_positions():
    layout = [Block(16, 16, kernel_size=1, padding=0)] * 3
    law = padded_networks.basic_block_law(layout, (4, 4), stem=(1, 0))
    for q, g in zip(law.q, law.gradient_maps, strict=True):
        assert np.ptp(q) < 1e-9 * q.mean()
        assert np.ptp(g) < 1e-9 * g.mean()


def test_shares_by_pixel_parity_below_a_transition():
    """laws2.md, section 13: energy by parity (even, even) / (even, odd) / (odd, odd).

    One block and a transition, 16x16.
    """
    for shortcut, shares in (("B", (0.8239, 0.2047, 0.3909)), ("A", (0.4713, 0.2430, 0.4640))):
        law = padded_networks.basic_block_law([Block(16, 16), Block(16, 32, 2, shortcut)], (16, 16))
        g = law.gradient_maps[1] * 16 / (32 * 8 * 8)
        parity = g[::2, ::2].sum(), g[::2, 1::2].sum(), g[1::2, 1::2].sum()
        np.testing.assert_allclose(parity, shares, rtol=1e-3)


@pytest.mark.parametrize("coherence", COHERENT)
def test_an_upstream_that_samples_share(coherence):
    law = padded_networks.basic_block_law(resnet_layout(20, "B"), (32, 32), coherence=coherence)
    assert law.gradient[0] == pytest.approx(COHERENT[coherence], rel=1e-3)


@pytest.mark.parametrize("size", PLAIN)
def test_plain_and_preactivation_networks(size):
    layers = [padded_networks.ConvLayer(16, 16)] * 9  # the stem and eight more; growth from the stem's output
    assert padded_networks.plain_law(layers, (size, size)).gradient[1] == pytest.approx(PLAIN[size], rel=1e-3)
    assert padded_networks.preact_law(8, (size, size)).gradient[0] == pytest.approx(PREACT[size], rel=1e-3)


def test_zero_gamma_makes_blocks_the_identity():
    """The stream stays, and the gradient is gated once, by the topmost ReLU: relu'(0) = 0."""
    layout = [block._replace(branch_gain=0.0) for block in stages((16,), (3,))]
    law = padded_networks.basic_block_law(layout, (4, 4))
    np.testing.assert_allclose(law.second_moment, 0.5, rtol=1e-3)
    np.testing.assert_allclose(law.gradient, [0.5, 0.5, 0.5, 1], rtol=1e-9)


# ---- real networks (large samples: python -m tests.theory.evidence)


@pytest.fixture(scope="module")
def deep_networks():
    """Stages 16x16 to 2x2, eight networks of width 16, independent upstream: gradients at streams and of weights."""
    growths, weights = [], []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        model = nn.resnet(blocks=(2, 2, 2, 2), shortcut="B", rng=rng)
        x = rng.standard_normal((64, 3, 16, 16)).astype(np.float32)
        upstream = rng.standard_normal((64, 128, 2, 2)).astype(np.float32)
        totals = np.array([np.sum(np.square(g)) for g in stream_gradients(model, x, upstream)])
        growths.append(totals / totals[-1])
        weights.append([[np.mean(np.square(w)) for w in weight_gradients(block)] for block in blocks_of(model)])
    return np.array(growths), np.array(weights)


def weight_gradients(block):
    """dW of conv1, conv2 and the projection (0 where there is none)."""
    projection = block.shortcut.layers[0].weight.grad if isinstance(block.shortcut, nn.Sequential) else np.zeros(1)
    return block.conv1.weight.grad, block.conv2.weight.grad, projection


def within(values, law, allowance):
    """|mean/law - 1| <= allowance + t * s.e., Student's t at 1e-4."""
    mean, se = values.mean(axis=0), values.std(axis=0, ddof=1) / math.sqrt(len(values))
    return abs(mean / law - 1) <= allowance + t_threshold(len(values), false_alarm=1e-4) * se / law


def test_real_networks_meet_the_law_and_fail_the_edge_free_one(deep_networks):
    growths, _ = deep_networks
    assert np.all(within(growths, padded_networks.basic_block_law(deep_layout("B"), (16, 16)).gradient, 0.04))
    assert not within(growths, batchnorm_networks.basic_block_law(deep_layout("B")).gradient, 0.04)[0]


def test_weight_gradients_of_real_networks(deep_networks):
    """mean dW^2 of every convolution: 6 % + t * s.e."""
    _, weights = deep_networks
    law = padded_networks.basic_block_law(deep_layout("B"), (16, 16))
    expected = 64 * np.array([[b.weight1, b.weight2, b.projection] for b in law.backward])
    there = expected > 0
    assert there.sum() == 8 + 8 + 3
    assert np.all(within(weights[:, there], expected[there], 0.06))
    assert not np.any(weights[:, ~there])


@pytest.mark.parametrize("size", [4, 8])
def test_real_preactivation_networks(size):
    """Four blocks of width 32 behind a convolution."""
    growths, law = [], padded_networks.preact_law(4, (size, size))
    for seed in range(8):
        rng = np.random.default_rng(seed)
        blocks = [nn.PreActBlock(32, 32) for _ in range(4)]
        model = nn.Sequential(nn.Conv2d(32, 32, 3, padding=1, bias=False), *blocks)
        init.initialize(model, rng=rng)
        x = rng.standard_normal((64, 32, size, size)).astype(np.float32)
        gradients = stream_gradients(model, x, rng.standard_normal(x.shape).astype(np.float32))
        totals = np.array([np.sum(np.square(g)) for g in gradients])
        growths.append(totals / totals[-1])
    assert np.all(within(np.array(growths), law.gradient, 0.04))


@pytest.mark.parametrize("size", [2, 8])
def test_real_plain_networks(size):
    """Five layers conv-BN-ReLU of width 32: growth of the gradient from the first one's output up."""
    law = padded_networks.plain_law([padded_networks.ConvLayer(32, 32)] * 5, (size, size))
    growths = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        layers = []
        for _ in range(5):
            layers += [nn.Conv2d(32, 32, 3, padding=1, bias=False, rng=rng), nn.BatchNorm2d(32), nn.ReLU()]
        h = rng.standard_normal((128, 32, size, size)).astype(np.float32)
        for layer in layers:
            h = layer.forward(h)
        upstream = g = rng.standard_normal(h.shape).astype(np.float32)
        for layer in reversed(layers[3:]):
            g = layer.backward(g)
        growths.append(np.sum(g**2) / np.sum(upstream**2))
    assert within(np.array(growths), law.gradient[1], 0.04)
    assert not within(np.array(growths), batchnorm_networks.plain_gradient(4)[0], 0.04)  # without edges
