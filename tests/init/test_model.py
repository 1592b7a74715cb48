"""Procedures on whole models: initialize, zero-gamma, Fixup and LSUV do what their papers say."""

import numpy as np
import pytest

from minires import init, nn
from tests.init.laws import assert_z
from tests.refusals import refused

X = np.random.default_rng(0).standard_normal((8, 3, 9, 9)).astype("float32")


def branches(model):
    return [layer for _, layer in model.named_layers() if isinstance(layer, nn.ResidualBlock)]


def disturbed():
    """A model nothing of which is as it was made."""
    model = nn.resnet(8, width=8, shortcut="B")
    for p in model.parameters():
        p.value = p.value + 1
    model.forward(X)
    return model


def test_initialize_draws_everything_anew():
    model = disturbed()
    init.initialize(model, weight=init.XavierUniform(), bias=init.Constant(0.5), rng=3)
    rng = np.random.default_rng(3)
    for p in model.parameters():
        if p.value.ndim >= 2:
            assert np.array_equal(p.value, init.XavierUniform().sample(p.value.shape, rng)), p.name
        else:
            assert np.all(p.value == (1 if p.name.endswith("weight") else 0.5)), p.name
    for name, layer, attribute in model.named_buffers():
        assert np.all(getattr(layer, attribute) == (attribute == "running_var")), name


def test_initialize_is_the_models_own_first_state():
    model = disturbed()
    init.initialize(model, rng=0)
    fresh = nn.resnet(8, width=8, shortcut="B", rng=0).state_dict()
    assert all(np.array_equal(array, fresh[name]) for name, array in model.state_dict().items())


def test_initialize_keeps_the_dtype():
    model = nn.resnet(8, width=4).astype("float64")
    init.initialize(model, rng=1)
    assert {array.dtype.name for array in model.state_dict().values()} == {"float64"}


def test_initialize_gives_the_stated_variance_in_every_layer():
    """chi^2: relative standard error sqrt(2 / n) per layer."""
    model = nn.resnet(8, width=16)
    init.initialize(model, weight=init.HeNormal(), rng=5)
    weights = [p.value for p in model.parameters() if p.value.ndim == 4]
    for w in weights:
        ratio = (w.astype("float64") ** 2).mean() / (2 / (w.shape[1] * 9))
        assert_z((ratio - 1) / np.sqrt(2 / w.size), len(weights))


@pytest.mark.parametrize("block", [nn.BasicBlock, nn.Bottleneck])
def test_zero_gamma_makes_every_identity_block_the_identity(block):
    """y = relu(x) = x for an x >= 0, in training mode, whatever the data."""
    model = nn.resnet(blocks=(3,), block=block, width=4, shortcut="B", rng=1)
    before = {p.name: p.value for p in model.parameters()}
    init.zero_gamma(model)
    for residual in branches(model)[1:]:
        x = np.abs(np.random.default_rng(0).standard_normal((4, residual.conv1.in_channels, 5, 6))).astype("float32")
        assert np.array_equal(residual.forward(x), x)
    changed = [p.name for p in model.parameters() if not np.array_equal(p.value, before[p.name])]
    last = "bn3" if block is nn.Bottleneck else "bn2"
    assert changed == [f"layer1.{i}.{last}.weight" for i in range(3)]


def test_zero_gamma_needs_batchnorm():
    with refused(ValueError, "model", "found none"):
        init.zero_gamma(nn.resnet(8, batchnorm=False))
    with refused(ValueError, "model", "found none"):
        init.zero_gamma(nn.Sequential(nn.Linear(3, 3)))


def test_fixup_scales_by_depth_and_ends_branches_with_zeros():
    """L blocks of m convolutions: all but the last times L^(-1/(2m-2)); last and head 0."""
    for block, m in ((nn.BasicBlock, 2), (nn.Bottleneck, 3)):
        model = nn.resnet(blocks=(2, 3), block=block, width=4, batchnorm=False, shortcut="B")
        before = {p.name: p.value for p in model.parameters()}
        init.fixup(model)
        after = {p.name: p.value for p in model.parameters()}
        for name, value in after.items():
            factor = 1.0
            if name == "linear.weight" or name.endswith(f"conv{m}.weight"):
                factor = 0.0
            elif name.startswith("layer") and "conv" in name and name.endswith("weight"):
                factor = 5 ** (-1 / (2 * m - 2))
            np.testing.assert_allclose(value, factor * before[name], rtol=1e-6, err_msg=name)
    with refused(ValueError, "model", "found none"):
        init.fixup(nn.Sequential(nn.Linear(3, 3)))


def standard_deviations(model, x):
    """Of what each convolution and linear layer puts out."""
    found = {}

    def note(layer, path, direction, before, after):
        if isinstance(layer, nn.Conv2d | nn.Linear):
            found[path] = float(np.std(after.astype("float64")))

    with model.observe(note):
        model.forward(x)
    return found


@pytest.mark.parametrize("options", [{"batchnorm": False}, {}, {"shortcut": None}])
def test_lsuv_gives_unit_variance_in_every_layer(options):
    model = nn.resnet(8, width=8, weight_init=init.Orthogonal(), rng=2, **options)
    buffers = {name: getattr(layer, attribute).copy() for name, layer, attribute in model.named_buffers()}
    before = standard_deviations(nn.resnet(8, width=8, weight_init=init.Orthogonal(), rng=2, **options), X)
    found = init.lsuv(model, X)
    after = standard_deviations(model, X)
    assert set(found) == set(before) == set(after)
    assert all(abs(std - 1) <= 0.02 for std in after.values()), after
    assert any(abs(std - 1) > 0.02 for std in before.values())
    first = next(iter(before))
    assert found[first] == pytest.approx(before[first], rel=1e-5)
    model = nn.resnet(8, width=8, weight_init=init.Orthogonal(), rng=2, **options)
    init.lsuv(model, X)
    assert all(np.array_equal(getattr(layer, a), buffers[name]) for name, layer, a in model.named_buffers())


def test_lsuv_of_a_linear_layer_needs_one_division():
    layer = nn.Sequential(nn.Linear(6, 5, bias=False, rng=0)).astype("float64")
    x = np.random.default_rng(0).standard_normal((40, 6))
    weight, std = layer.layers[0].weight.value, layer.forward(x).std()
    init.lsuv(layer, x)
    np.testing.assert_allclose(layer.layers[0].weight.value, weight / std, rtol=1e-14)
    assert layer.forward(x).std() == pytest.approx(1, rel=1e-14)


def test_lsuv_leaves_mode_and_gradients_alone():
    model = nn.resnet(8, width=4).eval()
    init.lsuv(model, X)
    assert not model.training and all(not p.grad.any() for p in model.parameters())


def test_lsuv_refuses_an_output_without_variance():
    with refused(ValueError, "x", "constant"):
        init.lsuv(nn.resnet(8, width=4, batchnorm=False, weight_init=init.Zeros()), X)
