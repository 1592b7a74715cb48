"""An engine broken in one place makes the tutorial about that place fail. (As it is, they pass: test_tutorials.py.)"""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from minires import gradcheck, init, nn, ops, optim
from minires.gradcheck import numerical
from minires.nn.residual import ResidualBlock
from minires.threads import ThreadGroup
from minires.tutorial import folder
from tests.tutorials.running import SLOW

GOOD = {name: getattr(ops, name) for name in dir(ops) if callable(getattr(ops, name))}


def no_mean(dy, cache):
    dx, dweight, dbias = GOOD["batchnorm_backward"](dy, cache)
    axes = tuple(axis for axis in range(dy.ndim) if axis != 1)
    scale = (cache.weight * cache.inv).reshape(1, -1, *[1] * (dy.ndim - 2))
    return dx + scale * dy.mean(axis=axes, keepdims=True), dweight, dbias


def no_statistics(dy, cache):
    return GOOD["batchnorm_backward"](dy, cache._replace(trained=False))


def unbiased(x, weight, bias, **options):
    y, cache = GOOD["batchnorm_forward"](x, weight, bias, **options)
    m = x.size // x.shape[1]
    return (y * ((m - 1) / m) ** 0.5, cache) if cache.trained else (y, cache)


def without_shortcut(self, dy, cache):
    dx = getattr(self, self.after_sum).backward(dy) if self.after_sum else dy
    for name in reversed(self.branch):
        dx = getattr(self, name).backward(dx)
    return dx


def edges_repeated(x, weight, bias=None, *, padding=0, **options):
    around = (padding, padding) if isinstance(padding, int) else padding
    x = np.pad(x, ((0, 0), (0, 0), *((p, p) for p in around)), mode="edge")
    return GOOD["conv2d_forward"](x, weight, bias, **options)


def flipped(x, weight, *rest, **options):
    return GOOD["conv2d_forward"](x, weight[:, :, ::-1, ::-1], *rest, **options)


def waiting(x):
    y, cache = GOOD["relu_forward"](x)
    return (y, cache) if float(y.max()) >= 0 else (x, cache)


def scaled(name, place, factor):
    """The backward `name` with one of its gradients multiplied; place None: with its only one."""

    def backward(dy, cache):
        if place is None:
            return factor * GOOD[name](dy, cache)
        grads = list(GOOD[name](dy, cache))
        grads[place] = grads[place] * factor
        return tuple(grads)

    return backward


BREAKS = {
    "gradient check: relu with no gate": ("01", "relu_backward", lambda dy, cache: dy),
    "softmax: 1/N missing": (
        "02",
        "softmax_cross_entropy_backward",
        lambda dy, c: GOOD["softmax_cross_entropy_backward"](dy, c) * len(c[0]),
    ),
    "linear: dbias a mean": ("02", "linear_backward", scaled("linear_backward", 2, 1 / 64)),
    "linear: dweight halved": ("02", "linear_backward", scaled("linear_backward", 1, 0.5)),
    "relu: gate missing": ("02", "relu_backward", lambda dy, cache: dy),
    "col2im: twice": ("03", "col2im", lambda *args, **options: 2 * GOOD["col2im"](*args, **options)),
    "convolution: dx zero": ("03", "conv2d_backward", scaled("conv2d_backward", 0, 0)),
    "convolution: dweight doubled": ("03", "conv2d_backward", scaled("conv2d_backward", 1, 2)),
    "depth: relu with no gate": ("05", "relu_backward", lambda dy, cache: dy),
    "depth: the slope of sigmoid as 1/2 at most": ("05", "sigmoid_backward", scaled("sigmoid_backward", None, 2)),
    "depth: the slope of tanh without its square": ("05", "tanh_backward", lambda dy, y: dy * (1 - np.abs(y))),
    "training: the loss's gradient missing its 1/N": (
        "08",
        "softmax_cross_entropy_backward",
        lambda dy, c: GOOD["softmax_cross_entropy_backward"](dy, c) * len(c[0]),
    ),
    "pretrained: a head that learns its bias alone": ("10", "linear_backward", scaled("linear_backward", 1, 0)),
    "batchnorm: mean path missing": ("06", "batchnorm_backward", no_mean),
    "batchnorm: direct path only": ("06", "batchnorm_backward", no_statistics),
    "batchnorm: unbiased variance": ("06", "batchnorm_forward", unbiased),
    "relu: gate missing, deep": ("09", "relu_backward", lambda dy, cache: dy),
    "batchnorm: gain forgotten": (
        "09",
        "batchnorm_backward",
        lambda dy, cache: (dy, *GOOD["batchnorm_backward"](dy, cache)[1:]),
    ),
    "convolution: edges repeated": ("11", "conv2d_forward", edges_repeated),
    "convolution: no way back": ("11", "conv2d_backward", scaled("conv2d_backward", 0, 0)),
    "relu: waits for the device": ("12", "relu_forward", waiting),
    "convolution: kernel flipped": ("13", "conv2d_forward", flipped),
}


