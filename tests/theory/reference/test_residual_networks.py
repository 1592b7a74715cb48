"""Residual networks without normalization: exact sums, the reflected walk, Fixup's identities, on the real passes."""

import math

import numpy as np
import pytest

from minires import init, nn
from minires.theory.laws.geometry import ConvGeometry
from minires.theory.stats import t_threshold
from tests.theory.reference import residual_networks
from tests.theory.reference.statistics import mean_z

# laws2.md, section 19: blocks, alpha^2, growth going up and going down, by an independent implementation
GATED = [
    (8, 1 / 8, 4.29, 1.538),
    (16, 1 / 16, 4.97, 1.305),
    (16, 1 / 32, 2.316, 0.808),
    (64, 1 / 64, 6.03, 0.981),
    (64, 1 / 128, 2.504, 0.670),
]


class Skip(nn.Layer):
    """h + alpha W2 relu(W1 h), and a relu after the sum if gated."""

    def __init__(self, first, second, alpha, *, gated=False):
        self.first, self.relu, self.second = first, nn.ReLU(), second
        self.alpha, self.after = alpha, nn.ReLU() if gated else nn.Identity()

    def _forward(self, x):
        branch = self.second.forward(self.relu.forward(self.first.forward(x)))
        return self.after.forward(x + self.alpha * branch), None

    def _backward(self, dy, cache):
        dy = self.after.backward(dy)
        return dy + self.first.backward(self.relu.backward(self.second.backward(self.alpha * dy)))


def growths(make_layer, blocks, x, networks, rng):
    """(forward, backward) growth of the squared norm for each network."""
    up, down = [], []
    for _ in range(networks):
        layers = [make_layer(rng) for _ in range(blocks)]
        h = x
        for layer in layers:
            h = layer.forward(h)
        v = rng.standard_normal(h.shape).astype(x.dtype)
        g = v
        for layer in reversed(layers):
            g = layer.backward(g)
        up.append(np.sum(h**2) / np.sum(x**2))
        down.append(np.sum(g**2) / np.sum(v**2))
    return np.array(up), np.array(down)


@pytest.mark.parametrize(("second", "gain2"), [(init.HeNormal(), 2), (init.LeCunNormal(), 1)], ids=["he", "lecun"])
def test_a_block_triples_or_doubles_the_signal(second, gain2):
    """Exact at any width: 8 units, 800 networks of 3 blocks, alpha 1 and alpha 1/2."""
    for alpha in (1.0, 0.5):
        rng = np.random.default_rng(7)

        def block(rng, alpha=alpha):
            one = nn.Linear(8, 8, bias=False, weight_init=init.HeNormal(), rng=rng)
            two = nn.Linear(8, 8, bias=False, weight_init=second, rng=rng)
            return Skip(one.astype(np.float64), two.astype(np.float64), alpha)

        up, down = growths(block, 3, rng.standard_normal((2, 8)), 800, rng)
        expected = residual_networks.growth([alpha] * 3, residual_networks.branch_gain(2, gain2))
        assert expected == pytest.approx((1 + alpha**2 * gain2) ** 3)
        assert abs(mean_z(up, expected)) < t_threshold(800, checks=8)
        assert abs(mean_z(down, expected)) < t_threshold(800, checks=8)


def test_edges_by_position():
    """3x3 convolutions on 5x4 pixels: second moments of h_2 and of the gradient at h_0, every position."""
    networks, rng = 800, np.random.default_rng(8)
    geometry = ConvGeometry.of((5, 4), 3, padding=1)
    x = rng.standard_normal((2, 3, 5, 4)) * np.linspace(1, 2, 4)
    law = residual_networks.skip_law(np.mean(x**2, axis=(0, 1)), [1.0, 0.7], geometry)
    up, down = [], []
    for _ in range(networks):
        convs = [nn.Conv2d(3, 3, 3, padding=1, bias=False, rng=rng).astype(np.float64) for _ in range(4)]
        layers = [Skip(convs[0], convs[1], 1.0), Skip(convs[2], convs[3], 0.7)]
        h = layers[1].forward(layers[0].forward(x))
        g = layers[0].backward(layers[1].backward(rng.standard_normal(h.shape)))
        up.append(np.mean(h**2, axis=(0, 1)))
        down.append(np.mean(g**2, axis=(0, 1)))
    limit = t_threshold(networks, checks=40)
    for values, expected in ((np.array(up), law.q[-1]), (np.array(down), law.gradient[0])):
        for i, j in np.ndindex(5, 4):
            assert abs(mean_z(values[:, i, j], expected[i, j])) < limit
    assert law.q[-1].mean() < 0.8 * np.mean(x**2) * residual_networks.growth([1.0, 0.7])  # and the edges matter


