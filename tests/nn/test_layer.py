"""What every layer keeps to: one backward for one forward, gradients that add up, names, state, observers."""

import collections
import dataclasses
import types

import numpy as np
import pytest

from minires import nn
from tests.nn.cases import CASES
from tests.refusals import refused

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
LOSSES = {
    nn.SoftmaxCrossEntropy: (np.ones((4, 3)), np.array([0, 1, 2, 0])),
    nn.MeanSquaredError: (np.ones((4, 3)), np.zeros((4, 3))),
}


def dy_for(y, seed=1):
    return np.random.default_rng(seed).standard_normal(y.shape).astype(y.dtype)


@every_case
def test_inputs_are_never_modified_and_may_be_read_only(case):
    layer, x = case.layer(), case.input()
    x.flags.writeable = False
    kept = x.tobytes()
    y = layer.forward(x)
    dy = dy_for(y)
    dy.flags.writeable = False
    kept_dy, kept_y = dy.tobytes(), y.tobytes()
    layer.backward(dy)
    assert x.tobytes() == kept and dy.tobytes() == kept_dy and y.tobytes() == kept_y


@every_case
def test_output_shape_is_the_real_shape(case):
    layer = case.make()
    assert layer.output_shape(case.shape) == case.layer().forward(case.input()).shape


SHAPES = [(4,), (4, 3), (4, 8), (4, 3, 5), (4, 3, 1, 1), (4, 2, 7, 5), (4, 3, 2, 9), (4, 8, 3, 3), (4, 3, 5, 6, 1)]


@every_case
def test_output_shape_refuses_what_forward_refuses(case):
    for shape in SHAPES:
        try:
            expected = case.layer().forward(np.ones(shape)).shape
        except ValueError:
            with pytest.raises(ValueError, match="expected"):
                case.make().output_shape(shape)
        else:
            assert case.make().output_shape(shape) == expected


@every_case
def test_backward_gives_back_the_shape_of_x(case):
    layer = case.layer()
    dx = layer.backward(dy_for(layer.forward(case.input())))
    assert dx.shape == case.shape
    assert all(p.grad.shape == p.value.shape for p in layer.parameters())


@every_case
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
def test_the_dtype_follows(case, dtype):
    layer = case.layer(dtype)
    y = layer.forward(case.input(dtype))
    dx = layer.backward(dy_for(y))
    assert y.dtype == dx.dtype == dtype
    assert all(p.grad.dtype == p.value.dtype == dtype for p in layer.parameters())
    assert all(array.dtype == dtype for array in layer.state_dict().values())


@every_case
def test_backward_before_forward_is_refused(case):
    layer = case.layer()
    with refused(ValueError, "backward", "has not been called"):
        layer.backward(np.ones(layer.output_shape(case.shape)))


@every_case
def test_a_second_backward_is_refused(case):
    layer = case.layer()
    dy = dy_for(layer.forward(case.input()))
    layer.backward(dy)
    gradients = [p.grad.copy() for p in layer.parameters()]
    with refused(ValueError, "backward", "used it up"):
        layer.backward(dy)
    assert all(np.array_equal(p.grad, g) for p, g in zip(layer.parameters(), gradients, strict=True))


@every_case
def test_gradients_add_up_until_zero_grad(case):
    layer = case.layer()
    for repeat in range(2):
        for _, sub in layer.named_layers():
            if isinstance(sub, nn.Dropout):
                sub.rng = np.random.default_rng(0)
        layer.backward(dy_for(layer.forward(case.input())))
        if repeat == 0:
            once = [p.grad.copy() for p in layer.parameters()]
    for p, g in zip(layer.parameters(), once, strict=True):
        np.testing.assert_allclose(p.grad, 2 * g, rtol=1e-12)
    layer.zero_grad()
    assert all(not p.grad.any() for p in layer.parameters())


