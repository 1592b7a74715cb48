"""What is foretold of a network is what comes."""

import numpy as np
import pytest

from minires import comparison, init, nn, optim
from minires.data import load_digits
from minires.theory import predict, tangent_kernel
from minires.theory.forecast import ALIKE, departure, forecast, one_channel_lives
from minires.train import fit

SHAPE = (64, 1, 8, 8)
STARTS = {
    "zero": init.Zeros(),
    "normal:0.01": init.Normal(0.01),
    "normal:1": init.Normal(1.0),
    "xavier": init.XavierNormal(),
    "he": init.HeNormal(),
}


def network(name, law, seed=1):
    model = comparison.build(comparison.Case(name, "", law))
    init.initialize(model, law, rng=seed)
    return model


def measured(model):
    split = load_digits()
    with np.errstate(all="ignore"):
        return comparison.measure(model, split.x_train[:64], split.y_train[:64])[0]


@pytest.mark.parametrize("name", comparison.NETWORKS)
@pytest.mark.parametrize("law", STARTS.values(), ids=STARTS)
def test_the_fate_of_one_network(name, law):
    """Digits: the same fate; with BatchNorm, which leaves little to chance, every layer's rms within a factor of 2."""
    foreseen, signal = forecast(network(name, law), SHAPE), measured(network(name, law))
    assert foreseen.verdict.partition(" by layer ")[0] == str(signal).partition(" by layer ")[0]
    assert [path for path, _ in foreseen.activations] == list(signal.activations)
    if "BatchNorm" in name and foreseen.verdict == "steady":
        for foretold, found in ((foreseen.activations, signal.activations), (foreseen.gradients, signal.gradients)):
            ratio = np.array(list(found.values())) / [rms for _, rms in foretold]
            assert np.all(abs(np.log(ratio)) < np.log(2)), ratio


@pytest.mark.parametrize("name", ["plain", "residual"])
def test_networks_without_batchnorm_on_average(name):
    """He, nine networks. log rms of one is normal with variance (5/4) sum 1/width = 0.9 and mean -0.9 (sum over 19
    layers of width 16, 32, 64: 0.72), so the mean of nine lies within 0.9 + 3.7 * 0.32 = log 8 but once in 10,000."""
    logs = []
    for seed in range(9):
        model = network(name, init.HeNormal(), seed)
        foreseen = [rms for _, rms in forecast(model, SHAPE).activations]
        logs.append(np.log(list(measured(model).activations.values())) - np.log(foreseen))
    assert np.all(abs(np.mean(logs, axis=0)) < np.log(8))


def test_constant_weights_have_a_fate_of_their_own():
    assert forecast(network("plain", init.Constant(0.01)), SHAPE).verdict == ALIKE


@pytest.mark.parametrize("shortcut", [None, "B"])
@pytest.mark.parametrize("batchnorm", [False, True])
@pytest.mark.parametrize("block", [nn.BasicBlock, nn.PreActBlock])
def test_dirac_leaves_one_channel_alive_through_training(shortcut, batchnorm, block):
    """At a rate that moves what can move, no number that leads into another channel changes."""
    options = {"block": block, "width": 4, "in_channels": 1, "shortcut": shortcut, "batchnorm": batchnorm}
    model = nn.resnet(8, weight_init=init.Dirac(), **options)
    assert one_channel_lives(model)
    data, before = load_digits(), model.state_dict()
    fit(model, (data.x_train[:128], data.y_train[:128]), epochs=1, batch_size=32, optimizer=optim.SGD(model, lr=0.1))
    assert np.any(model.linear.weight.value != before["linear.weight"])
    for name, parameter in model.named_parameters():
        part = np.s_[:, 1:] if name == "linear.weight" else np.s_[1:]
        if name != "linear.bias":
            np.testing.assert_array_equal(parameter.value[part], before[name][part], err_msg=name)


def test_where_more_than_one_channel_may_live():
    dirac = {"weight_init": init.Dirac(), "width": 8}
    moved = nn.resnet(8, in_channels=1, **dirac)  # by shortcut A
    dirac["shortcut"] = None
    raised = nn.resnet(8, in_channels=1, **dirac)
    raised.bn1.bias.value[3] = 0.1
    colors = nn.resnet(8, in_channels=3, **dirac)
    through = nn.resnet(8, in_channels=1, activation=nn.Tanh, **dirac)
    crossed = nn.resnet(8, in_channels=1, **dirac)
    crossed.layer1.layers[0].conv1.weight.value[2, 0, 1, 1] = 0.1
    others = [nn.resnet(8, in_channels=1, **dirac | {"weight_init": law}) for law in (init.Zeros(), init.HeNormal())]
    for model in (moved, raised, colors, through, crossed, *others):
        assert not one_channel_lives(model)


def test_a_forecast_runs_nothing():
    model = network("residual + BatchNorm", init.HeNormal())
    before = model.state_dict()
    with model.observe(lambda *_: pytest.fail("a layer was run")):
        forecast(model, SHAPE)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_layers_are_counted_from_one_at_the_input():
    assert forecast(network("plain", init.Zeros()), SHAPE).verdict == "dies by layer 1"
    layers = []
    for _ in range(8):
        layers += [nn.Linear(64, 64, weight_init=init.XavierNormal()), nn.Sigmoid()]
    foreseen = forecast(nn.Sequential(*layers, nn.Linear(64, 10)), (32, 64))
    rms = np.array([value for _, value in foreseen.gradients])
    first = np.flatnonzero(rms <= 1e-3 * rms[-1])[-1] + 1  # seen from the top, the first that is gone
    assert foreseen.verdict == f"gradient dies by layer {first}"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 0.1, 2e-3], None),
        ([1, 0.1, 1e-3, 1e-9], ("dies", 2)),
        ([1, 50, 5e3], ("explodes", 2)),
        ([0.0], ("dies", 0)),
    ],
)
def test_departure(values, expected):
    assert departure(values, 1.0) == expected


@pytest.mark.parametrize("norm", [nn.LayerNorm((8, 4, 4)), nn.GroupNorm(2, 8)], ids=["LayerNorm", "GroupNorm"])
def test_a_layer_without_a_law_has_no_forecast(norm):
    model, shape = nn.Sequential(nn.Conv2d(3, 8, 1), norm, nn.ReLU(), nn.Flatten(), nn.Linear(128, 10)), (8, 3, 4, 4)
    assert forecast(model, shape).verdict.startswith(f"no forecast: no law for {type(norm).__name__}, which divides")
    assert tangent_kernel(model, predict(model, shape)) is None