def run(number):
    path = next(folder().glob(f"{number}_*.py"))
    exec(compile(path.read_text(encoding="utf-8"), path.name, "exec"), {"__name__": "tutorial"})


@pytest.fixture(autouse=True)
def no_windows(monkeypatch):
    monkeypatch.setattr("matplotlib.pyplot.show", lambda: None)


def check_broken_op(number: str, name: str, broken, monkeypatch) -> None:
    for module in [module for key, module in sys.modules.items() if key.startswith("minires")]:
        for attribute, value in list(vars(module).items()):
            if value is GOOD[name]:
                monkeypatch.setattr(module, attribute, broken)
    with pytest.raises(AssertionError):
        run(number)


@pytest.mark.parametrize("fault", [fault for fault, (number, *_) in BREAKS.items() if number not in SLOW])
def test_a_broken_op_is_noticed(fault, monkeypatch):
    check_broken_op(*BREAKS[fault], monkeypatch)


def test_a_forgotten_shortcut_is_noticed(monkeypatch):
    monkeypatch.setattr(ResidualBlock, "_backward", without_shortcut)
    with pytest.raises(AssertionError):
        run("07")


def test_a_zero_gamma_that_does_nothing_is_noticed(monkeypatch):
    monkeypatch.setattr(init, "zero_gamma", lambda model: None)
    with pytest.raises(AssertionError):
        run("07")


def test_weights_that_are_not_taken_over_are_noticed(monkeypatch):
    monkeypatch.setattr(init, "from_pretrained", lambda model, weights, strict=True: None)
    with pytest.raises(AssertionError):
        run("10")


def test_a_momentum_that_forgets_is_noticed(monkeypatch):
    def step(self):
        for p in self.parameters:
            p.value = p.value - float(self.lr) * p.grad

    monkeypatch.setattr(optim.SGD, "step", step)
    with pytest.raises(AssertionError):
        run("08")


def test_a_biased_running_variance_is_noticed(monkeypatch):
    forward = nn.BatchNorm2d._forward

    def biased(self, x):
        before, m = self.running_var, x.size // self.num_features
        y, cache = forward(self, x)
        if self.training:
            self.running_var = (1 - self.momentum) * before + (self.running_var - (1 - self.momentum) * before) * (
                (m - 1) / m
            )
        return y, cache

    monkeypatch.setattr(nn.BatchNorm2d, "_forward", biased)
    with pytest.raises(AssertionError):
        run("06")


def test_a_difference_over_half_its_length_is_noticed(monkeypatch):
    monkeypatch.setattr(numerical, "central_difference", lambda f, h: (f(h) - f(-h)) / h)
    with pytest.raises(AssertionError):
        run("01")


def test_a_gradient_check_that_passes_kinks_is_noticed(monkeypatch):
    monkeypatch.setattr(gradcheck, "check_op", lambda *args, **options: SimpleNamespace(verdict="pass"))
    with pytest.raises(AssertionError):
        run("01")


def test_a_group_that_adds_nothing_is_noticed(monkeypatch):
    monkeypatch.setattr(ThreadGroup, "sum", lambda group, rows: rows.sum(axis=0))
    with pytest.raises(AssertionError):
        run("14")
