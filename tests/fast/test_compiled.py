"""What `minires.compile` promises beyond numbers: its life beside the model, and what it refuses."""

import copy
import pickle
import threading

import numpy as np
import pytest

import minires
from minires import nn, ops
from tests.fast.agreement import Halve, difference
from tests.slowness import PATIENCE


def network(**options):
    return nn.resnet(blocks=(1, 1), width=4, rng=1, **options)


def images(n=6, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).standard_normal((n, 3, 9, 7)).astype(dtype)


def compiled(model, threads=2):
    return minires.compile(model, threads=threads)


def test_a_step_is_the_four_lines_of_the_plain_model():
    model = network().astype("float64")
    twin, x, labels = copy.deepcopy(model), images(dtype=np.float64), np.arange(6)
    loss = nn.SoftmaxCrossEntropy()
    for parameter in twin.parameters():
        parameter.grad = parameter.grad + 7  # step begins with zero_grad
    expected = loss.forward(logits := model.forward(x), labels)
    model.backward(loss.backward())
    value, found = compiled(twin).step(x, labels)
    assert difference(expected, value) < 1e-12
    assert difference(logits, found) < 1e-12
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        assert difference(p.grad, q.grad) < 1e-12, p.name


def test_compiling_leaves_the_model_as_it_was():
    model = nn.Sequential(network(), nn.Dropout(0.5, rng=1))
    model.forward(images())
    state, generator = model.state_dict(), copy.deepcopy(model.layers[1].rng)
    gradients = [p.grad for p in model.parameters()]
    fast = compiled(model)
    assert fast.model is model
    assert all(np.array_equal(value, model.state_dict()[name]) for name, value in state.items())
    assert all(p.grad is grad for p, grad in zip(model.parameters(), gradients, strict=True))
    assert model.layers[1].rng.random() == generator.random()
    model.backward(np.ones((6, 10), np.float32))  # the way back of before is still there


def test_it_has_a_layers_methods():
    model = network()
    fast = compiled(model)
    assert fast.parameters() == model.parameters()
    assert fast.eval() is fast
    assert not model.training
    assert fast.train() is fast
    assert model.training
    model.parameters()[0].grad += 1
    fast.zero_grad()
    assert not model.parameters()[0].grad.any()


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((4, 5, 9, 7), np.float32),
        np.zeros((4, 3, 9), np.float32),
        np.zeros((0, 3, 9, 7), np.float32),
        np.zeros((), np.float32),
        np.zeros((4, 3, 9, 7)),
        np.zeros((4, 3, 9, 7), np.uint8),
        np.zeros((4, 9, 7, 3), np.float32),
        [[1.0]],
        None,
    ],
    ids=lambda wrong: f"{getattr(wrong, 'dtype', type(wrong).__name__)} {getattr(wrong, 'shape', '')}",
)
@pytest.mark.parametrize("way", ["forward", "infer"])
def test_wrong_input_gets_the_models_own_sentence(wrong, way):
    model = network()
    before = model.state_dict()
    fast = compiled(model)
    with pytest.raises((TypeError, ValueError)) as expected:
        getattr(copy.deepcopy(model), way)(wrong)
    with pytest.raises(expected.type) as found:
        getattr(fast, way)(wrong)
    assert str(found.value) == str(expected.value)
    assert all(np.array_equal(value, model.state_dict()[name]) for name, value in before.items())


def test_a_single_value_per_channel_is_refused_as_by_the_model():
    model = nn.Sequential(nn.Linear(5, 4, rng=0), nn.BatchNorm2d(4))
    with pytest.raises(ValueError, match="one value per channel"):
        compiled(model).forward(np.zeros((1, 5), np.float32))


def test_what_one_began_the_other_does_not_end():
    model, x = network(), images()
    fast = compiled(model)
    y = fast.forward(x)
    with pytest.raises(ValueError, match="backward"):
        model.backward(y)
    fast.backward(y)
    with pytest.raises(ValueError, match="backward"):
        fast.backward(y)
    model.forward(x)
    with pytest.raises(ValueError, match="backward"):
        fast.backward(y)
    model.forward(x)
    fast.forward(x)
    with pytest.raises(ValueError, match="backward"):
        model.backward(y)
    fast.infer(x)
    with pytest.raises(ValueError, match="backward"):
        fast.backward(y)


def test_after_an_exception_no_way_back_is_left():
    fast, x = compiled(network()), images()
    y = fast.forward(x)
    with pytest.raises(ValueError, match="dy"):
        fast.backward(y[:2])
    with pytest.raises(ValueError, match="no forward"):
        fast.backward(y)
    fast.forward(x)
    with pytest.raises(ValueError, match="x"):
        fast.forward(x[:, :2])
    with pytest.raises(ValueError, match="no forward"):
        fast.backward(y)


