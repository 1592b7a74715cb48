"""Blocks against their formula, y = after(shortcut(x) + scale * branch(x)), put together by hand from single layers."""

import numpy as np
import pytest

from minires import nn
from tests.nn.cases import BLOCKS, randomized
from tests.refusals import refused

X = np.random.default_rng(0).standard_normal((4, 4, 5, 6))


def layers_by_hand(block, x):
    """The branch, layer by layer, each called on its own."""
    for name in block.branch:
        x = getattr(block, name).forward(x)
    return x


@pytest.mark.parametrize("case", BLOCKS, ids=lambda case: case.name)
def test_a_block_is_its_formula(case):
    block, x = case.layer(), case.input()
    y = block.forward(x)
    expected = block.branch_scale * layers_by_hand(case.layer(), x)
    if block.shortcut is not None:
        expected = expected + case.layer().shortcut.forward(x)
    if block.after_sum is not None:
        expected = getattr(case.layer(), block.after_sum).forward(expected)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (nn.BasicBlock, "conv1 bn1 relu1 conv2 bn2 shortcut relu2"),
        (nn.PreActBlock, "bn1 relu1 conv1 bn2 relu2 conv2 shortcut"),
        (nn.Bottleneck, "conv1 bn1 relu1 conv2 bn2 relu2 conv3 bn3 shortcut relu3"),
    ],
)
def test_children_and_their_order(kind, expected):
    assert [name for name, _ in kind(4, 4, stride=2).children()] == expected.split()


def test_the_projection_has_pytorchs_names():
    names = [p.name for p in nn.BasicBlock(3, 5, 2, shortcut="B").parameters()]
    assert "shortcut.0.weight" in names and "shortcut.1.bias" in names and "shortcut.0.bias" not in names


def test_without_batchnorm_convolutions_have_biases():
    block = nn.BasicBlock(3, 5, 2, shortcut="B", batchnorm=False)
    assert isinstance(block.bn1, nn.Identity) and isinstance(block.shortcut.layers[1], nn.Identity)
    assert [p.name for p in block.parameters()] == [
        f"{conv}.{what}" for conv in ("conv1", "conv2", "shortcut.0") for what in ("weight", "bias")
    ]


def test_option_a_subsamples_and_pads_with_zeros():
    """Every second pixel; the new channels half before, half after the old ones (He et al.'s option A)."""
    y = nn.Subsample(4, 8, 2).forward(X)
    assert y.shape == (4, 8, 3, 3)
    assert np.array_equal(y[:, 2:6], X[:, :, ::2, ::2]) and not y[:, :2].any() and not y[:, 6:].any()
    assert y.transpose(0, 2, 3, 1).flags.c_contiguous


def test_option_a_backward_is_the_adjoint():
    layer, dy = nn.Subsample(4, 7, 2), np.random.default_rng(1).standard_normal((4, 7, 3, 3))
    y = layer.forward(X)
    assert np.sum(y * dy) == pytest.approx(np.sum(X * layer.backward(dy)), rel=1e-13)


def test_a_silent_branch_makes_the_block_the_identity():
    """gain 0 in the last BatchNorm: y = relu(x), dx = dy where x > 0."""
    block = randomized(nn.BasicBlock(4, 4), np.random.default_rng(2))
    block.bn2.weight.value, block.bn2.bias.value = np.zeros(4), np.zeros(4)
    dy = np.random.default_rng(1).standard_normal(X.shape)
    assert np.array_equal(block.forward(X), np.maximum(X, 0))
    assert np.array_equal(block.backward(dy), dy * (X > 0))


@pytest.mark.parametrize("kind", [nn.BasicBlock, nn.PreActBlock, nn.Bottleneck])
def test_wrong_settings_are_refused(kind):
    with refused(ValueError, "shortcut", "'C'"):
        kind(4, 4, shortcut="C")
    with refused(ValueError, "out_channels", "8" if kind is nn.Bottleneck else "2"):
        kind(9, 2, 2, shortcut="A")
    with refused(ValueError, "stride", "0"):
        kind(4, 4, 0)


def test_wrong_input_is_refused():
    with refused(ValueError, "weight", "(5, 4, 3, 3)"):
        nn.BasicBlock(4, 5).astype("float64").forward(X[:, :3])
    with refused(ValueError, "x", "(4, 5, 6)"):
        nn.BasicBlock(4, 5).astype("float64").forward(X[0])
    with refused(ValueError, "x", "(4, 3, 5, 6)"):
        nn.Subsample(4, 8, 2).forward(X[:, :3])
