"""Layers, blocks and networks: right ones pass, a wrong layer inside is found, and nothing is changed by a check."""

from __future__ import annotations

import numpy as np
import pytest

from minires import init, nn, ops
from minires.gradcheck import check_layer, check_model, identities, wrap
from minires.gradcheck.identities import Recorder

RNG = np.random.default_rng(0)
IMAGES, ROWS = RNG.standard_normal((4, 4, 5, 4)), RNG.standard_normal((5, 6))
LABELS = np.array([1, 0, 3, 7])


class GateFromDy(nn.ReLU):
    def _backward(self, dy, cache):
        return dy * (dy > 0)


class ForgottenShortcut(nn.BasicBlock):
    def _backward(self, dy, cache):
        return super()._backward(dy, cache) - dy


class Overwrites(nn.Linear):
    def _backward(self, dy, cache):
        dx, dweight, dbias = ops.linear_backward(dy, cache)
        self.weight.grad, self.bias.grad = dweight, dbias
        return dx


def network(seed=0):
    model = nn.resnet(depth=8, width=2, rng=seed)
    init.initialize(model, rng=seed)
    return model


LAYERS = {
    "conv": (nn.Conv2d(4, 3, 3, 2, 1, rng=0), IMAGES),
    "batchnorm": (nn.BatchNorm2d(4, eps=0.1), IMAGES),
    "batchnorm eval": (nn.BatchNorm2d(4).eval(), IMAGES),
    "max": (nn.MaxPool2d(3, 2, 1), IMAGES),
    "dropout": (nn.Dropout(0.3, rng=0), ROWS),
    "flatten": (nn.Flatten(), IMAGES),
    "basic": (nn.BasicBlock(4, 8, 2, shortcut="B"), IMAGES),
    "preact": (nn.PreActBlock(4, 8, 2), IMAGES),
}


@pytest.mark.parametrize("name", LAYERS)
def test_right_layers_pass(name):
    layer, x = LAYERS[name]
    report = check_layer(layer, x, max_entries=12)
    assert report.verdict == "pass", str(report)
    assert all(identity.holds for identity in report.identities)


@pytest.mark.parametrize("method", ["central", "complex"])
def test_a_network_passes(method):
    report = check_model(network(), RNG.standard_normal((4, 3, 7, 6)), LABELS, method=method)
    assert report.verdict == "pass", str(report)
    assert len(report.tensors) == 1 + len(network().parameters())
    assert len(report.identities) > 20
    assert "more tensors" in str(report)


def test_checking_leaves_the_model_alone():
    model = network()
    before = model.state_dict()
    check_model(model, RNG.standard_normal((4, 3, 7, 6)), LABELS, max_entries=1, directions=1)
    after = model.state_dict()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert not any(np.any(p.grad) for p in model.parameters()) and model.parameters()[0].value.dtype == np.float32


def test_the_wrong_layer_inside_a_network_is_found_and_named():
    model = network()
    model.layer2.layers[0].relu1 = GateFromDy()
    report = check_model(model, RNG.standard_normal((4, 3, 7, 6)), LABELS)
    assert report.verdict == "fail" and report.fault == "relu:gate-from-dy"
    assert report.diagnosis.startswith("layer layer2.0.relu1, GateFromDy: relu:gate-from-dy")
    assert [i.name for i in report.identities if not i.holds] == ["layer2.0.relu1: <x, dx> = <y, dy>"]
    assert report["dlayer3.0.conv1.weight"].verdict == "pass", "above the fault all is well"


def test_a_block_that_joins_right_layers_wrongly_is_told_apart_from_them():
    report = check_layer(ForgottenShortcut(2, 2), RNG.standard_normal((4, 2, 4, 3)))
    assert report.verdict == "fail"
    assert "each layer inside is right by itself" in report.diagnosis


def test_a_layer_that_overwrites_grad():
    report = check_layer(Overwrites(6, 4, rng=0), ROWS)
    assert report.verdict == "fail" and "added" in report.diagnosis
    assert report["dweight"].verdict == "pass"


# --- numbers that would hide a mistake ----------------------------------------------------------------------------


class ForgetsTheGain(nn.BatchNorm2d):
    def _backward(self, dy, cache):
        return super()._backward(dy / self.weight.value.reshape(1, -1, 1, 1), cache)


class Scale:
    """gamma * tanh(x), as a layer object of somebody's own."""

    def __init__(self, forgets):
        self.gamma, self.forgets = np.ones(6), forgets

    def forward(self, x):
        self.t = np.tanh(x)
        return self.gamma * self.t

    def backward(self, dy):
        self.dgamma = (dy * self.t).sum(axis=0)
        return dy * (1 if self.forgets else self.gamma) * (1 - self.t**2)


def test_gains_of_1_hide_nothing_since_they_are_drawn_anew():
    fresh = nn.BatchNorm2d(4, eps=0.1)
    report = check_layer(fresh, IMAGES)
    assert report.verdict == "pass" and "weight is 1 everywhere" in report.notes[0]
    assert np.all(fresh.weight.value == 1)
    assert check_layer(ForgetsTheGain(4, eps=0.1), IMAGES)["dx"].verdict == "fail"
    inside = nn.Sequential(nn.Conv2d(4, 3, 1, rng=0), ForgetsTheGain(3, eps=0.1), nn.Tanh())
    report = check_layer(inside, IMAGES)
    assert report.verdict == "fail" and report.diagnosis.startswith("layer 1, ForgetsTheGain")