@every_case
def test_another_dtype_than_the_layers_is_refused(case):
    layer = case.layer("float32")
    if layer.parameters():
        with refused(TypeError, "weight", "float32"):
            layer.forward(case.input("float64"))


@every_case
def test_a_dy_of_another_shape_is_refused_and_the_right_one_still_works(case):
    """Of all layers with an op of their own; an identity has nothing to compare with."""
    if case.name in ("Identity", "Dropout in evaluation"):
        return
    layer = case.layer()
    dy = dy_for(layer.forward(case.input()))
    with refused(ValueError, "dy", str((1, *dy.shape))):
        layer.backward(dy[None])
    assert layer.backward(dy).shape == case.shape


# --- names and state -------------------------------------------------------------------------------------------------


@every_case
def test_state_round_trip(case):
    """Another layer with the same state computes the same, bit for bit."""
    layer, other = case.layer(), case.make().train(case.training).astype("float64")
    state = layer.state_dict()
    other.load_state_dict(state)
    assert list(other.state_dict()) == list(state)
    for sub in (layer, other):
        for _, dropout in sub.named_layers():
            if isinstance(dropout, nn.Dropout):
                dropout.rng = np.random.default_rng(0)
    assert np.array_equal(layer.forward(case.input()), other.forward(case.input()))


def test_state_is_a_copy_both_ways():
    layer = nn.BatchNorm2d(3)
    state = layer.state_dict()
    layer.load_state_dict(state)
    state["weight"][...] = 7
    state["running_mean"][...] = 7
    assert np.array_equal(layer.weight.value, [1, 1, 1]) and not layer.running_mean.any()
    layer.forward(np.random.default_rng(0).standard_normal((4, 3, 5, 5)).astype("float32"))
    assert np.array_equal(layer.state_dict()["weight"], [1, 1, 1])


def test_state_that_does_not_fit_is_refused_and_nothing_is_loaded():
    model = nn.Sequential(nn.Linear(4, 3, rng=0), nn.Linear(3, 2, rng=1))
    before = model.state_dict()
    wrong = {name: np.zeros_like(array) for name, array in before.items()}
    with refused(ValueError, "1.bias", "missing"):
        model.load_state_dict({name: array for name, array in wrong.items() if name != "1.bias"})
    with refused(ValueError, "2.bias", "unexpected"):
        model.load_state_dict(wrong | {"2.bias": np.zeros(2)})
    with refused(ValueError, "1.weight", "(3, 2)"):
        model.load_state_dict(wrong | {"1.weight": np.zeros((3, 2))})
    after = model.state_dict()
    assert all(np.array_equal(after[name], before[name]) for name in before)


def test_parameters_know_their_path_from_the_layer_asked():
    model = nn.Sequential(nn.Sequential(nn.Linear(4, 3)), nn.BatchNorm2d(3))
    assert [p.name for p in model.parameters()] == ["0.0.weight", "0.0.bias", "1.weight", "1.bias"]
    assert [p.name for p in model.layers[0].parameters()] == ["0.weight", "0.bias"]
    assert [path for path, _ in model.named_layers()] == ["", "0", "0.0", "1"]
    assert list(model.state_dict()) == [
        "0.0.weight",
        "0.0.bias",
        "1.weight",
        "1.bias",
        "1.running_mean",
        "1.running_var",
    ]


def test_train_and_eval_reach_the_whole_tree_and_return_the_layer():
    model = nn.Sequential(nn.Sequential(nn.Dropout(0.5)), nn.BatchNorm2d(3))
    assert model.eval() is model and not any(layer.training for _, layer in model.named_layers())
    assert model.train() is model and all(layer.training for _, layer in model.named_layers())


def test_astype_forgets_forward_passes():
    """A cache in the old dtype must not meet gradients in the new one."""
    layer = nn.Linear(4, 3, rng=0)
    layer.forward(np.ones((5, 4), "float32"))
    assert layer.astype("float64") is layer
    with refused(ValueError, "backward", "has not been called"):
        layer.backward(np.ones((5, 3)))


