"""An op that is edited always has its effect: `compile` notices it, or the compiled model runs the edited op.

Each function of `minires.ops` that the networks of `tests/nn/test_definition.py` use is spoiled in place, as an editor
would, one result at a time: by a factor of 1.01, by a NaN at one entry, by an error.
"""

import copy
import types
from functools import cache

import numpy as np
import pytest

import minires
from minires import nn, ops
from tests.nn.test_definition import IMAGES, OPS, Spoiled, network_of


def scale(array):
    return array * 1.01


def one_nan(array):
    array = np.array(array)
    array[np.unravel_index(array.size // 2, array.shape)] = np.nan
    return array


def error(array):
    raise Spoiled


def results_of(name):
    """The positions of the arrays that an op may return; what follows y is a cache."""
    return range(3) if name.endswith("_backward") else range(1)


def spoil(monkeypatch, function, position, change):
    """Changes one result of the function, wherever it is called from -> a list that grows with each change."""
    original = types.FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__)
    original.__kwdefaults__ = function.__kwdefaults__

    def changed(*args, **options):
        return _spoiled(*args, **options)  # noqa: F821 - code without variables of its own, which `op.__code__` may be

    def spoiled(*args, **options):
        result = original(*args, **options)
        found = [*result] if isinstance(result, tuple) else [result]
        if position < len(found) and found[position] is not None:
            changed_any.append(position)
            found[position] = change(found[position])
        return tuple(found) if isinstance(result, tuple) else found[0]

    changed_any = []
    monkeypatch.setitem(function.__globals__, "_spoiled", spoiled)
    monkeypatch.setattr(function, "__code__", changed.__code__)
    if function.__kwdefaults__:
        monkeypatch.setattr(function, "__kwdefaults__", None)
    return changed_any


def step(network, loss):
    """All that a compiled step gives: logits, loss and gradients."""
    fast, head = minires.compile(copy.deepcopy(network), threads=2), loss()
    logits = fast.forward(IMAGES)
    value = head.forward(logits, np.zeros_like(logits) if loss is nn.MeanSquaredError else np.arange(4))
    dx = fast.backward(head.backward())
    return [logits, value, dx, *(p.grad for p in fast.parameters())]


def spoiled_networks(name):
    network, loss = network_of(name)
    network = copy.deepcopy(network)
    for parameter in network.parameters():  # a bias whose gradient nobody looks at would hide a mutant
        parameter.value = parameter.value + 0.1
    return network, loss


@cache
def unspoiled(name):
    """What the step of an op's network gives by itself: the same for every change of the op."""
    return step(*spoiled_networks(name))


@pytest.mark.parametrize("change", [scale, one_nan, error])
@pytest.mark.parametrize("name", OPS)
def test_a_spoiled_op_is_noticed_or_run(monkeypatch, name, change):
    network, loss = spoiled_networks(name)
    expected = unspoiled(name)
    with np.errstate(all="ignore"):
        for position in results_of(name):
            if position == 2 and name == "conv2d_backward":
                network.conv1 = nn.Conv2d(3, 4, 3, padding=1, rng=0)  # with a bias
                expected = step(network, loss)
            with monkeypatch.context() as patch:
                changed = spoil(patch, getattr(ops, name), position, change)
                try:
                    found = step(network, loss)
                except Spoiled:
                    continue
                except ValueError as refusal:
                    assert "differs from the definition's" in str(refusal)
                    continue
            same = all(np.allclose(a, b, rtol=1e-4, atol=1e-7) for a, b in zip(expected, found, strict=True))
            assert not same or (position > 0 and not changed), (name, position)


@pytest.mark.parametrize("name", ["relu_backward", "batchnorm_forward", "conv2d_backward"])
def test_an_op_that_is_edited_after_compile_is_noticed_at_the_next_pass(monkeypatch, name):
    network, _ = spoiled_networks(name)
    fast = minires.compile(network, threads=2)
    fast.step(IMAGES, np.arange(4))
    with monkeypatch.context() as patch:
        spoil(patch, getattr(ops, name), results_of(name)[0], scale)
        with pytest.raises(ValueError, match=r"differs from the definition's by"):
            fast.step(IMAGES, np.arange(4))
    fast.step(IMAGES, np.arange(4))


@pytest.mark.parametrize(
    ("method", "kind"),
    [("_forward", nn.BasicBlock), ("_backward", nn.Sequential), ("_backward", nn.Conv2d), ("_forward", nn.BatchNorm2d)],
)
def test_a_layer_that_is_edited_is_noticed_or_run(monkeypatch, method, kind):
    network = nn.resnet(8, width=4)
    expected = step(network, nn.SoftmaxCrossEntropy)
    function = getattr(kind, method)
    spoil(monkeypatch, function, 0, scale)
    try:
        found = step(network, nn.SoftmaxCrossEntropy)
    except ValueError as refusal:
        assert "differs from the definition's" in str(refusal)
    else:
        assert not all(np.allclose(a, b, rtol=1e-4) for a, b in zip(expected, found, strict=True))


def test_the_message_says_which_layer_which_pass_and_by_how_much(monkeypatch):
    spoil(monkeypatch, ops.batchnorm_backward, 1, scale)
    expected = r"^bn1 \(BatchNorm2d\), backward in training: .* gradient of weight differs .* by 0\.0099 of"
    with pytest.raises(ValueError, match=expected):
        minires.compile(nn.resnet(8, width=4))