@pytest.mark.parametrize("forgets", [True, False])
def test_gains_of_1_of_a_layer_object_are_drawn_anew(forgets):
    report = check_layer(wrap(Scale(forgets)), ROWS)
    assert report.verdict == ("fail" if forgets else "pass") and "gamma is 1 everywhere" in report.notes[0]


class OddNames:
    """Its bias comes first, its gradients have names that nobody would guess, and its scale is not differentiated."""

    def __init__(self, wrong=1.0):
        self.shift, self.kernel, self.scale = RNG.standard_normal(4), RNG.standard_normal((6, 4)), np.array([0.5])
        self.wrong = wrong

    def forward(self, x):
        self.kept = x
        return (x @ self.kernel + self.shift) * self.scale

    def backward(self, up):
        up = up * self.scale
        self.for_kernel, self.for_shift = self.wrong * self.kept.T @ up, up.sum(axis=0)
        return up @ self.kernel.T


def test_gradients_of_any_name_are_found_by_a_pass():
    report = check_layer(wrap(OddNames()), ROWS)
    assert [row.name for row in report.tensors] == ["dx", "dkernel", "dshift"] and report.verdict == "pass"
    assert any("scale moves y, but its gradient is not checked" in note for note in report.notes)
    report = check_layer(wrap(OddNames(3.0)), ROWS)
    assert report["dkernel"].verdict == "fail" and report.diagnosis.startswith("dkernel is 3 times what it should be")


def test_a_layer_whose_input_hides_a_typical_fault_is_vacuous():
    report = check_layer(nn.ReLU(), np.abs(ROWS))
    assert report.verdict == "vacuous" and "relu:gate-missing" in report.alike
    assert check_layer(nn.Sequential(nn.Linear(6, 4, rng=0), nn.ReLU()), np.abs(ROWS)).verdict == "pass"


def test_whole_numbers_as_a_layers_input():
    with pytest.raises(TypeError, match="holds whole numbers"):
        check_layer(nn.ReLU(), np.arange(6).reshape(2, 3))


def test_a_loss_or_a_function_is_no_layer():
    with pytest.raises(TypeError, match="layer is SoftmaxCrossEntropy; expected a layer"):
        check_layer(nn.SoftmaxCrossEntropy(), ROWS)


def test_a_kink_inside_a_block_is_seen():
    layer = nn.Sequential(nn.Linear(6, 4, rng=0), nn.ReLU())
    layer.layers[0].weight.value[:] = 0
    assert check_layer(layer, ROWS)["d0.weight"].verdict == "kink"


class Hidden(nn.Layer):
    """A ReLU of one's own: its switches cannot be seen, so the kink has to show in the differences."""

    def _forward(self, x):
        return np.maximum(x, 0), x

    def _backward(self, dy, cache):
        return dy * (cache > 0)


def test_a_kink_inside_a_layer_of_ones_own_is_seen_too():
    x = ROWS.copy()
    assert check_layer(Hidden(), x).verdict == "pass"
    x[0, 0] = 0
    assert check_layer(Hidden(), x).verdict == "kink"


# --- identities ----------------------------------------------------------------------------------------------------


def passes_of(model, x):
    recorder = Recorder()
    model.astype(np.float64).zero_grad()
    with model.observe(recorder.see):
        y = model.forward(x)
        model.backward(np.random.default_rng(1).standard_normal(y.shape))
    return [p for p in recorder.in_order() if p.is_leaf]


def test_identities_hold_with_a_large_eps_and_each_notices_its_own_error():
    model = nn.Sequential(nn.Conv2d(4, 3, 3, rng=0, bias=False), nn.BatchNorm2d(3, eps=0.3), nn.ReLU())
    found = identities.of_passes(passes_of(model, IMAGES))
    assert len(found) == 6 and all(i.holds for i in found)
    scale = next(i for i in found if "eps/(var+eps)" in i.name)
    assert abs(scale.right) > 1e-3, "both sides are of order 1, not both 0"


@pytest.mark.parametrize(
    ("spoil", "name"),
    [
        (lambda p: p[0].layer.weight.grad.__imul__(1.001), "<W, dW>"),
        (lambda p: p[0].dx.__imul__(1.001), "<x, dx>"),
        (lambda p: p[1].dx.__iadd__(0.001), "sum of dx = 0"),
        (lambda p: p[1].dx.__iadd__(0.001 * (p[1].x - p[1].x.mean((0, 2, 3), keepdims=True))), "sum of dx xhat"),
        (lambda p: p[1].layer.weight.grad.__imul__(1.001), "eps/(var+eps)"),
        (lambda p: p[2].dx.__imul__(1.001), "2: <x, dx> = <y, dy>"),
    ],
)
def test_a_spoiled_gradient_breaks_its_identity(spoil, name):
    model = nn.Sequential(nn.Conv2d(4, 3, 3, rng=0, bias=False), nn.BatchNorm2d(3, eps=0.3), nn.ReLU())
    passes = passes_of(model, IMAGES)
    spoil(passes)
    assert any(name in i.name for i in identities.of_passes(passes) if not i.holds)
