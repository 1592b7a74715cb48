"""Equations between a forward and a backward pass that hold for every draw, up to rounding. No step is involved.

    adjoint       a linear op and its backward:  <op(x), v> = <x, dx>,  with op linear in x, and in the weight as well
    Euler         a positively homogeneous layer (ReLU, pooling):  <x, dx> = <y, dy>;
                  with weights (conv, linear):  <W, dW> = <y - b, dy> = <x, dx>
    batch norm    sum of dx = 0  and  sum of dx * xhat = weight * eps (var + eps)^(-3/2) * dweight, for each channel;
                  and for the conv W that feeds it:  <W_o, dW_o> = eps / (var_o + eps) * weight_o * dweight_o

Tolerance: 16 eps times the sum of the absolute values of the products that are added up, expanded down to the inputs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from minires import nn, ops
from minires.backend import Array
from minires.gradcheck import definitions
from minires.gradcheck.numerical import ROUNDOFF
from minires.gradcheck.report import IdentityReport

ROUNDINGS = 16
LINEAR_OPS = ("conv2d", "linear", "avg_pool2d", "global_avg_pool2d")


def adjoint(
    like: str,
    inputs: tuple[Array, ...],
    options: dict,
    y: Array,
    dy: Array,
    gradients: list[Array | None],
    u: float = ROUNDOFF["float64"],
) -> list[IdentityReport]:
    """<op(x) - b, dy> = <x, dx> (= <W, dW>) for an op that is linear in each of its inputs; u: its unit roundoff."""
    if like not in LINEAR_OPS or any(g is None or g.shape != x.shape for g, x in zip(gradients, inputs, strict=True)):
        return []
    product, terms = y, _expanded(like, inputs[:2], options, dy)
    if len(inputs) > 2:
        bias = inputs[2].reshape(1, -1, *(1,) * (y.ndim - 2))
        product, terms = y - bias, terms + 2 * float(np.sum(np.abs(bias * dy)))
    left = _inner(product, dy)
    names = ("<op(x), dy> = <x, dx>", "<op(x), dy> = <W, dW>")
    pairs = zip(names, inputs[:2], gradients[:2], strict=False)
    return [IdentityReport(name, left, _inner(a, g), _tolerance(terms, u)) for name, a, g in pairs]


def _expanded(like: str, inputs: tuple[Array, ...], options: dict, dy: Array) -> float:
    """Sum of |terms| of <op(x), dy>, expanded: the op applied to absolute values."""
    y, _ = definitions.run_forward(like, tuple(np.abs(a) for a in inputs), options)
    return float(np.sum(y * np.abs(dy)))


def _inner(a: Array, b: Array) -> float:
    return float(np.sum(a * b))


def _tolerance(terms: float, u: float = ROUNDOFF["float64"]) -> float:
    return ROUNDINGS * 2 * u * terms


@dataclass
class Pass:
    """What went through one layer of a model in a forward and a backward pass."""

    path: str
    layer: nn.Layer
    x: Array
    y: Array
    dy: Array
    dx: Array

    @property
    def is_leaf(self) -> bool:
        return not any(True for _ in self.layer.children())


class Recorder:
    """Collects a `Pass` for every layer: `with model.observe(recorder.see)`."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[Array, Array]] = {}
        self.passes: dict[str, Pass] = {}
        """By path, in the order of the forward pass."""
        self._order: list[str] = []

    def see(self, layer: nn.Layer, path: str, direction: str, given: Array, returned: Array) -> None:
        if direction == "forward":
            self._open[path] = (given, returned)
            self._order.append(path)
        elif path in self._open:
            x, y = self._open.pop(path)
            self.passes[path] = Pass(path, layer, x, y, given, returned)

    def in_order(self) -> list[Pass]:
        return [self.passes[path] for path in dict.fromkeys(self._order) if path in self.passes]


HOMOGENEOUS = (nn.ReLU, nn.LeakyReLU, nn.MaxPool2d, nn.AvgPool2d, nn.GlobalAvgPool2d, nn.Flatten, nn.Identity)