@pytest.mark.parametrize(("blocks", "alpha2", "up", "down"), GATED)
def test_reflected_walk_has_the_published_values(blocks, alpha2, up, down):
    law = residual_networks.gated_law([math.sqrt(alpha2)] * blocks)
    assert law.second_moment[-1] == pytest.approx(up, rel=2e-3)
    assert law.gradient[0] == pytest.approx(down, rel=2e-3)


def test_undamped_gated_blocks():
    """2.3995 per block in the long run, instead of the 3 of a linear skip path."""
    moments = residual_networks.gated_law([1.0] * 12).second_moment
    assert moments[-1] / moments[-2] == pytest.approx(2.3995, rel=1e-3)


def test_reflected_walk_on_real_networks():
    """256 units, 16 blocks, alpha^2 = 1/16, 16 networks: 4 % for mean field + Student's t at 1e-4."""
    networks, blocks = 16, 16
    rng = np.random.default_rng(9)
    x = np.maximum(rng.standard_normal((32, 256)), 0).astype(np.float32)

    def block(rng):
        pair = [nn.Linear(256, 256, bias=False, weight_init=init.HeNormal(), rng=rng) for _ in range(2)]
        return Skip(*pair, blocks**-0.5, gated=True)

    law = residual_networks.gated_law([blocks**-0.5] * blocks)
    t = t_threshold(networks, false_alarm=1e-4)
    for values, expected in zip(
        growths(block, blocks, x, networks, rng), (law.second_moment[-1], law.gradient[0]), strict=True
    ):
        se = np.std(values, ddof=1) / math.sqrt(networks)
        assert abs(values.mean() - expected) <= 0.04 * expected + t * se
    assert abs(values.mean() - law.second_moment[-1]) > 2  # forward and backward differ: the swapped law fails


class PreActivation(Skip):
    """h + alpha W2 relu(W1 relu(h))."""

    def __init__(self, first, second, alpha):
        super().__init__(first, second, alpha)
        self.before = nn.ReLU()

    def _forward(self, x):
        branch = self.second.forward(self.relu.forward(self.first.forward(self.before.forward(x))))
        return x + self.alpha * branch, None

    def _backward(self, dy, cache):
        branch = self.first.backward(self.relu.backward(self.second.backward(self.alpha * dy)))
        return dy + self.before.backward(branch)


def test_preactivation_blocks_on_real_networks():
    """256 units, 16 blocks, alpha^2 = 1/16: (1 + 1/16)^16 = 2.638 both ways; 3 % for mean field + t at 1e-4."""
    networks, blocks, rng = 16, 16, np.random.default_rng(19)

    def block(rng):
        pair = [nn.Linear(256, 256, bias=False, weight_init=init.HeNormal(), rng=rng) for _ in range(2)]
        return PreActivation(*pair, blocks**-0.5)

    expected = residual_networks.growth([blocks**-0.5] * blocks, residual_networks.preactivation_branch_gain())
    assert expected == pytest.approx(2.638, abs=5e-4)
    t = t_threshold(networks, false_alarm=1e-4)
    for values in growths(block, blocks, rng.standard_normal((32, 256)).astype(np.float32), networks, rng):
        se = np.std(values, ddof=1) / math.sqrt(networks)
        assert abs(values.mean() - expected) <= 0.03 * expected + t * se


def test_fixup_at_the_start():
    """Blocks are the identity, bit for bit; the gradient is gated once; only last layers of the branches learn."""
    rng = np.random.default_rng(10)
    model = nn.resnet(8, width=4, batchnorm=False, rng=0)
    init.fixup(model)
    stem = model.relu.forward(model.conv1.forward(rng.standard_normal((4, 3, 8, 8)).astype(np.float32)))
    block = next(layer for _, layer in model.layer1.children())
    out = block.forward(stem)
    np.testing.assert_array_equal(out, stem)
    dy = rng.standard_normal(out.shape).astype(np.float32)
    np.testing.assert_array_equal(block.backward(dy), dy * (stem > 0))
    assert not block.conv1.weight.grad.any() and block.conv2.weight.grad.any()


def test_fixup_scale():
    assert residual_networks.fixup_scale(16) == 1 / 4
    assert residual_networks.fixup_scale(16, layers_in_branch=3) == 1 / 2
    with pytest.raises(ValueError, match="at least 2 layers"):
        residual_networks.fixup_scale(16, layers_in_branch=1)


def test_scaled_as_fixup_with_he_last_layers_the_growth_is_bounded():
    """alpha = L^(-1/2) on the first layer: (1 + 2/L)^L stays below e^2 at any depth."""
    for blocks in (4, 64, 1024):
        assert residual_networks.growth([residual_networks.fixup_scale(blocks)] * blocks) < math.exp(2)
