"""Deep networks without normalization: exact maps on real passes, fluctuations, mean-field tables and networks."""

import math
from itertools import pairwise

import numpy as np
import pytest

from minires import init, nn
from minires.theory.laws import plain_networks
from minires.theory.laws.activations import RELU, SIGMOID, TANH, activation_moments
from minires.theory.laws.geometry import ConvGeometry
from minires.theory.stats import t_threshold, z_threshold
from tests.theory.reference import plain_networks as reference_plain_networks
from tests.theory.reference.statistics import mean_z

# channels in, out, kernel, stride, padding of a network on 9x9 inputs
CONVS = [(3, 6, 3, 1, 1), (6, 5, 1, 1, 0), (5, 7, 3, 2, 1), (7, 4, 3, 1, 1), (4, 5, 3, 2, 1)]


def relu_layers(weight, slope):
    layers, size = [], (9, 9)
    for c_in, c_out, k, stride, padding in CONVS:
        geometry = ConvGeometry.of(size, k, stride, padding)
        layers.append(
            reference_plain_networks.ReluLayer(c_in, c_out, weight.variance((c_out, c_in, k, k)), geometry, slope)
        )
        size = geometry.outputs
    return layers


def run(layers, x, upstream):
    """Second moments of one network's z, dL/da and dW per layer, as maps over positions (dW: over taps)."""
    pre, gradient, dweight = [], [], []
    for number, layer in enumerate(layers):
        x = layer.forward(x)
        if number % 2 == 0:
            pre.append(np.mean(x**2, axis=(0, 1)))
    gradient.append(np.mean(upstream**2, axis=(0, 1)))
    for number, layer in reversed(list(enumerate(layers))):
        upstream = layer.backward(upstream)
        if number % 2 == 0:
            gradient.append(np.mean(upstream**2, axis=(0, 1)))
            dweight.append(np.mean(layer.weight.grad**2, axis=(0, 1)))
    return pre, gradient[::-1], dweight[::-1]


@pytest.mark.parametrize(
    ("weight", "slope"),
    [(init.HeNormal(), 0.0), (init.HeUniform(slope=0.2), 0.2)],
    ids=["relu-normal", "leaky-uniform"],
)
def test_exact_maps_of_relu_networks(weight, slope):
    """300 networks: totals of every layer, and every position, each family at a false alarm of 1e-6."""
    networks, samples = 300, 2
    rng = np.random.default_rng(11)
    x = rng.standard_normal((samples, 3, 9, 9)) * np.linspace(0.5, 2, 9)
    law = reference_plain_networks.relu_law(relu_layers(weight, slope), x)
    found = []
    for _ in range(networks):
        layers = []
        for c_in, c_out, k, stride, padding in CONVS:
            conv = nn.Conv2d(c_in, c_out, k, stride, padding, bias=False, weight_init=weight, rng=rng)
            layers += [conv.astype(np.float64), nn.LeakyReLU(slope)]
        upstream = rng.standard_normal((samples, 5, *law.post[-1].shape))
        found.append(run(layers, x, upstream))
    weight_law = [samples * w for w in law.weight]
    totals, maps = [], []
    for kind, expected in enumerate((law.pre, law.gradient[:-1], weight_law)):
        for number, map_ in enumerate(expected):
            values = np.array([one[kind][number] for one in found])
            totals.append(mean_z(values.mean(axis=(1, 2)), map_.mean()))
            maps += [mean_z(values[:, i, j], map_[i, j]) for i, j in np.ndindex(map_.shape)]
    assert np.abs(totals).max() < t_threshold(networks, checks=len(totals))
    assert np.abs(maps).max() < t_threshold(networks, checks=len(maps))


def test_forgetting_the_edges_is_seen():
    """He without edges predicts 1 per layer; three 3x3 layers on 9x9 lose a third."""
    law = reference_plain_networks.relu_law(relu_layers(init.HeNormal(), 0.0), np.ones((9, 9)))
    assert law.pre[-1].mean() < 0.67 * 2


def test_dense_layers_conserve_with_he_and_halve_with_lecun():
    he = reference_plain_networks.relu_law([reference_plain_networks.dense(50, 50, 2 / 50)] * 10, np.ones((1, 1)))
    assert he.pre[-1].item() == pytest.approx(2) and he.gradient[0].item() == pytest.approx(1)
    lecun = reference_plain_networks.relu_law([reference_plain_networks.dense(50, 50, 1 / 50)] * 10, np.ones((1, 1)))
    assert lecun.pre[-1].item() == pytest.approx(2.0**-9)


