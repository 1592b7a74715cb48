"""BatchNorm2d and the ReLU behind it go through memory together, unless somebody watches them: the same bits."""

import numpy as np
import pytest

from minires import nn, ops
from minires.nn.layers import BatchNormReLU, joined
from tests.nn.cases import randomized

NETWORKS = {
    "basic, A": {},
    "basic, B": {"shortcut": "B"},
    "plain": {"shortcut": None},
    "bottleneck": {"block": nn.Bottleneck, "depth": 11},
    "preactivation": {"block": nn.PreActBlock},
    "scaled branch": {"branch_scale": 0.5},
    "leaky relu": {"activation": nn.LeakyReLU},
    "no batchnorm": {"batchnorm": False},
}


def one_step(options, watch, training):
    network = nn.resnet(**{"depth": 8, "width": 4} | options)
    model = randomized(network, np.random.default_rng(0)).train(training)
    rng = np.random.default_rng(1)
    x, dy = rng.standard_normal((6, 3, 9, 8)), rng.standard_normal((6, 10))
    if watch == "nobody":
        y, dx = model.forward(x), model.backward(dy)
    elif watch == "an observer":
        with model.observe(lambda *what: None):
            y, dx = model.forward(x), model.backward(dy)
    elif watch == "an observer of backward":
        y = model.forward(x)
        with model.observe(lambda *what: None):
            dx = model.backward(dy)
    else:
        with model.observe(lambda *what: None):
            y = model.forward(x)
        dx = model.backward(dy)
    state = {**model.state_dict(), **{f"grad {p.name}": p.grad for p in model.parameters()}}
    return {"y": y, "dx": dx, **state}


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("watch", ["an observer", "an observer of forward", "an observer of backward"])
@pytest.mark.parametrize("options", NETWORKS.values(), ids=NETWORKS)
def test_a_network_has_the_same_bits_watched_or_not(options, watch, training):
    alone, watched = one_step(options, "nobody", training), one_step(options, watch, training)
    assert alone.keys() == watched.keys()
    for name, array in alone.items():
        assert np.ascontiguousarray(array).tobytes() == np.ascontiguousarray(watched[name]).tobytes(), name


def test_an_observer_sees_every_layer_and_what_is_between():
    model, seen = nn.resnet(8, width=4), {}
    with model.observe(lambda layer, path, direction, before, after: seen.update({(path, direction): after})):
        model.backward(model.forward(np.random.default_rng(3).standard_normal((4, 3, 8, 8)).astype("float32")))
    layers = [path for path, layer in model.named_layers()]
    assert set(seen) == {(path, direction) for path in layers for direction in ("forward", "backward")}
    assert (seen["layer1.0.bn2", "forward"] < 0).any() and (seen["layer1.0.relu2", "forward"] >= 0).all()


def kinds(layers):
    return [type(layer) for layer in joined(layers)]


def test_what_is_joined_and_what_is_not():
    norm, relu, conv = nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 3, 3)
    assert kinds([conv, norm, relu, conv]) == [nn.Conv2d, BatchNormReLU, nn.Conv2d]
    assert kinds([norm, conv, relu]) == [nn.BatchNorm2d, nn.Conv2d, nn.ReLU]
    assert kinds([norm, relu, relu]) == [BatchNormReLU, nn.ReLU]
    assert kinds([norm, nn.LeakyReLU()]) == [nn.BatchNorm2d, nn.LeakyReLU]
    assert kinds([]) == []


@pytest.mark.parametrize("method", ["forward", "backward", "_forward", "_backward"])
def test_a_pass_that_somebody_replaced_is_called(method):
    """A student's own function in place of a layer's pass, as one does with a debugger at hand."""
    model, called = nn.resnet(8, width=4), []
    original = getattr(model.layer1.layers[0].relu1, method)
    setattr(model.layer1.layers[0].relu1, method, lambda *arrays: called.append(method) or original(*arrays))
    model.backward(model.forward(np.ones((4, 3, 8, 8), "float32")))
    assert called == [method]


@pytest.mark.parametrize("name", ["forward", "backward", "_forward", "_backward"])
@pytest.mark.parametrize("kind", [nn.ReLU, nn.BatchNorm2d])
def test_a_pass_that_was_replaced_in_the_class_is_called(monkeypatch, kind, name):
    called, original = [], getattr(kind, name)
    monkeypatch.setattr(kind, name, lambda *arguments: called.append(name) or original(*arguments))
    model = nn.resnet(8, width=4)
    model.backward(model.forward(np.ones((4, 3, 8, 8), "float32")))
    assert len(called) == sum(type(layer) is kind for _, layer in model.named_layers())


def test_a_layer_of_ones_own_is_called():
    class Loud(nn.ReLU):
        def _forward(self, x):
            y, cache = super()._forward(x)
            return 2 * y, cache

    x = np.random.default_rng(0).standard_normal((4, 3, 5, 5))
    y = nn.Sequential(nn.BatchNorm2d(3).astype("float64"), Loud()).forward(x)
    expected = 2 * ops.relu_forward(ops.batchnorm_forward(x, np.ones(3), np.zeros(3))[0])[0]
    np.testing.assert_allclose(y, expected, rtol=1e-12)


def test_a_second_backward_is_refused_and_nothing_is_kept_when_inferring():
    model = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU())
    x = np.ones((4, 3, 5, 5), "float32")
    model.infer(x)
    assert all(layer._cache is None for layer in model.layers)
    model.backward(model.forward(x))
    assert all(layer._cache is None for layer in model.layers)
    with pytest.raises(ValueError, match="one forward"):
        model.backward(x)
