"""A network of one's own: every layer is stepped through, and nothing of the network changes."""

import numpy as np
import pytest

from minires import nn
from minires.data.digits import load_digits
from minires.stepper import page, page_data
from minires.stepper.document import to_html
from minires.stepper.network import training_step
from tests.stepper.numbers import Judge, claims, data_of


def network():
    return nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1, rng=0),
        nn.BatchNorm2d(2),
        nn.ReLU(),
        nn.Sequential(nn.BasicBlock(2, 4, 2), nn.Tanh()),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 10, rng=1),
    )


def batch():
    digits = load_digits()
    return digits.x_train[:3], digits.y_train[:3]


def test_each_layer_is_passed_twice_and_the_loss_lies_between():
    told = page_data(network(), *batch())
    titles = [move.title for move in told.tracks[0].moves]
    assert len(titles) == 2 * 7 + 2
    assert [title.split(":")[0] for title in titles[:7]] == [f"Layer {i}" for i in range(7)]
    assert titles[7].startswith("The loss")
    assert [title.split(":")[0] for title in titles[9:]] == [f"Back through layer {i}" for i in range(6, -1, -1)]
    zooms = {move.zoom for move in told.tracks[0].moves}
    assert {"0: Conv2d, forward", "3: Sequential, backward", "loss, forward"} <= zooms
    assert len(to_html(told).encode()) < 1_500_000


def test_every_number_is_the_networks_own():
    model = network().to("cpu")  # which gives the parameters their names
    told = page_data(model, *batch())
    data = data_of(to_html(told))
    judge = Judge(data, told.records, lambda: training_step(model, *batch()))
    steps = [step for track in data["tracks"] for step in track["steps"]]
    checked = {claim: printed for step in steps for claim, printed in claims(data, step)}
    assert not [(claim, printed) for claim, printed in checked.items() if not judge.is_true(claim, printed)]


def test_the_model_stays_as_it_is():
    model = network()
    before = model.state_dict()
    page(model, *batch())
    after = model.state_dict()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert all(not parameter.grad.any() for parameter in model.parameters())


def test_a_single_layer_is_a_network_too():
    told = page_data(nn.Linear(4, 3, rng=0), np.ones((2, 4), np.float32), np.array([0, 2]))
    assert [move.part for move in told.tracks[0].moves] == ["forward", "forward", "backward", "backward"]


def test_what_does_not_fit_is_said():
    x, labels = batch()
    with pytest.raises(ValueError, match="labels is missing"):
        page(network(), x)
    with pytest.raises(TypeError, match="model is int; expected a Layer"):
        page(3, x, labels)
    with pytest.raises(ValueError, match="more than 65,536 numbers"):
        page(nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)), np.zeros((64, 3, 32, 32), np.float32), np.zeros(64, int))


class Doubling(nn.Layer):
    """A layer of one's own, outside of the package: nothing inside it is recorded."""

    def _forward(self, x):
        return 2 * x, None

    def _backward(self, dy, cache):
        return 2 * dy


def test_a_layer_of_ones_own_has_no_inside_to_look_into():
    model = nn.Sequential(Doubling(), nn.Linear(4, 3, rng=0))
    told = page_data(model, np.ones((2, 4), np.float32), np.array([0, 2]))
    first, second = told.tracks[0].moves[:2]
    assert "Look inside" not in first.text and "Look inside" in second.text
    assert first.zoom not in {track.name for track in told.tracks}
    assert data_of(to_html(told))["tracks"][0]["steps"][0]["zoom"] == ""