@pytest.mark.parametrize("dtype", ["float16", "int64"])
def test_other_dtypes_are_refused(dtype):
    with refused(TypeError, "dtype", dtype):
        nn.Linear(4, 3).astype(dtype)


def test_unknown_devices_are_refused():
    with refused(ValueError, "device", "'tpu'"):
        nn.Linear(4, 3).to("tpu")


def test_to_cpu_changes_nothing():
    layer = nn.Linear(4, 3, rng=0)
    before = layer.weight.value
    assert layer.to("cpu") is layer and np.array_equal(layer.weight.value, before)


# --- observers -------------------------------------------------------------------------------------------------------


def test_observers_see_every_pass_of_every_layer_inside_the_block_alone():
    model = nn.Sequential(nn.Linear(4, 3, rng=0), nn.Sequential(nn.ReLU(), nn.Linear(3, 2, rng=1)))
    seen = []
    x = np.ones((5, 4), "float32")
    with model.observe(lambda *call: seen.append(call)):
        y = model.forward(x)
        dx = model.backward(np.ones((5, 2), "float32"))
    model.forward(x)
    assert [(path, direction) for _, path, direction, _, _ in seen] == [
        *((path, "forward") for path in ("0", "1.0", "1.1", "1", "")),
        *((path, "backward") for path in ("1.1", "1.0", "1", "0", "")),
    ]
    by_call = {(path, direction): (layer, before, after) for layer, path, direction, before, after in seen}
    assert by_call["", "forward"][1] is x and by_call["", "forward"][2] is y
    assert by_call["", "backward"][2] is dx
    assert by_call["0", "forward"][0] is model.layers[0]


def test_observers_leave_after_an_error():
    model = nn.Sequential(nn.Linear(4, 3, rng=0))
    seen = []
    with pytest.raises(RuntimeError, match="stop"), model.observe(lambda *call: seen.append(call)):
        raise RuntimeError("stop")
    model.forward(np.ones((5, 4), "float32"))
    assert not seen


def test_observers_may_come_and_go_in_any_order():
    model, first, second = nn.Sequential(nn.Linear(4, 3, rng=0)), [], []
    one, two = (model.observe(lambda *call, seen=seen: seen.append(call)) for seen in (first, second))
    one.__enter__()
    two.__enter__()
    one.__exit__(None, None, None)
    model.forward(np.ones((5, 4), "float32"))
    two.__exit__(None, None, None)
    model.forward(np.ones((5, 4), "float32"))
    assert (len(first), len(second)) == (0, 2)


class OthersLayer:
    """As PyTorch's: callable with whatever it is given."""

    def forward(self, x):
        return x

    def __call__(self, *arguments, **options):
        return self.forward(*arguments, **options)


@pytest.mark.parametrize("observer", [None, nn.ReLU(), nn.ReLU, lambda x, y: None, "print", OthersLayer()])
def test_an_observer_that_cannot_be_called_is_refused(observer):
    with refused(TypeError, "observer", "(layer, path, direction, x, y)"), nn.ReLU().observe(observer):
        pass


# --- losses ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
def test_a_loss_goes_back_once(loss):
    head = loss()
    with refused(ValueError, "backward", loss.__name__):
        head.backward()
    value = head.forward(*LOSSES[loss])
    assert value.shape == ()
    assert head.backward().shape == (4, 3)
    with refused(ValueError, "backward", loss.__name__):
        head.backward()


# --- print -----------------------------------------------------------------------------------------------------------


def test_a_shape_of_floats_is_refused_and_does_no_harm():
    """8.0 == 8: what is remembered about windows must not take one for the other."""
    for layer in (nn.Conv2d(3, 4, 3), nn.MaxPool2d(2)):
        with pytest.raises(TypeError):
            layer.output_shape((1, 3, 9.0, 17.0))
        assert layer.forward(np.ones((1, 3, 9, 17), "float32")).ndim == 4


