"""What is read is what runs: an op that is edited has its effect everywhere, and a debugger meets mathematics."""

import ast
import inspect
import sys
import textwrap
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import minires
from minires import nn, ops

PACKAGE = Path(minires.__file__).parent
OPS = sorted(
    name
    for name, op in vars(ops).items()
    if inspect.isfunction(op) and name.endswith(("_forward", "_backward", "col", "im"))
)


class Spoiled(Exception):
    pass


def spoil(monkeypatch, function):
    """Puts an error in place of the function's body, as an editor would: every reference to it meets the new body."""

    def error(*args, **options):
        raise Spoiled(args)

    monkeypatch.setattr(function, "__code__", error.__code__.replace(co_name=function.__name__))
    monkeypatch.setitem(function.__globals__, "Spoiled", Spoiled)
    if function.__kwdefaults__:
        monkeypatch.setattr(function, "__kwdefaults__", None)


class Softmax(nn.Layer):
    """A layer of somebody's own, as a user writes one."""

    def _forward(self, x):
        return ops.softmax_forward(x)

    def _backward(self, dy, cache):
        return ops.softmax_backward(dy, cache)


IMAGES = np.random.default_rng(0).standard_normal((4, 3, 8, 8)).astype("float32")
RESNET = nn.resnet(8, width=4)
NETWORKS = {
    **dict.fromkeys(("conv2d", "im", "batchnorm", "relu", "linear", "global_avg_pool2d"), RESNET),
    "leaky_relu": nn.resnet(8, width=4, activation=nn.LeakyReLU),
    "tanh": nn.resnet(8, width=4, activation=nn.Tanh),
    "sigmoid": nn.resnet(8, width=4, activation=nn.Sigmoid),
    "max_pool2d": nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 10)),
    "avg_pool2d": nn.Sequential(nn.Conv2d(3, 4, 3), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(36, 10)),
    "layernorm": nn.Sequential(nn.Flatten(), nn.LayerNorm(192), nn.Linear(192, 10)),
    "groupnorm": nn.Sequential(nn.GroupNorm(3, 3), nn.Flatten(), nn.Linear(192, 10)),
    "softmax": nn.Sequential(nn.Flatten(), nn.Linear(192, 10), Softmax()),
    "dropout": nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(192, 10)),
    "softmax_cross_entropy": RESNET,
    "mse": RESNET,
}


def one_step(network, loss=nn.SoftmaxCrossEntropy):
    head = loss()
    logits = network.forward(IMAGES)
    target = np.zeros_like(logits) if loss is nn.MeanSquaredError else np.arange(4)
    head.forward(logits, target)
    network.zero_grad()
    network.backward(head.backward())


def network_of(name):
    """The network that uses an op, and the loss it is trained with."""
    if name in ("im2col", "col2im"):
        return RESNET, nn.SoftmaxCrossEntropy
    kind = name.rpartition("_")[0]
    return NETWORKS[kind], nn.MeanSquaredError if kind == "mse" else nn.SoftmaxCrossEntropy


@pytest.mark.parametrize("name", OPS)
def test_an_op_without_its_body_fails_every_network_that_should_use_it(monkeypatch, name):
    network, loss = network_of(name)
    one_step(network, loss)
    spoil(monkeypatch, getattr(ops, name))
    with pytest.raises(Spoiled):
        one_step(network, loss)


def test_there_are_all_28_functions_of_the_contract():
    assert len(OPS) >= 28 and {"im2col", "col2im", "conv2d_forward", "mse_backward"} <= set(OPS)


def lines_stepped(call):
    """(lines that a debugger steps through inside minires, the files they are in)."""
    files = Counter()

    def trace(frame, event, argument):
        path = Path(frame.f_code.co_filename)
        if PACKAGE not in path.parents:
            return None
        if event == "line":
            files[path.relative_to(PACKAGE)] += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        result = call()
    finally:
        sys.settrace(before)
    return result, sum(files.values()), files


def test_a_debugger_steps_through_a_residual_block_in_a_sitting():
    block = nn.BasicBlock(16, 16)
    x = np.random.default_rng(0).standard_normal((64, 16, 32, 32)).astype("float32")
    threads = {*threading.enumerate()}
    y, forward, files = lines_stepped(lambda: block.forward(x))
    assert forward <= 450 and len(files) <= 9, files
    _, backward, files = lines_stepped(lambda: block.backward(y))
    assert backward <= 400 and len(files) <= 9, files
    assert {*threading.enumerate()} <= threads  # those of other tests may end meanwhile


FORBIDDEN = ("thread", "scratch", "fast", "lru_cache", "settrace")


@pytest.mark.parametrize("path", sorted((*PACKAGE.glob("ops/*.py"), *PACKAGE.glob("nn/*.py"))), ids=lambda p: p.name)
def test_nothing_in_the_definition_is_there_for_speed_alone(path):
    """No name in the code of ops/ and nn/ belongs to the machinery of speed. (Prose may speak of it.)"""
    names = {node.id for node in ast.walk(ast.parse(textwrap.dedent(path.read_text()))) if isinstance(node, ast.Name)}
    assert not [name for name in names if any(word in name for word in FORBIDDEN)]