def agrees(fast, x):
    expected = copy.deepcopy(fast.model).forward(x)
    return difference(expected, fast.forward(x)) < 1e-5


def test_values_modes_and_settings_are_read_at_every_pass():
    model, x = network(), images()
    fast = compiled(model)
    assert agrees(fast, x)
    other = nn.resnet(blocks=(1, 1), width=4, rng=2)
    model.load_state_dict(other.state_dict())
    assert agrees(fast, x)
    model.layers[1].eval()
    assert agrees(fast, x)
    model.bn1.eps, model.bn1.momentum = 0.5, 0.9
    assert agrees(fast, x)
    model.layer1.layers[0].branch_scale = 0.25
    assert agrees(fast, x)
    model.conv1 = nn.Conv2d(3, 4, 5, padding=2, rng=3)
    assert agrees(fast, x)
    model.linear.weight = nn.Parameter(np.ones((10, 8), np.float32))
    assert agrees(fast, x)
    model.astype("float64")
    assert agrees(fast, x.astype(np.float64))


def test_frozen_batchnorm_goes_back_as_in_the_model():
    model = network().astype("float64")
    model.layer1.eval()
    twin, x, dy = copy.deepcopy(model), images(dtype=np.float64), np.random.default_rng(1).standard_normal((6, 10))
    model.forward(x)
    fast = compiled(twin, 3)
    fast.forward(x)
    assert difference(model.backward(dy), fast.backward(dy)) < 1e-12
    assert all(difference(p.grad, q.grad) < 1e-12 for p, q in zip(model.parameters(), twin.parameters(), strict=True))


def test_an_observer_sees_every_layer_and_the_whole_batch():
    model, x, seen = network(), images(), []
    fast = compiled(model)
    with model.observe(lambda layer, path, direction, a, b: seen.append((path, direction, a.shape[0]))):
        y = fast.forward(x)
        fast.backward(y)
    paths = {path for path, _ in model.named_layers()}
    assert {(path, direction, 6) for path in paths for direction in ("forward", "backward")} == set(seen)
    seen.clear()
    fast.forward(x)
    assert not seen


def test_a_replaced_method_and_a_subclass_run(monkeypatch):
    class Loud(nn.ReLU):
        def _forward(self, x):
            calls.append(x.shape)
            return super()._forward(x)

    model, x, calls = network(), images(), []
    fast = compiled(model)
    model.relu = Loud()
    fast.forward(x)
    assert calls[-1] == (6, 4, 9, 7)  # the whole batch
    assert len(calls) == 1
    model.relu = nn.ReLU()
    block = model.layer1.layers[0]
    monkeypatch.setattr(block, "_forward", lambda x: (x * 0, None))
    assert not fast.forward(x)[:, :0].any()
    monkeypatch.undo()
    monkeypatch.setattr(nn.ReLU, "_forward", lambda self, x: (calls.append("class"), (x, x))[1])
    fast.forward(x)
    assert "class" in calls


def test_a_subclass_that_changes_nothing_is_as_fast_as_its_base():
    from minires.fast.nodes import Whole
    from minires.fast.program import Program

    class Mine(nn.Sequential):
        def __init__(self):
            super().__init__(nn.Conv2d(3, 4, 3), nn.ReLU())
            self.note = "hello"

    assert not any(isinstance(node, Whole) for node in Program(True, Mine()).nodes)


def test_dropout_draws_what_the_model_draws():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, rng=0), nn.Dropout(0.5, rng=5), nn.Flatten()).astype("float64")
    twin, x = copy.deepcopy(model), images(7, np.float64)
    fast = compiled(twin, 3)
    for _ in range(2):
        assert difference(model.forward(x), fast.forward(x)) < 1e-12


def test_the_same_number_of_threads_gives_the_same_bits():
    runs = []
    for _ in range(2):
        model = network()
        fast = compiled(model, 3)
        for seed in range(3):
            fast.step(images(11, seed=seed), np.arange(11) % 10)
            for parameter in model.parameters():
                parameter.value = parameter.value - 0.1 * parameter.grad
        runs.append(model.state_dict())
    assert all(np.array_equal(value, runs[1][name]) for name, value in runs[0].items())


def test_statistics_have_the_same_bits_for_any_number_of_threads(monkeypatch):
    monkeypatch.setattr("minires.fast.compiled.SHARE_PIXELS", 1)
    x = 5 * images(13) + np.linspace(-40, 300, 3, dtype=np.float32)[:, None, None]
    found = []
    for threads in (1, 2, 3, 4, 13):
        model = nn.Sequential(nn.Conv2d(3, 5, 3, rng=0), nn.BatchNorm2d(5), nn.ReLU(), nn.BatchNorm2d(5))
        compiled(model, threads).forward(x)
        found.append(model.state_dict())
    for other in found[1:]:
        assert all(np.array_equal(value, other[name]) for name, value in found[0].items())