def test_print_shows_layers_output_shapes_and_parameters():
    text = str(nn.resnet20())
    for expected in (
        "layer1.0.conv1",
        "Conv2d(3, 16, 3, padding=1, bias=False)",
        "16 x 32 x 32",
        "64 x 8 x 8",
        "432",
        "650",
        "269,722",
    ):
        assert expected in text, expected
    assert max(map(len, text.splitlines())) <= 110


@every_case
def test_everything_can_be_printed(case):
    layer = case.make()
    assert type(layer).__name__ in f"{layer!r} {layer}" or isinstance(layer, nn.ResNet)


def test_infer_gives_what_forward_gives_and_keeps_nothing():
    model = nn.resnet(8, width=4, rng=1).eval()
    x = np.random.default_rng(0).standard_normal((4, 3, 9, 7)).astype(np.float32)
    y = model.forward(x)
    assert np.array_equal(model.infer(x), y)
    with pytest.raises(ValueError, match="forward"):
        model.backward(y)
    model.forward(x)
    model.backward(y)  # and the next forward remembers again


def test_layers_and_parameters_are_found_however_deep_they_lie():
    class Net(nn.Layer):
        def __init__(self):
            self.stages = [[nn.Linear(2, 2), nn.Linear(2, 2)], {"a": (nn.Linear(2, 2),)}]
            self.scales = [nn.Parameter(np.ones(1, np.float32)), {"b": nn.Parameter(np.ones(1, np.float32))}]

    net = Net()
    assert [path for path, _ in net.named_layers()] == ["", "stages.0.0", "stages.0.1", "stages.1.a.0"]
    assert len(net.parameters()) == 8 and "scales.1.b" in net.state_dict()
    net.load_state_dict({name: array + 1 for name, array in net.state_dict().items()})
    assert net.scales[0].value == 2


def holding(value):
    """A layer that keeps `value` in the attribute `parts`."""
    layer = nn.Layer()
    layer.parts = value
    return layer


@pytest.mark.parametrize("use", ["state_dict", "parameters", "zero_grad"])
@pytest.mark.parametrize(
    "parts",
    [{"0": nn.Linear(2, 2), 0: nn.Linear(2, 2)}, {"a.b": nn.Linear(2, 2), "a": {"b": nn.Linear(2, 2)}}],
    ids=["a number and its text", "a dot and a dictionary"],
)
def test_two_parameters_of_one_name_are_refused(parts, use):
    with refused(ValueError, "weight", "the name of two parameters"):
        getattr(holding(parts), use)()


@dataclasses.dataclass
class Parts:
    first: nn.Layer


@pytest.mark.parametrize(
    "kind",
    [
        lambda layer: {layer},
        lambda layer: collections.deque([layer]),
        lambda layer: types.MappingProxyType({"a": layer}),
        lambda layer: np.array([layer, None], dtype=object),
        lambda layer: [{layer.weight}],
        Parts,
    ],
)
def test_layers_where_nobody_looks_are_refused(kind):
    layer = holding(kind(nn.Linear(2, 2)))
    for use in (layer.parameters, layer.state_dict, layer.train):
        with refused(TypeError, "parts" if not isinstance(layer.parts, list) else "parts.0", "with layers in it"):
            use()
    assert holding({3, "a"}).parameters() == []


def test_a_shared_parameter_has_one_value():
    tied = nn.Sequential(nn.Linear(3, 3, rng=0), nn.Linear(3, 3, rng=1))
    tied.layers[1].weight = tied.layers[0].weight
    state = tied.state_dict()
    tied.load_state_dict({name: array + 1 for name, array in state.items()})
    with refused(ValueError, "state", "0.weight and 1.weight are one parameter"):
        tied.load_state_dict({**state, "1.weight": state["1.weight"] + 1})
    assert np.array_equal(tied.layers[0].weight.value, state["0.weight"] + 1)
