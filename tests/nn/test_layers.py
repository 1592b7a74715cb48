"""What is particular to single layers: running statistics, modes, settings. (Gradients: test_gradients.py.)"""

from functools import partial

import numpy as np
import pytest

from minires import init, nn
from tests.refusals import refused

RNG = np.random.default_rng(0)
X = 1 + 2 * RNG.standard_normal((4, 3, 5, 6))


def batchnorm(**options):
    return nn.BatchNorm2d(3, **options).astype("float64")


def test_running_statistics_follow_with_the_unbiased_variance():
    """PyTorch's rule, the first batch starting from mean 0 and variance 1."""
    layer = batchnorm(momentum=0.3)
    layer.forward(X)
    np.testing.assert_allclose(layer.running_mean, 0.3 * X.mean((0, 2, 3)), rtol=1e-14)
    np.testing.assert_allclose(layer.running_var, 0.7 + 0.3 * X.var((0, 2, 3), ddof=1), rtol=1e-14)
    layer.forward(2 * X)
    np.testing.assert_allclose(layer.running_mean, (0.7 * 0.3 + 0.3 * 2) * X.mean((0, 2, 3)), rtol=1e-14)


def test_running_statistics_of_a_repeated_batch_converge_to_it():
    layer = batchnorm(momentum=0.5)
    for _ in range(60):
        layer.forward(X)
    np.testing.assert_allclose(layer.running_mean, X.mean((0, 2, 3)), rtol=1e-13)
    np.testing.assert_allclose(layer.running_var, X.var((0, 2, 3), ddof=1), rtol=1e-13)


def test_evaluation_uses_the_running_statistics_and_leaves_them():
    layer = batchnorm()
    layer.forward(X)
    before = layer.state_dict()
    y = layer.eval().forward(X[:1, :, :1, :1])
    column = (slice(None), None, None)
    expected = (X[:1, :, :1, :1] - before["running_mean"][column]) / np.sqrt(before["running_var"] + 1e-5)[column]
    np.testing.assert_allclose(y, expected, rtol=1e-13)
    assert all(np.array_equal(layer.state_dict()[name], before[name]) for name in before)


def test_one_value_per_channel_cannot_train():
    layer = batchnorm()
    before = layer.state_dict()
    with refused(ValueError, "x", "(1, 3, 1, 1)"):
        layer.forward(X[:1, :, :1, :1])
    assert all(np.array_equal(layer.state_dict()[name], before[name]) for name in before)


def test_reset_forgets_even_a_nan():
    layer = batchnorm()
    layer.forward(X * np.nan)
    layer.reset_buffers()
    assert np.array_equal(layer.running_mean, np.zeros(3)) and np.array_equal(layer.running_var, np.ones(3))


@pytest.mark.parametrize("momentum", [np.float64(0.1), 0.1])
def test_numpy_numbers_as_settings_keep_float32(momentum):
    layer = nn.BatchNorm2d(3, eps=np.float64(1e-5), momentum=momentum)
    layer.forward(X.astype("float32"))
    assert layer.running_mean.dtype == layer.running_var.dtype == "float32"
    block = nn.BasicBlock(3, 3, branch_scale=1 / np.sqrt(3))
    assert block.forward(X.astype("float32")).dtype == "float32"


def test_dropout_in_evaluation_does_nothing():
    layer = nn.Dropout(0.5, rng=0)
    y = layer.forward(X)
    assert (y == 0).mean() > 0.3
    assert np.array_equal(layer.eval().forward(X), X)
    assert np.array_equal(layer.backward(X), X)