def test_batchnorm_keeps_its_digits_far_from_zero():
    """float32 against float64, channels with means of up to 10,000 standard deviations."""
    x = images(40) + np.array([0, 100, 10_000], np.float32)[:, None, None]
    layer = nn.BatchNorm2d(3)
    exact = copy.deepcopy(layer).astype("float64")
    fast = compiled(layer)
    y, dy = fast.forward(x), images(40, seed=1)
    assert difference(exact.forward(x.astype(np.float64)), y) < 1e-3  # the rounding of x itself
    assert np.allclose(layer.running_var, exact.running_var, rtol=1e-5)
    assert difference(exact.backward(dy.astype(np.float64)), fast.backward(dy)) < 1e-3


def test_it_cannot_be_copied_but_its_model_can():
    fast = compiled(network())
    for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="model"):
            attempt(fast)
    copy.deepcopy(fast.model)


def test_one_thread_at_a_time():
    """A layer's own code waits inside a pass until another thread has tried."""
    inside, tried = threading.Event(), threading.Event()

    class Wait(Halve):
        def _forward(self, x):
            inside.set()
            assert tried.wait(PATIENCE)
            return super()._forward(x)

    fast = compiled(nn.Sequential(nn.Conv2d(3, 4, 3), Wait()))
    thread = threading.Thread(target=fast.infer, args=(images(),))
    thread.start()
    assert inside.wait(PATIENCE)
    for other in (fast, compiled(fast.model)):
        with pytest.raises(RuntimeError, match="thread"):
            other.infer(images())
    tried.set()
    thread.join()
    fast.infer(images())


def test_what_cannot_be_compiled():
    with pytest.raises(TypeError, match="model"):
        minires.compile(nn.resnet20)
    with pytest.raises(ValueError, match="threads"):
        minires.compile(network(), threads=0)
    with pytest.raises(TypeError, match="threads"):
        minires.compile(network(), threads=1.5)


def test_the_loss_of_a_step_is_the_definitions(monkeypatch):
    fast, called = compiled(network()), []
    original = ops.softmax_cross_entropy_forward
    monkeypatch.setattr(ops, "softmax_cross_entropy_forward", lambda *a: (called.append(1), original(*a))[1])
    fast.step(images(), np.zeros(6, int))
    assert called


def count_comparisons(monkeypatch):
    """A list that grows by the path of each layer that is compared with the definition."""
    from minires.fast import check

    compared, compare = [], check._compare
    monkeypatch.setattr(check, "_compare", lambda path, *others: (compared.append(path), compare(path, *others)))
    return compared


def test_what_has_agreed_once_is_compared_again_only_once_code_has_been_replaced(monkeypatch):
    class Mine(nn.ReLU):
        note = 1

    model, compared = network(), count_comparisons(monkeypatch)
    compiled(model).infer(images())
    assert compared
    compared.clear()
    fast = compiled(copy.deepcopy(model))
    fast.step(images(), np.zeros(6, int))
    fast.eval().infer(images())
    assert not compared
    model.relu = Mine()
    fast = compiled(model)
    assert "relu" in compared
    compared.clear()
    fast.forward(images())
    assert not compared
    monkeypatch.setattr(Mine, "note", 2)
    fast.forward(images())
    assert "relu" in compared
    compared.clear()
    monkeypatch.setattr(ops.activation, "relu_forward", lambda x: np.maximum(x, 0))
    compiled(network())
    assert compared


def test_the_program_is_made_once_and_again_after_a_change(monkeypatch):
    from minires.fast import compiled as module

    model, made, original = network(), [], module.Program
    monkeypatch.setattr(module, "Program", lambda *about, **how: (made.append(about), original(*about, **how))[1])
    fast = compiled(model)
    for _ in range(3):
        fast.step(images(), np.zeros(6, int))
    before = len(made)
    fast.step(images(), np.zeros(6, int))
    assert len(made) == before
    model.bn1.eps = 0.25
    fast.step(images(), np.zeros(6, int))
    assert len(made) > before


@pytest.mark.parametrize("where", ["class", "object"])
def test_a_models_own_zero_grad_runs(where):
    class Mine(nn.Sequential):
        def zero_grad(self):
            called.append(1)
            super().zero_grad()

    called = []
    model = Mine(network()) if where == "class" else network()
    if where == "object":
        model.zero_grad = lambda: called.append(1)
    fast = compiled(model)
    called.clear()
    fast.zero_grad()
    assert called


def test_gradients_of_parameters_in_a_list_are_set_to_zero():
    class Mine(nn.Sequential):
        pass

    model = Mine(network())
    fast = compiled(model)
    model.others = [nn.Parameter(np.ones(3, np.float32))]
    model.others[0].grad += 1
    fast.zero_grad()
    assert not model.others[0].grad.any()
