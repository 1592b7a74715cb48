"""The walk against independent laws: the exact maps, the whole-network laws, published figures, and what has no law."""

import math

import numpy as np
import pytest

from minires import init, nn
from minires.theory import predict
from minires.theory.laws import activations, signal
from minires.theory.laws.geometry import ConvGeometry
from minires.theory.report import QUANTITIES
from tests.slowness import measured
from tests.theory.reference import batchnorm_networks, convolution, padded_networks
from tests.theory.reference import plain_networks as reference_plain_networks
from tests.theory.reference.blocks import Block


def growth(report, image, width=16):
    """||dL/dh_l||^2 in total at each block boundary, relative to the top."""
    blocks = [row for row in report if row.kind in ("BasicBlock", "PreActBlock")]
    first = blocks[0].gradient_in.mean * width * math.prod(image)
    totals = [first, *(row.gradient_out.mean * math.prod(row.shape[1:]) for row in blocks)]
    return np.array(totals) / totals[-1]


MANY = 4096  # samples: what 1/N corrections there are vanish


@pytest.mark.parametrize(
    ("shortcut", "published"),
    [
        ("B", [141.65, 40.44, 17.98, 10.445, 11.206, 5.189, 3.042, 3.173, 1.565, 1]),
        ("A", [84.08, 23.99, 10.60, 5.837, 5.249, 2.979, 1.911, 1.994, 1.303, 1]),
    ],
)
def test_resnet20_meets_the_published_law(shortcut, published):
    report = predict(nn.resnet20(shortcut=shortcut), (MANY, 3, 32, 32))
    np.testing.assert_allclose(growth(report, (32, 32)), published, rtol=3e-3)


@pytest.mark.parametrize(("shortcut", "published"), [("B", 75.50), ("A", 42.41)])
def test_four_stages_down_to_2x2_meet_the_published_law(shortcut, published):
    report = predict(nn.resnet(blocks=(2, 2, 2, 2), shortcut=shortcut), (MANY, 3, 16, 16))
    assert growth(report, (16, 16))[0] == pytest.approx(published, rel=5e-3)  # other grids, other quadrature


def test_forward_rows_of_resnet20_meet_the_published_law():
    report = predict(nn.resnet20(shortcut="B"), (MANY, 3, 32, 32))
    variance = [row.batch_variance.mean for row in report if row.kind == "BasicBlock"]
    published = [0.6973, 1.0571, 1.4189, 0.6831, 1.0014, 1.3482, 0.6846, 1.0059, 1.3559]
    np.testing.assert_allclose(variance, published, rtol=1e-3)
    second = [report[f"layer1.{i}"].forward.mean for i in range(3)]
    np.testing.assert_allclose(second, [batchnorm_networks.second_moment(n) for n in (2, 3, 4)], rtol=2e-3)


def test_walk_agrees_with_the_law_of_the_whole_network():
    """`padded_networks.basic_block_law` goes the same way by a list of blocks; so must every row of the walk."""
    report = predict(nn.resnet(14, shortcut="B", width=8), (MANY, 3, 16, 16))
    layout = [Block(8, 8)] * 2 + [Block(8, 16, 2, "B"), Block(16, 16), Block(16, 32, 2, "B"), Block(32, 32)]
    law = padded_networks.basic_block_law(layout, (16, 16))
    np.testing.assert_allclose(growth(report, (16, 16), 8), law.gradient, rtol=2e-3)


