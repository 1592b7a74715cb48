"""Real networks obey their predictions, and a fault planted in one layer is found at that layer."""

from itertools import pairwise

import numpy as np
import pytest

from minires import init, nn
from minires.theory import compare, measure, predict


def conv_net():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 12, 3, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(12, 8, 3, padding=2, dilation=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.25),
        nn.Linear(8 * 20, 10),
    )


def tanh_net():
    sizes = [30, 60, 50, 60, 40]
    layers = [m for a, b in pairwise(sizes) for m in (nn.Linear(a, b), nn.Tanh())]
    return nn.Sequential(*layers, nn.BatchNorm2d(40), nn.Sigmoid(), nn.Linear(40, 10))


def pooled_net():
    return nn.Sequential(
        nn.Conv2d(3, 24, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(24, 24, 3, padding=1),
        nn.AvgPool2d(2),
        nn.BatchNorm2d(24),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(24 * 4, 10),
    )


def averaged_net():
    """Narrow, and its pixels all receive the same gradient: mean field is at its worst."""
    convs = [m for a, b in pairwise([3, 6, 6, 8]) for m in (nn.Conv2d(a, b, 3, padding=1), nn.ReLU())]
    return nn.Sequential(*convs, nn.GlobalAvgPool2d(), nn.Linear(8, 10))


NETWORKS = {
    "global average": (averaged_net, (8, 3, 7, 7), {}, 150),
    "conv": (conv_net, (8, 3, 9, 7), {}, 100),
    "conv, uniform": (conv_net, (8, 3, 9, 7), {"weight": init.HeUniform()}, 100),
    "conv, Xavier and biases": (conv_net, (8, 3, 9, 7), {"weight": init.XavierNormal(), "bias": init.Normal(0.5)}, 60),
    "conv, orthogonal": (conv_net, (8, 3, 9, 7), {"weight": init.Orthogonal(2**0.5)}, 60),
    "tanh and sigmoid": (tanh_net, (32, 30), {"weight": init.XavierUniform()}, 40),
    "pools": (pooled_net, (16, 3, 8, 8), {}, 40),
    "v1, B": (lambda: nn.resnet(8, shortcut="B"), (16, 3, 16, 16), {}, 16),
    "v1, A": (lambda: nn.resnet(14, shortcut="A"), (16, 3, 8, 8), {}, 16),
    "v1, Xavier": (lambda: nn.resnet(8, shortcut="B"), (16, 3, 12, 8), {"weight": init.XavierUniform()}, 16),
    "plain": (lambda: nn.resnet(14, shortcut=None), (16, 3, 16, 16), {}, 16),
    "v2": (lambda: nn.resnet(8, shortcut="A", block=nn.PreActBlock), (16, 3, 16, 16), {}, 16),
    "bottleneck": (lambda: nn.resnet(11, shortcut="B", block=nn.Bottleneck), (16, 3, 16, 16), {}, 16),
    "v1 without BatchNorm": (
        lambda: nn.resnet(8, shortcut="A", batchnorm=False, branch_scale=0.5),
        (16, 3, 16, 16),
        {},
        24,
    ),
    "v2, tanh, without BatchNorm": (  # channels with and without a past go through tanh apart
        lambda: nn.resnet(8, shortcut="A", batchnorm=False, block=nn.PreActBlock, activation=nn.Tanh, width=8),
        (12, 3, 10, 8),
        {"weight": init.Orthogonal(2**0.5)},
        16,
    ),
    "v2 without BatchNorm": (
        lambda: nn.resnet(8, shortcut="B", batchnorm=False, block=nn.PreActBlock, branch_scale=0.5),
        (16, 3, 16, 16),
        {},
        24,
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_real_networks_obey_their_predictions(name):
    make, shape, laws, networks = NETWORKS[name]
    report = compare(predict(make(), shape, **laws), measure(make(), shape, seeds=networks, rng=80, **laws))
    assert report.ok, str(report)
    assert report.first_departure is None
    assert not report.unlawful
    assert report.verdict.endswith(f"obey their laws ({networks} networks)")


def test_a_fixed_batch_is_compared_with_the_law_of_that_batch():
    rng = np.random.default_rng(81)
    x = (rng.standard_normal((6, 3, 9, 7)) + np.linspace(-1, 2, 7)).astype(np.float32)
    report = compare(predict(conv_net(), x), measure(conv_net(), x, seeds=80))
    assert report.ok, str(report)
    white = compare(predict(conv_net(), x.shape), measure(conv_net(), x, seeds=80))
    assert white.first_departure == "0"  # the law of white noise is not that of this batch


def test_spread_foretells_how_far_single_networks_lie_apart():
    """Relative standard deviations, measured over predicted, within a factor that 40 networks can show."""
    for make, shape in ((conv_net, (8, 3, 9, 7)), (lambda: nn.resnet(8, shortcut="B"), (8, 3, 8, 8))):
        predicted, measured = predict(make(), shape), measure(make(), shape, seeds=40)
        for row in predicted:
            seen, law = measured[row.path].forward.spread, row.forward.spread
            assert seen < 2 * law + 0.02, row.path
            assert seen > law / 2 - 0.02, row.path


# ---- planted faults: a layer's class is replaced by one with a wrong method, so that copies are wrong as well


def plant(net, path, **methods):
    layer = dict(net.named_layers())[path]
    layer.__class__ = type(type(layer).__name__, (type(layer),), methods)


def gate_forgotten(net, path):
    """ReLU's backward lets everything through."""
    plant(net, path, _backward=lambda self, dy, cache: dy)


def gradient_scaled(net, path):
    plant(net, path, _backward=lambda self, dy, cache: super(type(self), self)._backward(dy, cache) * np.float32(1.4))


def weight_gradient_halved(net, path):
    """The mean of two pixels where their sum was meant, say."""

    def backward(self, dy, cache):
        dx = super(type(self), self)._backward(dy, cache)
        self.weight.grad = self.weight.grad / 2
        return dx

    plant(net, path, _backward=backward)


def gradient_lost(net, path):
    plant(net, path, _backward=lambda self, dy, cache: super(type(self), self)._backward(dy, cache) * 0)


def scaled(forward):
    return lambda x: (lambda y, cache: (y * np.float32(1.3), cache))(*forward(x))


def output_scaled(net, path):
    """On the layer itself, which keeps its class and so its law; for layers without weights."""
    layer = dict(net.named_layers())[path]
    layer._forward = scaled(layer._forward)


def mean_kept(net, path):
    """A BatchNorm that divides but does not subtract."""
    layer = dict(net.named_layers())[path]
    forward = layer._forward
    layer._forward = lambda x: (lambda y, c: (y + (c.mean / np.sqrt(c.var))[:, None, None], c))(*forward(x))


FAULTS = [
    ("conv", gate_forgotten, "3", "3", "gradient at the input"),
    ("conv", output_scaled, "3", "3", "mean square of the output"),
    ("conv", gradient_scaled, "4", "4", "gradient at the input"),
    ("conv", weight_gradient_halved, "2", "2", "weight gradient"),
    ("v1, B", output_scaled, "layer2.0.bn1", "layer2.0.bn1", "mean square of the output"),
    ("v1, B", mean_kept, "layer2.0.bn1", "layer2.0.bn1", "mean square of the output"),
    ("v1, B", gate_forgotten, "layer2.0.relu1", "layer2.0.relu1", "gradient at the input"),
    ("v1, B", gradient_lost, "layer1.0.shortcut", "layer1.0.shortcut", "gradient at the input"),
    ("v1, B", gradient_lost, "layer2.0.shortcut.0", "layer2.0.shortcut.0", "gradient at the input"),
]


@pytest.mark.parametrize(
    ("name", "fault", "where", "named", "word"), FAULTS, ids=lambda v: getattr(v, "__name__", str(v))
)
def test_a_planted_fault_is_found_at_its_layer(name, fault, where, named, word):
    make, shape, laws, networks = NETWORKS[name]
    net = make()
    fault(net, where)
    report = compare(
        predict(net, shape, **laws), measure(net, shape, seeds=20 if name == "v1, B" else networks, rng=80, **laws)
    )
    assert not report.ok
    assert report.first_departure == named, report.verdict
    assert word in report.verdict
    assert report.row_verdict(named) == "departs"


def test_a_wrong_initializer_shows_at_the_first_layer():
    report = compare(
        predict(conv_net(), (8, 3, 9, 7)), measure(conv_net(), (8, 3, 9, 7), seeds=40, weight=init.LeCunNormal())
    )
    assert report.first_departure == "0"
    assert "times the law" in report.verdict


def test_one_network_is_judged_by_the_predicted_spread():
    predicted = predict(nn.resnet(8, shortcut="B"), (16, 3, 16, 16))
    for seed in range(6):
        single = measure(nn.resnet(8, shortcut="B"), (16, 3, 16, 16), seeds=1, rng=seed)
        assert compare(predicted, single).ok
    net = nn.resnet(8, shortcut="B")
    output_scaled(net, "layer3.0.bn2")
    assert compare(predicted, measure(net, (16, 3, 16, 16), seeds=1)).first_departure == "layer3.0.bn2"


def test_measuring_changes_nothing_and_repeats_exactly():
    net = nn.resnet(8, shortcut="B")
    init.zero_gamma(net)
    before = net.state_dict()
    first = measure(net, (4, 3, 8, 8), seeds=3, rng=5)
    assert all(np.array_equal(before[name], value) for name, value in net.state_dict().items())
    assert first["layer1.0.bn2"].forward.mean == 0  # gains are the model's
    again = measure(net, (4, 3, 8, 8), seeds=3, rng=5)
    assert first.samples == again.samples
    assert first.samples != measure(net, (4, 3, 8, 8), seeds=3, rng=6).samples


def test_own_weights_can_be_measured():
    net = conv_net()
    x = np.random.default_rng(82).standard_normal((4, 3, 9, 7)).astype(np.float32)
    report = measure(net, x, seeds=1, weight=None)
    assert report["0"].forward.mean == pytest.approx(float(np.mean(net.layers[0].forward(x) ** 2)), rel=1e-5)
    with pytest.raises(ValueError, match="exactly 1 where the weights are kept"):
        measure(net, x, seeds=2, weight=None)


def test_reports_that_do_not_belong_together_are_refused():
    a, b = predict(conv_net(), (8, 3, 9, 7)), measure(conv_net(), (4, 3, 9, 7), seeds=2)
    with pytest.raises(ValueError, match="input shapes differ"):
        compare(a, b)
    with pytest.raises(ValueError, match="expected a prediction and a measurement"):
        compare(b, a)


def test_a_layer_without_a_law_is_listed_and_not_judged():
    class Square(nn.Layer):
        def _forward(self, x):
            return x * x, x

        def _backward(self, dy, cache):
            return 2 * cache * dy

    net = nn.Sequential(nn.Linear(20, 30), Square(), nn.Linear(30, 30), nn.BatchNorm2d(30), nn.ReLU())
    report = compare(predict(net, (16, 20)), measure(net, (16, 20), seeds=30))
    assert report.unlawful == ("1",)
    assert report.row_verdict("1") == "no law"
    assert report.ok, str(report)
    assert "no law for Square" in str(report)


def test_real_images_are_allowed_what_white_noise_is_not():
    """Mean field counts on pixels that do not agree; an actual batch gets a wider, stated allowance."""
    from minires.data import load_digits

    x = load_digits().x_train[:16]
    net = nn.resnet(8, shortcut="B", in_channels=1)
    own, white = predict(net, x), predict(net, x.shape)
    gradients = own["layer1.0"].gradient_in, white["layer1.0"].gradient_in
    assert gradients[0].allowance > gradients[1].allowance + 0.04
    assert compare(own, measure(net, x, seeds=16)).ok


@pytest.mark.parametrize("shortcut", ["A", "B", None])
def test_a_block_by_itself_has_the_same_rows_predicted_and_measured(shortcut):
    block = nn.BasicBlock(4, 8, 2, shortcut=shortcut)
    predicted, measured = predict(block, (8, 4, 6, 6)), measure(block, (8, 4, 6, 6), seeds=2)
    assert {row.path for row in predicted} == {row.path for row in measured}
