"""Everything of minires that has a gradient, each with its check: what `minires gradcheck` runs.

Ops, layers, blocks and two small networks, on random inputs in which no fault could hide, on the chosen device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from minires import nn
from minires.backend import Array, to_device, to_numpy
from minires.gradcheck.check import check_op
from minires.gradcheck.configurations import draw
from minires.gradcheck.definitions import DEFINITIONS, run_backward, run_forward
from minires.gradcheck.layers import check_layer, check_model
from minires.gradcheck.report import GradReport

Named = Iterator[tuple[str, Callable[[], GradReport]]]


def own_checks(seed: int, device: str) -> Named:
    """(name, check) of everything there is: ops, layers, blocks, networks, their passes on the device."""
    rng = np.random.default_rng(seed)
    yield from _op_checks(rng, seed, device)
    images, rows = rng.standard_normal((4, 4, 7, 6)), rng.standard_normal((5, 6))
    for name, layer, x in _layers(rng, images, rows):
        yield f"nn.{name}", lambda layer=layer, x=x: check_layer(layer.to(device), to_device(x, device), seed=seed)
    labels = rng.integers(0, 10, 4)
    networks = {
        "resnet8 A": nn.resnet(depth=8, width=4, rng=seed),
        "resnet8 B": nn.resnet(depth=8, width=4, shortcut="B", rng=seed),
    }
    for name, model in networks.items():
        x = rng.standard_normal((4, 3, 9, 8))
        _unsettle(model, rng)
        model.to(device)
        yield f"nn.{name}", lambda model=model, x=x: check_model(model, x, labels, seed=seed)
        if name.endswith("A"):
            yield (
                f"nn.{name}, complex",
                lambda model=model, x=x: check_model(model, x, labels, method="complex", seed=seed),
            )


def _op_checks(rng: np.random.Generator, seed: int, device: str) -> Named:
    def there(value: object) -> object:
        return to_device(value, device) if isinstance(value, np.ndarray) else value

    def check(op: str, inputs: tuple[Array, ...], options: dict) -> GradReport:
        def forward(*arrays: Array) -> tuple[Array, object]:
            y, cache = run_forward(op, tuple(map(there, arrays)), {name: there(v) for name, v in options.items()})
            return to_numpy(y), cache

        def backward(dy: Array | float, cache: object) -> tuple[Array | None, ...]:
            return tuple(None if g is None else to_numpy(g) for g in run_backward(op, there(dy), cache))

        return check_op(forward, backward, inputs, like=op, options=options, seed=seed)

    for op in DEFINITIONS:
        inputs, options = draw(op, rng)
        yield op, lambda op=op, inputs=inputs, options=options: check(op, inputs, options)


def _layers(rng: np.random.Generator, images: Array, rows: Array) -> Iterator[tuple[str, nn.Layer, Array]]:
    small = images[:, :, :5, :4]
    listed = [
        ("Conv2d", nn.Conv2d(4, 3, 3, 2, 1, rng=rng), images),
        ("Linear", nn.Linear(6, 4, rng=rng), rows),
        ("BatchNorm2d", nn.BatchNorm2d(4, eps=0.1), small),
        ("BatchNorm2d, eval", nn.BatchNorm2d(4).eval(), small),
        ("Conv2d, groups", nn.Conv2d(4, 6, 3, padding="same", groups=2, rng=rng), small),
        ("LayerNorm", nn.LayerNorm(6, eps=0.1), rows),
        ("GroupNorm", nn.GroupNorm(2, 4, eps=0.1), small),
        ("ReLU", nn.ReLU(), rows),
        ("LeakyReLU", nn.LeakyReLU(0.1), rows),
        ("Tanh", nn.Tanh(), rows),
        ("Sigmoid", nn.Sigmoid(), rows),
        ("MaxPool2d", nn.MaxPool2d(3, 2, 1), small),
        ("AvgPool2d", nn.AvgPool2d(2), small),
        ("GlobalAvgPool2d", nn.GlobalAvgPool2d(), small),
        ("Dropout", nn.Dropout(0.3, rng=rng), rows),
        ("Flatten", nn.Flatten(), small),
        ("BasicBlock", nn.BasicBlock(4, 4), small),
        ("BasicBlock, A", nn.BasicBlock(4, 8, 2), small),
        ("BasicBlock, B", nn.BasicBlock(4, 8, 2, shortcut="B"), small),
        ("BasicBlock, plain", nn.BasicBlock(4, 4, shortcut=None), small),
        ("PreActBlock", nn.PreActBlock(4, 8, 2), small),
        ("Bottleneck", nn.Bottleneck(4, 8, 2, shortcut="B"), small),
    ]
    for name, layer, x in listed:
        _unsettle(layer, rng)
        yield name, layer, x


def _unsettle(layer: nn.Layer, rng: np.random.Generator) -> None:
    """Fresh draws from `rng` for all parameters: gains of 1 and biases of 0 would hide faults."""
    for parameter in layer.parameters():
        value = parameter.value
        draw = rng.standard_normal(value.shape)
        if parameter.gain:
            draw = rng.uniform(0.5, 1.5, value.shape) * rng.choice([-1.0, 1.0], value.shape)
        elif value.ndim > 1:
            draw /= np.sqrt(value[0].size)
        parameter.value = draw.astype(value.dtype)