def relu_net():
    """A bias-free convolutional ReLU network with stride, dilation and a linear end."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1, bias=False),
        nn.ReLU(),
        nn.Conv2d(6, 5, 3, stride=2, padding=1, bias=False),
        nn.LeakyReLU(0.2),
        nn.Conv2d(5, 7, (1, 3), dilation=2, bias=False),
        nn.ReLU(),
    )


@pytest.mark.parametrize("law", [init.HeNormal(), init.XavierUniform(), init.Orthogonal(), init.Normal(0.1)], ids=str)
def test_walk_agrees_with_the_exact_maps_of_relu_networks(law):
    net, x = relu_net(), np.random.default_rng(70).standard_normal((5, 3, 9, 11)) * 1.5 + 0.2
    report = predict(net, x, weight=law)
    convs = [net.layers[i] for i in (0, 2, 4)]
    image, layers = (9, 11), []
    for conv, slope in zip(convs, (0.0, 0.2, 0.0), strict=True):
        geometry = ConvGeometry.of(image, conv.kernel_size, conv.stride, conv.padding, conv.dilation)
        variance = law.variance(conv.weight.value.shape)
        layers.append(
            reference_plain_networks.ReluLayer(conv.in_channels, conv.out_channels, variance, geometry, slope)
        )
        image = geometry.outputs
    exact = reference_plain_networks.relu_law(layers, x)
    for i, (pre, post, gradient, weight) in enumerate(
        zip(exact.pre, exact.post[1:], exact.gradient[:-1], exact.weight, strict=True)
    ):
        conv, relu = report[str(2 * i)], report[str(2 * i + 1)]
        assert conv.forward.grade == relu.forward.grade == conv.gradient_in.grade == conv.weight_gradient.grade == "EX"
        assert conv.forward.mean == pytest.approx(pre.mean(), rel=1e-12)
        assert relu.forward.mean == pytest.approx(post.mean(), rel=1e-12)
        assert conv.gradient_in.mean == pytest.approx(gradient.mean(), rel=1e-12)
        assert conv.weight_gradient.mean == pytest.approx(5 * weight.mean(), rel=1e-12)


def test_first_layer_sees_the_actual_input():
    rng = np.random.default_rng(71)
    x = rng.standard_normal((4, 3, 8, 8)) + np.linspace(0, 2, 8)
    net = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1, bias=False))
    geometry = ConvGeometry.of((8, 8), 3, padding=1)
    law = init.HeNormal().variance((6, 3, 3, 3))
    row = predict(net, x)["0"]
    assert row.forward.mean == pytest.approx(convolution.conv_forward(x, law, 6, geometry).mean, rel=1e-12)
    exact = convolution.batch_variance(x, law, geometry)
    # N samples: the law of the covariance between samples, less what a pair of one sample with itself weighs
    assert row.batch_variance.mean == pytest.approx(exact, rel=0.05)


def test_tanh_network_follows_the_mean_field_map():
    layers = [m for _ in range(6) for m in (nn.Linear(100, 100), nn.Tanh())]
    x = np.random.default_rng(3).standard_normal((16, 100))
    x *= 10 / np.linalg.norm(x, axis=1, keepdims=True)  # one norm for all, as mean field has it
    report = predict(nn.Sequential(*layers), x, weight=init.XavierNormal())
    field = reference_plain_networks.mean_field(activations.TANH, 1.0, 6)
    q = [report[str(i)].forward.mean for i in range(0, 12, 2)]
    np.testing.assert_allclose(q, field.q, rtol=1e-12)
    gradient = np.array([report[str(i)].gradient_out.mean for i in range(0, 12, 2)])
    np.testing.assert_allclose(gradient / gradient[-1], field.gradient, rtol=1e-12)


def test_inputs_of_different_norms_are_told_apart():
    """What a tanh makes of noise of few features: E over |x|^2 ~ chi2_8, by 400,000 draws; mean field is 2 % off."""
    z = 2**0.5 * np.random.default_rng(4).standard_normal((2, 400_000))  # He: two draws of sqrt(2) N(0, 1)
    norms = np.random.default_rng(5).chisquare(8, 400_000) / 8
    drawn = np.tanh(z * np.sqrt(norms)) ** 2
    law = predict(nn.Sequential(nn.Linear(8, 50), nn.Tanh()), (16, 8))["1"].forward.mean
    assert law == pytest.approx(drawn.mean(), abs=0.003)
    assert np.mean(np.tanh(z) ** 2) > 1.015 * drawn.mean()


def test_zero_gamma_makes_blocks_the_identity():
    model = nn.resnet(20, shortcut="B")
    init.zero_gamma(model)
    report = predict(model, (32, 3, 16, 16))
    stem = report["relu"].forward.mean
    assert [report[f"layer1.{i}"].forward.mean for i in range(3)] == pytest.approx([stem] * 3, rel=1e-6)  # a grid's
    assert report["layer1.0.conv1"].weight_gradient.mean == 0
    first, last = report["layer1.0"], report["layer1.2"]
    assert first.gradient_in.mean == pytest.approx(first.gradient_out.mean, rel=1e-9)
    assert last.gradient_in.mean == pytest.approx(first.gradient_in.mean, rel=1e-9)


class Square(nn.Layer):
    """A layer that minires knows nothing about."""

    def _forward(self, x):
        return x * x, x

    def _backward(self, dy, cache):
        return 2 * cache * dy


class Shifted(nn.ReLU):
    """A ReLU with a forward of its own: the ReLU's law must not be applied to it."""

    def _forward(self, x):
        return super()._forward(x - 1)


