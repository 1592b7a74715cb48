"""Conv2d, BatchNorm2d and ReLU go through memory together, unless somebody watches them: the same bits."""

import numpy as np
import pytest

from minires import nn, ops, parallel
from minires.nn.sequential import ConvNormReLU, joined
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


@pytest.fixture(autouse=True)
def many_pieces(monkeypatch):
    """Small work is shared, too, and in small pieces, another number of images for each op."""
    monkeypatch.setenv("MINIRES_NUM_THREADS", "3")
    monkeypatch.setattr(parallel, "SMALL_BYTES", 0)
    monkeypatch.setattr(parallel, "PIECE_BYTES", 2**13)


def bits(array):
    return np.ascontiguousarray(array).tobytes()


def network(options, dtype="float64"):
    model = nn.resnet(**{"depth": 8, "width": 4} | options)
    return randomized(model, np.random.default_rng(0)).astype(dtype)


def one_step(options, watch, training, dtype):
    model = network(options, dtype).train(training)
    rng = np.random.default_rng(1)
    x, dy = rng.standard_normal((11, 3, 9, 8)).astype(dtype), rng.standard_normal((11, 10)).astype(dtype)
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


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("watch", ["an observer", "an observer of forward", "an observer of backward"])
@pytest.mark.parametrize("options", NETWORKS.values(), ids=NETWORKS)
def test_a_network_has_the_same_bits_watched_or_not(options, watch, training, dtype):
    alone, watched = one_step(options, "nobody", training, dtype), one_step(options, watch, training, dtype)
    assert alone.keys() == watched.keys()
    for name, array in alone.items():
        assert bits(array) == bits(watched[name]), name


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
@pytest.mark.parametrize("options", NETWORKS.values(), ids=NETWORKS)
def test_inference_which_keeps_nothing_has_the_bits_of_evaluation(options, dtype):
    model = network(options, dtype).eval()
    x = np.random.default_rng(2).standard_normal((11, 3, 9, 8)).astype(dtype)
    before = x.copy()
    assert bits(model.infer(x)) == bits(model.forward(x)) and bits(x) == bits(before)


def test_inference_by_a_model_that_still_trains_keeps_nothing_either():
    model, x = network({}), np.random.default_rng(2).standard_normal((4, 3, 9, 8))
    expected = network({}).forward(x)
    assert bits(model.infer(x)) == bits(expected)
    assert all(layer._cache is None for _, layer in model.named_layers())


def test_a_nan_is_not_cut_off():
    model = nn.Sequential(nn.Conv2d(2, 2, 1, rng=0), nn.BatchNorm2d(2), nn.ReLU())
    x = np.ones((4, 2, 3, 3), "float32")
    x[1, 0, 2, 2] = np.nan
    assert np.isnan(model.forward(x)).all() and np.isnan(model.backward(np.ones_like(x))).all()
    assert np.isnan(model.eval().infer(x))[1, :, 2, 2].all()


def test_an_observer_sees_every_layer_and_what_is_between():
    model, seen = nn.resnet(8, width=4), {}
    with model.observe(lambda layer, path, direction, before, after: seen.update({(path, direction): after})):
        model.backward(model.forward(np.random.default_rng(3).standard_normal((4, 3, 8, 8)).astype("float32")))
    layers = [path for path, layer in model.named_layers()]
    assert set(seen) == {(path, direction) for path in layers for direction in ("forward", "backward")}
    assert (seen["layer1.0.bn2", "forward"] < 0).any() and (seen["layer1.0.relu2", "forward"] >= 0).all()


def kinds(*layers):
    """The steps that the layers become: the type of each, or of the three layers that are one."""
    steps = [step.layers if isinstance(step, ConvNormReLU) else [step] for step in joined(layers)]
    return [" ".join(type(layer).__name__ for layer in step) for step in steps]


