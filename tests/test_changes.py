"""What is compared by identity notices each kind of change, and none where there is none."""

import copy
import types

import numpy as np
import pytest

from minires import nn
from minires.changes import CodeAsItWas, ModelAsItWas


def network():
    return nn.resnet(8, width=4, in_channels=1)


def test_a_step_of_training_changes_nothing():
    model = network()
    before = ModelAsItWas(model)
    model.backward(model.forward(np.ones((2, 1, 9, 9), np.float32)))
    model.infer(np.ones((3, 1, 9, 9), np.float32))
    for parameter in model.parameters():
        parameter.value = parameter.value - parameter.grad
    model.zero_grad()
    model.load_state_dict(network().state_dict())
    assert before.holds()


CHANGES = {
    "a setting": lambda model: setattr(model.bn1, "eps", 0.5),
    "a setting of a class's own": lambda model: setattr(model.conv1, "note", "new"),
    "a layer": lambda model: setattr(model, "relu", nn.ReLU()),
    "two layers that change places": lambda model: vars(model).update(layer1=model.layer2, layer2=model.layer1),
    "a parameter": lambda model: setattr(model.linear, "weight", nn.Parameter(model.linear.weight.value)),
    "the shape of a value": lambda model: setattr(model.linear.weight, "value", np.ones((3, 3), np.float32)),
    "dtype": lambda model: model.astype("float64"),
    "mode": lambda model: model.layer1.eval(),
    "a method": lambda model: setattr(model.relu, "_forward", lambda x: (x, x)),
    "a class": lambda model: setattr(model.relu, "__class__", nn.Tanh),
    "an observer": lambda model: model.observe(lambda *about: None).__enter__(),
    "a list, whose inside is unknown": lambda model: setattr(model, "more", [nn.ReLU()]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_the_model_is_noticed(change):
    model = network()
    before = ModelAsItWas(model)
    CHANGES[change](model)
    assert not before.holds()


@pytest.mark.parametrize("hidden", [[nn.ReLU()], {"a": nn.ReLU()}, ([nn.ReLU()],), (((),),)], ids=str)
def test_where_layers_may_lie_in_a_list_nothing_holds(hidden):
    model = network()
    model.more = hidden
    assert not ModelAsItWas(model).holds()


@pytest.fixture
def module(monkeypatch):
    module = types.ModuleType("for_this_test")
    exec("LIMIT = 3\ndef f(x): return x\nclass A:\n    size = 2\n    def g(self): return 1", vars(module))
    monkeypatch.setitem(__import__("sys").modules, "for_this_test", module)
    return module


class Kind(nn.ReLU):
    factor = 2


EDITS = {
    "a constant": lambda module: setattr(module, "LIMIT", 4),
    "a function": lambda module: setattr(module, "f", lambda x: x),
    "the code of a function": lambda module: setattr(module.f, "__code__", (lambda x: x + 1).__code__),
    "the code of a method": lambda module: setattr(module.A.g, "__code__", (lambda self: 2).__code__),
    "a class's attribute": lambda module: setattr(module.A, "size", 3),
    "something new": lambda module: setattr(module, "g", 1),
    "a further class": lambda module: setattr(Kind, "factor", object()),
}


def test_copying_an_object_changes_no_code(module):
    before = CodeAsItWas(("for_this_test",), [Kind])
    copy.deepcopy(module.A()), copy.copy(Kind())
    assert before.holds()


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_of_the_code_is_noticed(module, edit):
    before = CodeAsItWas(("for_this_test",), [Kind])
    assert before.holds()
    EDITS[edit](module)
    assert not before.holds()