def relu_ratios(widths, networks, rng):
    """|a_L|^2 and |g_0|^2 of He networks, relative to |a_0|^2 and to n_L/n_0 |v|^2."""
    a = np.ones((networks, widths[0]))
    start = widths[0]
    weights, gates = [], []
    for below, above in pairwise(widths):
        w = rng.standard_normal((networks, above, below)) * math.sqrt(2 / below)
        z = np.einsum("noi,ni->no", w, a)
        gates.append(z > 0)
        weights.append(w)
        a = np.maximum(z, 0)
    g = rng.standard_normal((networks, widths[-1]))
    v = np.sum(g**2, axis=1)
    for w, gate in zip(weights[::-1], gates[::-1], strict=True):
        g = np.einsum("noi,no->ni", w, g * gate)
    return np.sum(a**2, axis=1) / start * widths[0] / widths[-1], np.sum(g**2, axis=1) / v


def test_one_network_is_one_sample():
    """E r^2 = prod (1 + 5/n) going up and prod (1 + 3/(n+2))(1 + 2/n) going down; 10,000 networks."""
    widths = [12, 20, 30, 25, 15, 40]
    up, down = relu_ratios(widths, 10_000, np.random.default_rng(5))
    assert reference_plain_networks.relu_second_moment(widths[1:]) == pytest.approx(2.6250)
    assert reference_plain_networks.relu_backward_second_moment(widths) == pytest.approx(2.9167, rel=1e-4)
    limit = z_threshold(checks=4)
    assert abs(mean_z(up, 1.0)) < limit and abs(mean_z(down, 1.0)) < limit
    assert abs(mean_z(up**2, 2.6250)) < limit
    assert abs(mean_z(down**2, reference_plain_networks.relu_backward_second_moment(widths))) < limit


def test_the_typical_network_shrinks():
    """Width 64, depth 20: median 0.454 of the mean, as measured by an independent implementation."""
    law = plain_networks.relu_log_law([64] * 20)
    assert math.exp(law.mean) == pytest.approx(0.454, rel=0.02)
    assert law.variance == pytest.approx(20 * 5 / 64)


def test_non_gaussian_weights_fluctuate_less():
    """Uniform weights (kurtosis 1.8) on a vector that is concentrated in few entries."""
    rng = np.random.default_rng(3)
    a = np.array([3.0, 1.0, 1.0])
    concentration = np.sum(a**4) / np.sum(a**2) ** 2
    z = rng.uniform(-1, 1, (400_000, 3)) @ a
    square = np.maximum(z, 0) ** 2
    expected = reference_plain_networks.layer_relative_variance(1, 1.8, concentration)
    found = (square / square.mean() - 1) ** 2
    assert abs(mean_z(found, expected)) < z_threshold(checks=1)
    assert expected < 0.7 * reference_plain_networks.layer_relative_variance(1)


def test_samples_of_one_network_share_its_weights():
    """The batch kernel law on 30 correlated vectors, one filter, 200,000 draws."""
    rng = np.random.default_rng(4)
    vectors = rng.standard_normal((30, 8)) + 1.0
    expected = reference_plain_networks.batch_relative_variance(vectors, width=1)
    w = rng.standard_normal((200_000, 8))
    statistic = np.mean(np.maximum(w @ vectors.T, 0) ** 2, axis=1)
    found = (statistic / statistic.mean() - 1) ** 2
    assert abs(mean_z(found, expected)) < z_threshold(checks=1)
    norms = np.sum(vectors**2, axis=1)
    assert 5 / 30 < expected < 5 * np.mean(norms**2) / norms.mean() ** 2  # far above 1/30, below the bound


# ---- mean field; tables of laws.md, section 4


@pytest.mark.parametrize(
    ("activation", "gain", "q", "chi"),
    [
        (TANH, 2, 0.6180, 1.1055),
        (TANH, 25 / 9, 1.1785, 1.2098),
        (TANH, 1 / 3, 0, 1 / 3),
        (SIGMOID, 1, 0.26469, 0.055721),
        (SIGMOID, 2, None, 0.1010),
        (SIGMOID, 16, 5.855, 0.3989),
        (reference_plain_networks.SELU, 1, 1, 1.071623),
    ],
)
def test_fixed_points(activation, gain, q, chi):
    found = plain_networks.fixed_point(activation, gain)
    assert found.chi == pytest.approx(chi, rel=1e-3)
    if q is not None:
        assert found.q == pytest.approx(q, rel=1e-3, abs=1e-9)