def test_flatten_keeps_the_order_of_the_shape():
    """(C, H, W), in whatever order the memory is: weights of a linear head carry over from PyTorch."""
    channels_last = np.ascontiguousarray(X.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    assert np.array_equal(nn.Flatten().forward(channels_last), X.reshape(4, -1))


@pytest.mark.parametrize(
    ("make", "expected"),
    [(lambda rng: nn.Conv2d(3, 4, 3, rng=rng), (4, 3, 3, 3)), (lambda rng: nn.Linear(5, 4, rng=rng), (4, 5))],
)
def test_weights_follow_their_initializer(make, expected):
    """He's law by default, from the seed; another initializer where one is given; biases start at 0."""
    layer = make(7)
    assert np.array_equal(layer.weight.value, init.HeNormal().sample(expected, 7))
    assert not layer.bias.value.any() and layer.weight.value.dtype == np.float32
    assert not np.array_equal(make(None).weight.value, make(None).weight.value)
    kind = type(layer)
    sizes = expected[1::-1]
    more = (3,) if kind is nn.Conv2d else ()
    given = kind(*sizes, *more, weight_init=init.Constant(0.5), bias=False)
    assert np.all(given.weight.value == 0.5) and given.bias is None
    assert [p.name for p in given.parameters()] == ["weight"]


def test_conv2d_takes_settings_as_pairs_or_numbers():
    layer = nn.Conv2d(3, 4, (3, 2), stride=2, padding=(1, 0), dilation=1)
    assert (layer.kernel_size, layer.stride, layer.padding, layer.dilation) == ((3, 2), (2, 2), (1, 0), (1, 1))


def test_wrong_settings_are_refused():
    with refused(ValueError, "kernel_size", "0"):
        nn.Conv2d(3, 4, 0)
    with refused(TypeError, "stride", "1.5"):
        nn.Conv2d(3, 4, 3, stride=1.5)
    with refused(ValueError, "padding", "-1"):
        nn.MaxPool2d(2, padding=-1)
    with refused(ValueError, "in_channels", "0"):
        nn.Conv2d(0, 4, 3)
    with refused(ValueError, "out_channels", "-1"):
        nn.Conv2d(3, -1, 3)
    with refused(TypeError, "in_channels", "3.0"):
        nn.Conv2d(3.0, 4, 3)
    with refused(ValueError, "out_features", "0"):
        nn.Linear(3, 0)
    with refused(ValueError, "num_features", "0"):
        nn.BatchNorm2d(0)
    with refused(ValueError, "eps", "-1"):
        nn.BatchNorm2d(3, eps=-1)
    with refused(TypeError, "momentum", "None"):
        nn.BatchNorm2d(3, momentum=None)
    with refused(ValueError, "momentum", "3"):
        nn.BatchNorm2d(3, momentum=3)
    with refused(TypeError, "ceil_mode", "'yes'"):
        nn.MaxPool2d(2, ceil_mode="yes")
    with refused(TypeError, "count_include_pad", "None"):
        nn.AvgPool2d(2, count_include_pad=None)
    with refused(ValueError, "p", "1.5"):
        nn.Dropout(1.5)
    with refused(ValueError, "slope", "-1"):
        nn.LeakyReLU(-1)
    with refused(TypeError, "rng", "'seed'"):
        nn.Conv2d(3, 4, 3, rng="seed")
    with refused(TypeError, "layer 1", "ReLU"):
        nn.Sequential(nn.Linear(3, 4), nn.ReLU)


@pytest.mark.parametrize("activation", [nn.Linear, nn.ReLU(), np.float32, "relu", dict, lambda x: x, lambda: 3, None])
def test_an_activation_is_what_makes_a_layer(activation):
    for make in (partial(nn.resnet, 8), partial(nn.BasicBlock, 3, 3)):
        with refused(TypeError, "activation", "such as the class nn.ReLU"):
            make(activation=activation)


@pytest.mark.parametrize("block", [nn.Linear, nn.ReLU, nn.BasicBlock(3, 3), partial(nn.BasicBlock, stride=2), "basic"])
def test_a_block_is_a_class_of_blocks(block):
    with refused(TypeError, "block", "such as the class nn.BasicBlock"):
        nn.resnet(8, block=block)


def test_wrong_input_is_refused_by_name():
    with refused(ValueError, "weight", "(4, 3, 3, 3)"):
        nn.Conv2d(3, 4, 3).forward(np.ones((4, 2, 5, 6), "float32"))
    with refused(ValueError, "x", "(3, 5, 6)"):
        nn.Conv2d(3, 4, 3).forward(np.ones((3, 5, 6), "float32"))
    with refused(ValueError, "weight", "(4, 3)"):
        nn.Linear(3, 4).forward(np.ones((5, 2), "float32"))
    with refused(TypeError, "x", "uint8"):
        nn.ReLU().forward(np.ones((4, 3), "uint8"))
    with refused(ValueError, "x", "()"):
        nn.Flatten().forward(np.ones(()))