def test_what_is_joined_and_what_is_not():
    norm, relu, conv, wider = nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 3, 3), nn.Conv2d(3, 4, 3)
    three = "Conv2d BatchNorm2d ReLU"
    assert kinds(conv, norm, relu, conv) == [three, "Conv2d"]
    assert kinds(norm, relu, conv, norm, relu, conv, norm, relu) == ["BatchNorm2d", "ReLU", three, three]
    assert kinds(norm, conv, relu) == ["BatchNorm2d", "Conv2d", "ReLU"]
    assert kinds(conv, norm) == ["Conv2d", "BatchNorm2d"]
    assert kinds(wider, norm, relu) == ["Conv2d", "BatchNorm2d", "ReLU"]  # an error, which is BatchNorm's to tell
    assert kinds(conv, norm.astype("float64"), relu) == ["Conv2d", "BatchNorm2d", "ReLU"]  # and this one
    assert kinds(conv, norm, nn.LeakyReLU()) == ["Conv2d", "BatchNorm2d", "LeakyReLU"]
    assert kinds() == []


@pytest.mark.parametrize("method", ["forward", "backward", "_forward", "_backward"])
def test_a_pass_that_somebody_replaced_is_called(method):
    """A student's own function in place of a layer's pass, as one does with a debugger at hand."""
    model, called = nn.resnet(8, width=4), []
    original = getattr(model.layer1.layers[0].relu1, method)
    setattr(model.layer1.layers[0].relu1, method, lambda *arrays: called.append(method) or original(*arrays))
    model.backward(model.forward(np.ones((4, 3, 8, 8), "float32")))
    assert called == [method]


@pytest.mark.parametrize("name", ["forward", "backward", "_forward", "_backward"])
@pytest.mark.parametrize("kind", [nn.ReLU, nn.BatchNorm2d, nn.Conv2d])
def test_a_pass_that_was_replaced_in_the_class_is_called(monkeypatch, kind, name):
    called, original = [], getattr(kind, name)
    monkeypatch.setattr(kind, name, lambda *arguments: called.append(name) or original(*arguments))
    model = nn.resnet(8, width=4)
    model.backward(model.forward(np.ones((4, 3, 8, 8), "float32")))
    assert len(called) == sum(type(layer) is kind for _, layer in model.named_layers())


@pytest.mark.parametrize("way", ["forward", "backward"])
@pytest.mark.parametrize("op", ["conv2d", "batchnorm", "relu"])
def test_an_op_that_was_replaced_is_called(monkeypatch, op, way):
    called, original = [], getattr(ops, f"{op}_{way}")
    monkeypatch.setattr(ops, f"{op}_{way}", lambda *a, **options: called.append(op) or original(*a, **options))
    model = nn.resnet(8, width=4)
    model.backward(model.forward(np.ones((4, 3, 8, 8), "float32")))
    assert len(called) == 7


def test_a_layer_of_ones_own_is_called():
    class Loud(nn.ReLU):
        def _forward(self, x):
            y, cache = super()._forward(x)
            return 2 * y, cache

    x = np.random.default_rng(0).standard_normal((4, 3, 5, 5))
    conv = nn.Conv2d(3, 3, 3, padding=1, rng=0).astype("float64")
    y = nn.Sequential(conv, nn.BatchNorm2d(3).astype("float64"), Loud()).forward(x)
    z, _ = ops.batchnorm_forward(conv.forward(x), np.ones(3), np.zeros(3))
    np.testing.assert_allclose(y, 2 * ops.relu_forward(z)[0], rtol=1e-12)


def three(**options):
    return nn.Sequential(nn.Conv2d(3, 3, 3, padding=1, rng=0, **options), nn.BatchNorm2d(3), nn.ReLU())


def test_a_second_backward_is_refused_and_nothing_is_kept_when_inferring():
    model, x = three(), np.random.default_rng(0).standard_normal((4, 3, 5, 5)).astype("float32")
    model.eval().infer(x)
    assert all(layer._cache is None for layer in model.layers)
    model.train().backward(model.forward(x))
    for layer in model.layers:
        with pytest.raises(ValueError, match="one forward"):
            layer.backward(x)