def test_fixed_points_of_relu():
    assert plain_networks.fixed_point(RELU, 1.0) == (0.0, 0.5)
    assert plain_networks.fixed_point(RELU, 3.0) == (math.inf, 1.5)
    he = plain_networks.fixed_point(RELU, 2.0)
    assert math.isnan(he.q) and he.chi == 1


def test_selu_normalizes_itself():
    moments = activation_moments(reference_plain_networks.SELU, 1.0)
    found = moments.mean, moments.second, moments.slope2, moments.fourth - 1
    np.testing.assert_allclose(found, [0, 1, 1.071623, 1.5031], atol=2e-4)


def test_gradients_through_tanh_and_sigmoid():
    """Ten layers; tanh at gain 1 loses gradients as a power of the depth, sigmoid in every case exponentially."""
    assert reference_plain_networks.mean_field(TANH, 1, 11).gradient[0] == pytest.approx(0.0714, rel=1e-3)
    assert reference_plain_networks.mean_field(TANH, 25 / 9, 11).gradient[0] == pytest.approx(3.78, rel=2e-3)
    assert reference_plain_networks.mean_field(SIGMOID, 1, 11).gradient[0] == pytest.approx(2.295e-13, rel=1e-3)


def test_spread_of_one_network():
    """Relative variance times width at layer 10, n = 128: 7.52 (tanh), 2.22 (sigmoid)."""
    assert reference_plain_networks.mean_field(TANH, 1, 10, width=128).spread[-1] ** 2 * 128 == pytest.approx(
        7.52, rel=1e-3
    )
    assert reference_plain_networks.mean_field(SIGMOID, 1, 10, width=128).spread[-1] ** 2 * 128 == pytest.approx(
        2.22, rel=3e-3
    )


def test_correlations_creep_to_one():
    found = 1 - reference_plain_networks.relu_correlation(21)[[2, 5, 10, 20]]
    np.testing.assert_allclose(found, [0.506, 0.264, 0.128, 0.0516], atol=5e-4)  # three published digits


@pytest.mark.parametrize(("name", "gain"), [("tanh", 1.0), ("tanh", 25 / 9), ("sigmoid", 1.0)])
def test_mean_field_on_real_networks(name, gain):
    """60 networks of width 128 and depth 8: q within 1 %, gradient within 5 %, each + Student's t at 1e-4."""
    width, depth, networks = 128, 8, 60
    phi, layer = {"tanh": (TANH, nn.Tanh), "sigmoid": (SIGMOID, nn.Sigmoid)}[name]
    weight = init.VarianceScaling(gain, "fan_in", "normal")
    q, g = [], []
    for seed in range(networks):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((1, width))
        x *= math.sqrt(width / np.sum(x**2))
        layers = []
        for _ in range(depth):
            linear = nn.Linear(width, width, bias=False, weight_init=weight, rng=rng).astype(np.float64)
            layers += [linear, layer()]
        moments = []
        for number, each in enumerate(layers):
            x = each.forward(x)
            if number % 2 == 0:
                moments.append(np.mean(x**2))
        d = rng.standard_normal((1, width))
        for each in reversed(layers[:-1]):  # from the last z down to the first
            d = each.backward(d)
            if each is layers[1]:
                break
        q.append(moments)
        g.append(np.mean(d**2))
    law = reference_plain_networks.mean_field(phi, gain, depth, width=width)
    t = t_threshold(networks, false_alarm=1e-4)
    se = np.std(q, axis=0, ddof=1) / math.sqrt(networks)
    assert np.all(abs(np.mean(q, axis=0) - law.q) <= 0.01 * law.q + t * se)
    se = np.std(g, ddof=1) / math.sqrt(networks)
    assert abs(np.mean(g) - law.gradient[0]) <= 0.05 * law.gradient[0] + t * se
    found = np.std(q, axis=0, ddof=1)[-1] / law.q[-1]
    # the standard deviation of 60 values is known to 1/sqrt(2 * 59) = 9 %; five of those
    assert found == pytest.approx(law.spread[-1], rel=0.46)
