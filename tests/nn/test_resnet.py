"""Whole networks: sizes from the paper, names from PyTorch, the settings that experiments vary."""

import numpy as np
import pytest

from minires import init, nn
from tests.refusals import refused


def count(model):
    return sum(p.value.size for p in model.parameters())


@pytest.mark.parametrize(
    ("make", "millions"),
    [(nn.resnet20, 0.27), (nn.resnet32, 0.46), (nn.resnet44, 0.66), (nn.resnet56, 0.85), (nn.resnet110, 1.7)],
)
def test_sizes_are_those_of_the_paper(make, millions):
    """He et al. 2015, table 6: parameters in millions, as printed there."""
    assert count(make()) / 1e6 == pytest.approx(millions, abs=0.005 if millions < 1 else 0.05)


def test_resnet20_has_269722_parameters_with_option_a():
    """Counted: 432 + 96 + ... = stem 464, stages 14,016 + 50,976 + 203,616 (weights and BatchNorm), head 650."""
    stem = 3 * 16 * 9 + 2 * 16
    stages = 6 * (16 * 16 * 9 + 2 * 16)
    stages += (16 * 32 + 5 * 32 * 32) * 9 + 6 * 2 * 32
    stages += (32 * 64 + 5 * 64 * 64) * 9 + 6 * 2 * 64
    assert stem + stages + 64 * 10 + 10 == 269_722
    assert count(nn.resnet20()) == count(nn.plain20()) == 269_722
    projections = (16 * 32 + 2 * 32) + (32 * 64 + 2 * 64)
    assert count(nn.resnet20(shortcut="B")) == 269_722 + projections


@pytest.mark.parametrize("make", [nn.plain20, nn.plain32, nn.plain44, nn.plain56])
def test_plain_twins_differ_in_the_shortcut_alone(make):
    depth = make.args[0]
    plain, residual = make(), nn.resnet(depth)
    assert [p.name for p in plain.parameters()] == [p.name for p in residual.parameters()]
    for a, b in zip(plain.parameters(), residual.parameters(), strict=True):
        assert np.array_equal(a.value, b.value)
    assert not any("shortcut" in path for path, _ in plain.named_layers())


@pytest.mark.parametrize(("depth", "per_stage"), [(8, 1), (20, 3), (110, 18)])
def test_depth_is_six_n_plus_two(depth, per_stage):
    model = nn.resnet(depth, width=4)
    assert [len(stage.layers) for stage in (model.layer1, model.layer2, model.layer3)] == [per_stage] * 3
    weighted = [p for p in model.parameters() if p.value.ndim >= 2]
    assert len(weighted) == depth


def test_other_stages_double_the_width():
    model = nn.resnet(blocks=(2, 1, 1, 3), width=4)
    assert [len(getattr(model, f"layer{i}").layers) for i in (1, 2, 3, 4)] == [2, 1, 1, 3]
    assert model.linear.weight.value.shape == (10, 32)
    assert model.output_shape((2, 3, 32, 32)) == (2, 10)


def test_names_are_those_of_pytorchs_cifar_resnets():
    names = list(nn.resnet20(shortcut="B").state_dict())
    for name in (
        "conv1.weight",
        "bn1.running_mean",
        "layer1.0.conv1.weight",
        "layer2.0.shortcut.0.weight",
        "layer2.0.shortcut.1.running_var",
        "layer3.2.bn2.bias",
        "linear.weight",
        "linear.bias",
    ):
        assert name in names
    assert len(names) == len(set(names))


def test_the_seed_decides():
    first, again, other = nn.resnet(8, rng=1), nn.resnet(8, rng=1), nn.resnet(8, rng=2)
    assert all(np.array_equal(a.value, b.value) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not np.array_equal(first.conv1.weight.value, other.conv1.weight.value)


def test_the_initializer_reaches_every_weight_and_nothing_else():
    model = nn.resnet(8, width=4, shortcut="B", weight_init=init.Constant(0.25))
    for p in model.parameters():
        if p.value.ndim >= 2:
            assert np.all(p.value == 0.25), p.name
        elif "bn" in p.name or "shortcut.1" in p.name:
            assert np.all(p.value == p.name.endswith("weight")), p.name
        else:
            assert not p.value.any(), p.name


@pytest.mark.parametrize("activation", [nn.Tanh, lambda: nn.LeakyReLU(0.2)])
def test_any_activation(activation):
    model = nn.resnet(8, width=4, activation=activation)
    kind = type(activation())
    assert sum(isinstance(layer, kind) for _, layer in model.named_layers()) == 7
    assert not any(isinstance(layer, nn.ReLU) for _, layer in model.named_layers())


def test_other_images_and_classes():
    model = nn.resnet(8, in_channels=1, num_classes=7)
    assert model.forward(np.zeros((4, 1, 8, 8), "float32")).shape == (4, 7)
    assert model.forward(np.zeros((4, 1, 7, 11), "float32")).shape == (4, 7)


def test_a_network_of_preactivation_blocks_ends_in_batchnorm_and_relu():
    model = nn.resnet(8, block=nn.PreActBlock, width=4)
    names = [name for name, _ in model.children()]
    assert names[-4:] == ["bn1", "relu", "pool", "linear"] and names[:2] == ["conv1", "layer1"]


def test_wrong_settings_are_refused():
    for depth in (0, 2, 7, 21, -4):
        with refused(ValueError, "depth", str(depth)):
            nn.resnet(depth)
    with refused(ValueError, "depth", "23"):
        nn.resnet(23, block=nn.Bottleneck)
    with refused(TypeError, "depth", "'20'"):
        nn.resnet("20")
    with refused(ValueError, "width", "0"):
        nn.resnet(8, width=0)
    with refused(ValueError, "num_classes", "0"):
        nn.resnet(8, num_classes=0)
    with refused(ValueError, "in_channels", "0"):
        nn.resnet(8, in_channels=0)
    with refused(ValueError, "blocks", "()"):
        nn.resnet(blocks=())
    with refused(ValueError, "blocks", "(1, 0, 1)"):
        nn.resnet(blocks=(1, 0, 1))
    with refused(ValueError, "shortcut", "'C'"):
        nn.resnet(8, shortcut="C")


def test_wrong_input_is_refused():
    model = nn.resnet(8, width=4)
    with refused(ValueError, "weight", "(4, 3, 3, 3)"):
        model.forward(np.zeros((4, 1, 8, 8), "float32"))
    with refused(ValueError, "x", "(3, 8, 8)"):
        model.forward(np.zeros((3, 8, 8), "float32"))
    with refused(TypeError, "x", "uint8"):
        model.forward(np.zeros((4, 3, 8, 8), "uint8"))
    with refused(ValueError, "x", "(1, 16, 1, 1)"):
        model.forward(np.zeros((1, 3, 4, 4), "float32"))