def test_a_block_whose_branch_is_one_convolution():
    class Short(nn.ResidualBlock):
        branch, after_sum = ("conv1", "bn1"), "relu1"

        def _make_branch(self, i, o, stride, conv, norm, activation):
            self.conv1, self.bn1 = conv(i, o, 3, stride, 1), norm(o)

    x = np.random.default_rng(0).standard_normal((4, 3, 5, 5)).astype("float32")
    for shortcut in ("A", None):
        block = Short(3, 3, shortcut=shortcut)
        alone = block.backward(block.forward(x))
        with block.observe(lambda *what: None):
            assert bits(block.backward(block.forward(x))) == bits(alone)


def test_what_is_kept_may_lie_in_memory_in_another_order():
    model, x = three(), np.random.default_rng(0).standard_normal((4, 3, 5, 5)).astype("float32")
    expected = model.backward(model.forward(x))
    y = model.forward(x)
    conv, norm, relu = (layer._cache[0] for layer in model.layers)
    plain = np.ascontiguousarray
    model.layers[0]._cache = (conv._replace(x=plain(conv.x)),)
    model.layers[1]._cache = (norm._replace(x=plain(norm.x)),)
    model.layers[2]._cache = (plain(relu),)
    assert bits(model.backward(plain(y))) == bits(expected)


@pytest.mark.parametrize(
    ("spoil", "error", "says"),
    [
        (lambda norm: setattr(norm, "running_mean", norm.running_mean.astype("float64")), TypeError, "mean has dtype"),
        (lambda norm: setattr(norm, "running_var", np.ones(1, "float32")), ValueError, "var has shape"),
        (lambda norm: setattr(norm.bias, "value", np.zeros(3)), TypeError, "bias has dtype"),
    ],
)
def test_inference_refuses_what_evaluation_refuses(spoil, error, says):
    model, x = three().eval(), np.ones((4, 3, 5, 5), "float32")
    spoil(model.layers[1])
    for run in (model.forward, model.infer):
        with pytest.raises(error, match=says):
            run(x)


@pytest.mark.parametrize(
    ("x", "error"),
    [
        ([[1.0]], TypeError),
        (np.ones((2, 3, 5, 5), int), TypeError),
        (np.float32(3), ValueError),
        (np.ones((2, 3), "float32"), ValueError),
        (np.ones((2, 4, 5, 5), "float32"), ValueError),
    ],
)
def test_what_is_no_batch_of_images_is_refused_as_it_is_when_watched(x, error):
    model, said = three(), []
    with pytest.raises(error) as alone:
        model.forward(x)
    with pytest.raises(error) as watched, model.observe(lambda *what: said.append(what)):
        model.forward(x)
    assert str(alone.value) == str(watched.value) and not said


def test_a_shortcut_of_another_dtype_or_shape_is_refused():
    class Odd(nn.Identity):
        def __init__(self, change):
            self.change = change

        def _forward(self, x):
            return self.change(x), None

    x = np.random.default_rng(0).standard_normal((4, 3, 5, 5)).astype("float32")
    for change, error in ((lambda x: x.astype("float64"), TypeError), (lambda x: x[:, :1], ValueError)):
        block = nn.BasicBlock(3, 3)
        block.shortcut = Odd(change)
        with pytest.raises(error, match="shortcut"):
            block.forward(x)


def test_after_a_forward_that_failed_there_is_no_way_back():
    model, x = nn.Sequential(*three().layers, *three().layers), np.ones((4, 3, 5, 5), "float32")
    y = model.forward(x)
    model.layers[3].weight.value = np.ones((3, 4, 3, 3), "float32")
    with pytest.raises(ValueError, match="weight"):
        model.forward(x)
    with pytest.raises(ValueError, match="one forward"):
        model.backward(y)


def test_an_interrupted_backward_adds_nothing_twice(monkeypatch):
    model, x = three(), np.random.default_rng(0).standard_normal((4, 3, 5, 5)).astype("float32")
    y = model.forward(x)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(model.layers[0].weight, "add_grad", lambda grad: (_ for _ in ()).throw(KeyboardInterrupt))
        model.backward(y)
    assert not model.layers[1].weight.grad.any()
