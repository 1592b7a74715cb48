"""Runs a student's functions inside the engine: under a layer, in an optimizer, in a training.

The file is loaded in the student's process, beside the student's own. Each driver gets the student's functions by name
and arrays; it returns arrays. What the process makes of it is judged elsewhere. With no functions at all, a driver
gives the reference.

`parts` says which functions stand for which of the engine's: {"minires.ops.conv:conv2d_forward": "conv2d_forward"}.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np

Names = Mapping[str, object]
Parts = Mapping[str, str]
Arrays = dict[str, np.ndarray]


@contextmanager
def installed(names: Names, parts: Parts) -> Iterator[None]:
    """Within the `with` block, the engine uses the student's functions, wherever it imported its own."""
    import importlib

    undo: list[tuple[object, str, object]] = []
    try:
        for source, name in parts.items():
            if name not in names:
                continue
            module, _, path = source.partition(":")
            owner: object = importlib.import_module(module)
            *classes, attribute = path.split(".")
            for part in classes:
                owner = getattr(owner, part)
            original = getattr(owner, attribute)
            places = [(owner, attribute)]
            if not classes:
                places = [
                    (m, key)
                    for m in [m for n, m in sys.modules.items() if n.split(".")[0] == "minires" and m]
                    for key in [k for k, v in vars(m).items() if v is original]
                ]
            for place, key in places:
                undo.append((place, key, original))
                setattr(place, key, names[name])
        yield
    finally:
        for place, key, original in reversed(undo):
            setattr(place, key, original)


def derivative(names: Names, function: str, coefficients: Sequence[float], h: float) -> object:
    """A rule for derivatives on the polynomial with these coefficients (lowest first), step h."""

    def f(t: complex) -> complex:
        return sum(c * t**k for k, c in enumerate(coefficients))

    if function in names:
        return names[function](f, h)
    from minires.gradcheck import numerical

    return getattr(numerical, function)(f, h)


def block(
    names: Names, parts: Parts, state: Arrays, channels: tuple[int, int, int], x: np.ndarray, dy: np.ndarray | None
) -> Arrays:
    """A basic block (in channels, channels, stride) in float64 with these weights: y, and with dy all gradients."""
    from minires import nn

    layer = nn.BasicBlock(*channels).astype(np.float64)
    layer.load_state_dict(state)
    with installed(names, parts):
        y = layer.forward(x)
        if dy is None:
            return {"y": np.asarray(y)}
        dx = layer.backward(dy)
    return {"dx": np.asarray(dx), **{p.name: p.grad for p in layer.parameters()}}


def optimizer_steps(
    names: Names, parts: Parts, values: Sequence[np.ndarray], gradients: Sequence[Sequence[np.ndarray]], settings: dict
) -> list[np.ndarray]:
    """The parameters after one step of SGD for each set of gradients."""
    from minires.nn.layer import Parameter
    from minires.optim import SGD

    parameters = [Parameter(value.copy()) for value in values]
    for number, parameter in enumerate(parameters):
        parameter.name = f"p{number}"
    optimizer = SGD(parameters, **settings)
    with installed(names, parts):
        for given in gradients:
            for parameter, gradient in zip(parameters, given, strict=True):
                parameter.grad = gradient
            optimizer.step()
    return [p.value for p in parameters]


def make_network(kind: str, seed: int) -> object:
    """The networks that are trained: "small" (8 layers), "plain" (no BatchNorm, no shortcuts), "deep" (56 layers)."""
    from minires import nn

    rng = np.random.default_rng(seed)
    common = {"in_channels": 1, "num_classes": 10, "width": 8, "rng": rng}
    if kind == "small":
        return nn.resnet(depth=8, **common)
    if kind == "plain":
        return nn.resnet(depth=20, shortcut=None, batchnorm=False, **common)
    if kind == "plain_batchnorm":
        return nn.resnet(depth=20, shortcut=None, **common)
    return nn.resnet(depth=56, shortcut=None if kind == "deep_plain" else "A", **{**common, "width": 4})


def one_step(
    names: Names, parts: Parts, function: str, state: Arrays, images: np.ndarray, labels: np.ndarray
) -> Arrays:
    """One training step of a small network from these weights: the weights afterwards and the loss."""
    from minires import nn
    from minires.optim import SGD

    model = make_network("small", 0).astype(images.dtype)
    model.load_state_dict(state)
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    step = _train_step(names, function)
    with installed(names, parts):
        loss = [step(model, nn.SoftmaxCrossEntropy(), optimizer, images, labels)[0] for _ in range(2)]
    return {"loss": np.asarray(loss, float), **model.state_dict()}


def train(
    names: Names, parts: Parts, function: str, kind: str, steps: int, images: np.ndarray, labels: np.ndarray, lr: float
) -> Arrays:
    """Trains a network on batches of 64 with the student's step; its weights and buffers afterwards, and the losses."""
    from minires import nn
    from minires.optim import SGD

    model = make_network(kind, 1)
    optimizer = SGD(model.parameters(), lr=lr, momentum=0.9)
    step, rng, losses = _train_step(names, function), np.random.default_rng(2), []
    with installed(names, parts):
        for _ in range(steps):
            chosen = rng.permutation(len(images))[:64]
            value, _ = step(model, nn.SoftmaxCrossEntropy(), optimizer, images[chosen], labels[chosen])
            losses.append(float(value))
    return {"loss": np.array(losses), **model.state_dict()}


def classify(names: Names, parts: Parts, state: Arrays, depth: int, images: np.ndarray) -> np.ndarray:
    """Logits of a CIFAR-10 ResNet with these weights."""
    from minires import nn

    model = {20: nn.resnet20}[depth]()
    model.load_state_dict(state)
    model.eval()
    with installed(names, parts):
        return np.asarray(model.infer(images))


def _train_step(names: Names, function: str) -> object:
    if function in names:
        return names[function]
    from minires.train import train_step

    return train_step