def of_passes(passes: list[Pass]) -> list[IdentityReport]:
    """All identities that apply to leaf layers of a model, layer by layer; the gradients are taken from `.grad`."""
    found = []
    feeds = {id(p.y): p for p in passes}
    for p in passes:
        where = f"{p.path or type(p.layer).__name__}: "
        if isinstance(p.layer, HOMOGENEOUS):
            left, right = _inner(p.y, p.dy), _inner(p.x, p.dx)
            terms = float(np.sum(np.abs(p.y * p.dy))) + float(np.sum(np.abs(p.x * p.dx)))
            found.append(IdentityReport(where + "<x, dx> = <y, dy>", left, right, _tolerance(terms)))
        elif isinstance(p.layer, nn.Conv2d | nn.Linear):
            found += _euler_with_weights(p, where)
        elif isinstance(p.layer, nn.BatchNorm2d) and p.layer.training:
            found += _batchnorm(p, where)
            if isinstance((source := feeds.get(id(p.x))) and source.layer, nn.Conv2d):
                found.append(_scale_of_weights(source, p))
    return found


def _euler_with_weights(p: Pass, where: str) -> list[IdentityReport]:
    layer, like, options = p.layer, "linear", {}
    if isinstance(layer, nn.Conv2d):
        like = "conv2d"
        options = _settings(layer)
    inputs = [p.x, layer.weight.value] + ([] if layer.bias is None else [layer.bias.value])
    gradients = [p.dx, layer.weight.grad] + ([] if layer.bias is None else [layer.bias.grad])
    found = adjoint(like, tuple(inputs), options, p.y, p.dy, gradients)
    for identity in found:
        identity.name = where + identity.name.replace("op(x)", "y - b")
    return found


def _settings(conv: nn.Conv2d) -> dict[str, object]:
    return {name: getattr(conv, name) for name in ("stride", "padding", "dilation", "groups")}


def _moments(p: Pass) -> tuple[Array, Array, Array, tuple[int, ...]]:
    """mean, var and xhat of a batch-norm layer's input, and the axes they are taken over."""
    axes = (0, *range(2, p.x.ndim))
    mean = p.x.mean(axis=axes, keepdims=True)
    var = np.mean((p.x - mean) ** 2, axis=axes, keepdims=True)
    return mean, var, (p.x - mean) / np.sqrt(var + p.layer.eps), axes


def _batchnorm(p: Pass, where: str) -> list[IdentityReport]:
    """The worst channel of each of the two identities."""
    _, var, xhat, axes = _moments(p)
    scale = p.layer.weight.value / np.sqrt(var.ravel() + p.layer.eps)
    size = np.abs(scale) * np.sum(np.abs(p.dy) * (1 + np.abs(xhat)) ** 2, axis=axes)
    total, along = np.sum(p.dx, axis=axes), np.sum(p.dx * xhat, axis=axes)
    known = p.layer.weight.value * p.layer.eps * (var.ravel() + p.layer.eps) ** -1.5 * p.layer.weight.grad
    rows = []
    for name, left, right in (("sum of dx = 0", total, 0 * total), ("sum of dx xhat", along, known)):
        c = int(np.argmax(np.abs(left - right) / np.maximum(size, 1e-300)))
        rows.append(IdentityReport(f"{where}{name} (channel {c})", left[c], right[c], _tolerance(float(size[c]))))
    return rows


def _scale_of_weights(conv: Pass, norm: Pass) -> IdentityReport:
    """The gradient of a conv before a batch norm is orthogonal to its weights, up to eps: the worst channel."""
    layer, (_, var, _, axes) = conv.layer, _moments(norm)
    left = np.sum(layer.weight.value * layer.weight.grad, axis=(1, 2, 3))
    r = norm.layer.eps / (var.ravel() + norm.layer.eps)
    right = r * norm.layer.weight.value * norm.layer.weight.grad
    spread, _ = ops.conv2d_forward(np.abs(conv.x), np.abs(layer.weight.value), **_settings(layer))
    size = np.sum(spread * np.abs(conv.dy), axis=axes)
    c = int(np.argmax(np.abs(left - right) / np.maximum(size, 1e-300)))
    name = f"{conv.path}: <W_o, dW_o> = eps/(var+eps) weight dweight (channel {c})"
    return IdentityReport(name, left[c], right[c], _tolerance(float(size[c])))
