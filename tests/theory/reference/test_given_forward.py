"""The forward-conditional law on real networks, and the faults in a backward pass that it must see."""

import numpy as np
import pytest

from minires import nn
from tests.theory.reference import given_forward

WIDTH = 32
# laws2.md, section 16: one network; its standard deviation is about 0.65/C
LIMIT = 0.005 + 0.5 / WIDTH + 5 * 0.65 / WIDTH


def network(shortcut="B", seed=0, width=WIDTH, **options):
    """Stages 16x16, 8x8, 4x4 of two blocks."""
    return nn.resnet(14, width=width, shortcut=shortcut, rng=seed, **options)


def data(seed, width=WIDTH, samples=32):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((samples, 3, 16, 16)).astype(np.float32)
    return x, rng.standard_normal((samples, 4 * width, 4, 4)).astype(np.float32)


def pattern(seed, samples=32):
    """Inputs that are anything but white: smooth, with channels nearly alike, and very different contrasts."""
    rng = np.random.default_rng(seed)
    smooth = np.cumsum(np.cumsum(rng.standard_normal((samples, 1, 16, 16)), axis=2), axis=3)
    smooth /= smooth.std(axis=(1, 2, 3), keepdims=True)
    x = smooth * rng.lognormal(0, 0.5, (samples, 1, 1, 1)) + 0.1 * rng.standard_normal((samples, 3, 16, 16))
    return x.astype(np.float32)


def ratios(model, x, **upstream):
    return np.array([row.ratio for row in given_forward.gradient_energies(model, x, **upstream)])


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_white_noise(shortcut):
    x, upstream = data(1)
    found = ratios(network(shortcut), x, upstream=upstream)
    assert found[-1] == pytest.approx(1, abs=1e-6)
    assert np.all(abs(found - 1) <= LIMIT)


@pytest.mark.parametrize("shortcut", ["A", "B", None])
def test_any_input(shortcut):
    found = ratios(network(shortcut, seed=2), pattern(2), upstream=data(2)[1])
    assert np.all(abs(found - 1) <= LIMIT)


def test_real_loss():
    """Softmax cross-entropy through the head, mean of eight networks of width 16: 0.036 + t_7 * 0.015 at 1 %."""
    found = []
    for seed in range(8):
        x = pattern(seed)
        labels = np.random.default_rng(seed).integers(0, 10, len(x))
        found.append(ratios(network(width=16, seed=seed), x, labels=labels))
    assert np.all(abs(np.mean(found, axis=0) - 1) <= 0.036 + 3.5 * 0.015)


def test_an_upstream_that_all_samples_share():
    """BN takes nearly all out of the branches; without the signed part the prediction is three times too large."""
    x, upstream = data(8)
    shared = np.broadcast_to(upstream[:1, :, :1, :1], upstream.shape).copy()
    found = ratios(network(seed=8), x, upstream=shared)
    assert np.all(abs(found - 1) <= LIMIT)
    assert given_forward.coherence(shared) == pytest.approx(1)


def test_gains_scales_and_eps_take_part():
    """BN gains that are not 1, branch_scale and an eps that matters."""
    model = network(seed=3, branch_scale=0.5)
    rng = np.random.default_rng(3)
    for _, layer in model.named_layers():
        if isinstance(layer, nn.BatchNorm2d):
            layer.weight.value = rng.uniform(0.5, 2, layer.weight.value.shape).astype(np.float32)
            layer.bias.value = rng.uniform(-0.5, 0.5, layer.bias.value.shape).astype(np.float32)
            layer.eps = 0.2
    x, upstream = data(3)
    assert np.all(abs(ratios(model, x, upstream=upstream) - 1) <= LIMIT)


class OpenGate(nn.ReLU):
    """Goes back as if every unit had been on."""

    def _backward(self, dy, cache):
        return dy


class LoudGate(nn.ReLU):
    """Goes back sqrt(2) times too large."""

    def _backward(self, dy, cache):
        return np.float32(np.sqrt(2)) * super()._backward(dy, cache)


def plant(model, fault):
    """Break the backward pass of the middle stage's first block (which has the projection)."""
    block = next(layer for _, layer in model.layer2.children())
    if fault == "gate after the sum ignored":
        block.relu2 = OpenGate()
    elif fault == "gate after bn1 ignored":
        block.relu1 = OpenGate()
    elif fault == "shortcut's gradient lost":
        block.shortcut = Losing(block.shortcut)
    else:
        block.relu1 = LoudGate()


class Losing(nn.Sequential):
    """The projection, but nothing goes back through it."""

    def __init__(self, projection):
        super().__init__(*(layer for _, layer in projection.children()))

    def _backward(self, dy, cache):
        return 0 * super()._backward(dy, cache)


@pytest.mark.parametrize(
    "fault", ["gate after the sum ignored", "gate after bn1 ignored", "shortcut's gradient lost", "branch times sqrt 2"]
)
def test_planted_faults_are_seen_and_located(fault):
    """All streams below the fault leave the band, all above it stay inside."""
    model = network(seed=4)
    plant(model, fault)
    x, upstream = data(4)
    found = abs(ratios(model, x, upstream=upstream) - 1)
    assert np.all(found[3:] <= LIMIT)  # stem, layer1.0, layer1.1 | layer2.0 ...
    assert np.all(found[:3] > LIMIT)


def test_coherence():
    rng = np.random.default_rng(5)
    one = rng.standard_normal((1, 10))
    assert given_forward.coherence(np.repeat(one, 8, axis=0)) == pytest.approx(1)
    assert given_forward.coherence(np.concatenate([one, -one])) == pytest.approx(0, abs=1e-12)


def test_what_it_refuses():
    x, upstream = data(6, samples=4)
    with pytest.raises(ValueError, match="either upstream"):
        given_forward.gradient_energies(network(), x)
    with pytest.raises(ValueError, match="this model has none"):
        given_forward.gradient_energies(nn.Sequential(nn.ReLU()), x, upstream)
    with pytest.raises(ValueError, match="needs BatchNorm"):
        given_forward.gradient_energies(network(batchnorm=False), x, upstream)
    with pytest.raises(ValueError, match="ReLU gates"):
        given_forward.gradient_energies(network(activation=nn.Tanh), x, upstream)


def test_the_model_is_left_in_its_mode():
    model = network(width=4).eval()
    x, upstream = data(7, width=4, samples=4)
    given_forward.gradient_energies(model, x, upstream)
    assert not model.training