@pytest.mark.parametrize("stranger", [Square, Shifted])
def test_a_layer_without_a_law_says_so_and_the_walk_goes_on(stranger):
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), stranger(), nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()
    )
    report = predict(net, (8, 3, 8, 8))
    assert report["1"].note == f"no law for {stranger.__name__}"
    assert report["1"].forward.grade == report["2"].forward.grade == ""
    assert report["0"].forward.grade == "EX"
    assert report["3"].forward.grade == report["4"].forward.grade == "MF"  # BatchNorm knows its output again
    assert report["3"].gradient_out.grade == "EX"  # half of BatchNorm's outputs are positive, by symmetry
    assert report["3"].gradient_in.grade == ""  # divided by a batch variance that nobody knows
    assert report["0"].gradient_out.grade == report["0"].gradient_in.grade == ""
    assert "no law" in str(report)


@pytest.mark.parametrize("law", [init.Constant(0.1), init.Dirac()], ids=str)
def test_weights_that_are_not_random_have_no_law(law):
    report = predict(nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()), (2, 4, 6, 6), weight=law)
    assert report["0"].note == f"{type(law).__name__} weights are not random"


def test_zero_weights_kill_signal_and_gradient():
    report = predict(relu_net(), (4, 3, 9, 11), weight=init.Zeros())
    assert report["5"].forward.mean == report["0"].gradient_in.mean == 0
    dead = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm2d(5))
    found = predict(dead, (4, 6), weight=init.Zeros())["1"].gradient_in.mean
    assert found == pytest.approx(1e5 * (1 - 1 / 4))  # 1/eps, and of 4 values the mean is taken away


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_a_branch_that_drowns_the_skip_path_leaves_the_plain_network(shortcut):
    """N(0, 1) weights: a block's branch is 10,000 times its input's energy; the shortcut makes no difference then."""
    options = {"batchnorm": False, "in_channels": 1, "width": 16}
    plain, residual = (
        predict(nn.resnet(20, shortcut=kind, **options), (32, 1, 8, 8), weight=init.Normal(1.0))
        for kind in (None, shortcut)
    )
    for path in ("layer1.0.relu2", "layer2.2.relu2", "layer3.2.relu2"):
        assert residual[path].forward.mean == pytest.approx(plain[path].forward.mean, rel=0.01)
        assert residual[path].gradient_out.mean == pytest.approx(plain[path].gradient_out.mean, rel=0.01)


def test_delta_orthogonal_kernels_have_a_single_tap():
    """Without edges: the center tap never reads padding, so nothing is lost in a 'same' convolution."""
    net = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1, bias=False))
    row = predict(net, (2, 4, 6, 6), weight=init.DeltaOrthogonal())["0"]
    assert row.forward.mean == pytest.approx(4 / 8)  # the norm of a pixel is kept, over twice the channels
    assert row.gradient_in.mean == pytest.approx(1.0)


def test_input_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="x: expected a shape"):
        predict(relu_net(), (3, 9, 11))
    with pytest.raises(ValueError, match="x: expected an array"):
        predict(relu_net(), np.zeros((3, 9, 11)))


def test_report_finds_rows_and_prints():
    report = predict(relu_net(), (4, 3, 9, 11))
    assert len(report) == 6
    assert report.origin == "predicted"
    with pytest.raises(KeyError, match="no row 'conv7'"):
        report["conv7"]
    assert "signal predicted, input 4x3x9x11" in str(report)


def test_resnet110_takes_less_than_three_seconds():
    """Of processor on a machine like ours, the best of four tries."""
    model, tries = nn.resnet110(), []
    while len(tries) < 4 and min(tries, default=9) > 3:
        with measured() as spent:
            predict(model, (32, 3, 32, 32))
        tries.append(spent.there)
    assert min(tries) < 3


@pytest.mark.parametrize("depth", [20, 110])
def test_every_row_of_a_deep_network_is_finite(depth):
    for shortcut in "AB":
        report = predict(nn.resnet(depth, shortcut=shortcut), (32, 3, 8, 8))
        for row in report:
            assert row.forward.grade
            assert np.isfinite([row.forward.mean, row.batch_variance.mean, row.gradient_in.mean]).all()
            assert np.isfinite([row.forward.spread, row.gradient_in.spread]).all()


def test_a_large_map_kept_on_a_smaller_one_has_the_same_laws(monkeypatch):
    model = nn.resnet(8, shortcut="B")
    kept_smaller = predict(model, (8, 3, 40, 36))
    monkeypatch.setattr(signal, "_LARGEST_AXIS", 1000)
    for row, whole in zip(kept_smaller, predict(model, (8, 3, 40, 36)), strict=True):
        for name in QUANTITIES:
            found, expected = getattr(row, name).mean, getattr(whole, name).mean
            assert found == pytest.approx(expected, rel=1e-4, nan_ok=True), (row.path, name)
