"""Layers, blocks, networks, training steps, the training loop, checks and measurements on the fake GPU."""

import numpy as np
import pytest

from minires import init, nn, ops, optim
from minires.backend import to_device, to_numpy
from minires.fake_gpu import DeviceArray, device, waits
from tests.nn.cases import CASES

TOLERANCE = 1e-11


def close(got, expected, what=""):
    assert isinstance(got, DeviceArray), what
    scale = max(1.0, np.abs(expected).max(initial=0.0))
    assert np.abs(to_numpy(got) - expected).max(initial=0.0) <= TOLERANCE * scale, what


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_layer_computes_the_same_there_and_does_not_wait(case):
    here, there, x = case.layer(), case.layer().to(device), case.input()
    y = here.forward(x)
    dy = np.random.default_rng(1).standard_normal(y.shape)
    dx = here.backward(dy)

    x_there, dy_there = to_device(x, device), to_device(dy, device)
    before = waits.count
    y_there = there.forward(x_there)
    dx_there = there.backward(dy_there)
    assert waits.count == before
    close(y_there, y)
    close(dx_there, dx)
    for mine, theirs in zip(here.parameters(), there.parameters(), strict=True):
        close(theirs.grad, mine.grad, mine.name)
    for name, array in there.state_dict().items():
        close(array, here.state_dict()[name], name)


@pytest.mark.parametrize("case", [c for c in CASES if c.layer().parameters()], ids=lambda case: case.name)
def test_an_array_of_the_other_side_is_refused_at_the_door(case):
    with pytest.raises(TypeError, match="one library"):
        case.layer().to(device).forward(case.input())
    with pytest.raises(TypeError, match="one library"):
        case.layer().forward(to_device(case.input(), device))


def test_there_and_back_changes_nothing():
    model = nn.resnet(8, width=4, shortcut="B")
    before = model.state_dict()
    assert model.to(device) is model
    assert all(isinstance(array, DeviceArray) for array in model.state_dict().values())
    model.to("cpu")
    after = model.state_dict()
    assert all(isinstance(after[name], np.ndarray) and np.array_equal(after[name], before[name]) for name in before)


def test_the_same_seed_gives_the_same_weights_bit_for_bit():
    here, there = nn.resnet(8, width=4), nn.resnet(8, width=4).to(device)
    for model in (here, there):
        init.initialize(model, init.Orthogonal(), rng=3)
    for a, b in zip(here.parameters(), there.parameters(), strict=True):
        assert np.array_equal(a.value, to_numpy(b.value)), a.name


def test_state_moves_between_the_sides():
    here, there = nn.resnet(8, width=4, rng=1), nn.resnet(8, width=4, rng=2).to(device)
    there.load_state_dict(here.state_dict())
    close(there.conv1.weight.value, here.conv1.weight.value)
    nn.resnet(8, width=4).load_state_dict(there.state_dict())
    init.from_pretrained(there, here.state_dict())
    optimizers = [optim.SGD(model.parameters()) for model in (here, there)]
    for one, other in (optimizers, optimizers[::-1]):
        one.load_state_dict(other.state_dict())


def data(n=8):
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, 3, 9, 7)), rng.integers(0, 10, n)


def train_step(model, loss, optimizer, x, labels):
    """One step, as a student writes it. Nothing in it waits for the device."""
    value = loss.forward(model.forward(x), labels)
    model.zero_grad()
    model.backward(loss.backward())
    optim.clip_grad_norm(optimizer.parameters, 5.0)
    optimizer.step()
    return value


def train(model, x, labels, step=train_step):
    loss = nn.SoftmaxCrossEntropy()
    optimizer = optim.SGD(model.parameters(), 0.1, nesterov=True, weight_decay=1e-3)
    return [step(model, loss, optimizer, x, labels) for _ in range(3)]


def compare_training(step=train_step, make=lambda: nn.resnet(8, width=4, shortcut="B").astype("float64")):
    """Three steps on both sides: the same losses and weights, and no wait."""
    x, labels = data()
    here, there = make(), make().to(device)
    expected = train(here, x, labels)
    x_there, labels_there = to_device(x, device), to_device(labels, device)
    before = waits.count
    losses = train(there, x_there, labels_there, step)
    assert waits.count == before, f"{waits.count - before} waits for the device in three steps"
    for got, wanted in zip(losses, expected, strict=True):
        close(got, wanted, "loss")
    state = here.state_dict()
    for name, array in there.state_dict().items():
        close(array, state[name], name)


# --- planted faults: each must be found ------------------------------------------------------------------------------


def test_a_call_of_numpy_in_a_backward_is_found(monkeypatch):
    def faulty(self, dy, cache):
        return np.multiply(dy, cache > 0)

    monkeypatch.setattr(nn.ReLU, "_backward", faulty)
    with pytest.raises(TypeError):
        compare_training()


def test_a_function_of_numpy_in_a_forward_is_found(monkeypatch):
    def faulty(self, x):
        return np.mean(x, axis=(2, 3)), ops.global_avg_pool2d_forward(x)[1]

    monkeypatch.setattr(nn.GlobalAvgPool2d, "_forward", faulty)
    with pytest.raises(TypeError, match=r"numpy\.mean"):
        compare_training()


def test_an_array_of_the_host_in_a_layer_is_found(monkeypatch):
    def faulty(self, x):
        return x * np.ones(x.shape), None

    monkeypatch.setattr(nn.Identity, "_forward", faulty)
    with pytest.raises(TypeError, match=r"NumPy|ndarray"):
        compare_training(make=lambda: nn.resnet(8, width=4).astype("float64"))


def test_a_float_in_the_inner_loop_is_found():
    def waiting(model, loss, optimizer, x, labels):
        value = train_step(model, loss, optimizer, x, labels)
        assert float(value) < 1e9
        return value

    with pytest.raises(AssertionError, match="3 waits"):
        compare_training(waiting)


def test_a_bool_of_an_array_in_the_inner_loop_is_found():
    def waiting(model, loss, optimizer, x, labels):
        value = train_step(model, loss, optimizer, x, labels)
        return value if value < 1e9 else None

    with pytest.raises(AssertionError, match="3 waits"):
        compare_training(waiting)
