"""One table of layers, blocks and small networks, with inputs of odd sizes. Several tests read it."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from minires import nn

IMAGES = (4, 3, 7, 5)


@dataclass(frozen=True)
class Case:
    name: str
    make: Callable[[], nn.Layer]
    shape: tuple[int, ...] = IMAGES
    training: bool = True

    def rng(self) -> np.random.Generator:
        return np.random.default_rng(zlib.crc32(self.name.encode()))

    def layer(self, dtype: str = "float64") -> nn.Layer:
        """The layer with random gains, biases and running statistics: zeros and ones would hide faults."""
        return randomized(self.make().train(self.training), self.rng()).astype(dtype)

    def input(self, dtype: str = "float64") -> np.ndarray:
        return self.rng().standard_normal(self.shape).astype(dtype)


def randomized(layer: nn.Layer, rng: np.random.Generator) -> nn.Layer:
    """Weights by He's law, gains around 1, biases and running means around 0, running variances around 1."""
    layer.astype("float64")
    for parameter in layer.parameters():
        z = rng.standard_normal(parameter.value.shape)
        if parameter.value.ndim >= 2 and not (parameter.gain or parameter.name.endswith("bias")):
            parameter.value = z * np.sqrt(2 / np.prod(parameter.value.shape[1:]))
        else:
            parameter.value = 0.3 * z + parameter.name.endswith("weight")
    for _, owner, attribute in layer.named_buffers():
        value = rng.uniform(0.5, 2.0, getattr(owner, attribute).shape)
        setattr(owner, attribute, value if attribute == "running_var" else value - 1)
    return layer


def _block(kind, **options):
    shape = (4, 8, 5, 6) if kind is nn.Bottleneck else (4, 3, 5, 6)
    label = ", ".join(f"{k}={getattr(v, '__name__', v)}" for k, v in options.items())
    channels = 2 if kind is nn.Bottleneck else options.pop("out", 3)
    return Case(f"{kind.__name__} {label}", lambda: kind(shape[1], channels, **options), shape)


def _network(name, **options):
    options = {"depth": 8, "width": 3, "num_classes": 5, "in_channels": 2} | options
    return Case(f"network {name}", lambda: nn.resnet(**options), (4, 2, 9, 7))


LAYERS = [
    Case("Conv2d", lambda: nn.Conv2d(3, 4, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2))),
    Case("Conv2d no bias", lambda: nn.Conv2d(3, 4, 3, padding=1, bias=False)),
    Case("Linear", lambda: nn.Linear(6, 4), (5, 6)),
    Case("Linear no bias", lambda: nn.Linear(6, 4, bias=False), (5, 6)),
    Case("BatchNorm2d", lambda: nn.BatchNorm2d(3)),
    Case("BatchNorm2d, large eps", lambda: nn.BatchNorm2d(3, eps=0.3)),
    Case("BatchNorm2d of rows", lambda: nn.BatchNorm2d(6), (5, 6)),
    Case("BatchNorm2d frozen", lambda: nn.BatchNorm2d(3), training=False),
    Case("Conv2d in groups", lambda: nn.Conv2d(3, 6, 3, padding="same", groups=3)),
    Case("Conv2d same padding, even kernel", lambda: nn.Conv2d(3, 4, (2, 4), padding="same")),
    Case("LayerNorm", lambda: nn.LayerNorm(6), (5, 6)),
    Case("LayerNorm of images", lambda: nn.LayerNorm((3, 7, 5), eps=0.3)),
    Case("GroupNorm", lambda: nn.GroupNorm(3, 3)),
    Case("GroupNorm of one group", lambda: nn.GroupNorm(1, 3, eps=0.3)),
    Case("ReLU", nn.ReLU),
    Case("LeakyReLU", lambda: nn.LeakyReLU(0.2)),
    Case("Tanh", nn.Tanh),
    Case("Sigmoid", nn.Sigmoid),
    Case("MaxPool2d", lambda: nn.MaxPool2d(3, stride=2, padding=1)),
    Case("AvgPool2d", lambda: nn.AvgPool2d((2, 3), stride=(2, 1), padding=(1, 0))),
    Case("MaxPool2d ceil", lambda: nn.MaxPool2d(2, ceil_mode=True)),
    Case("AvgPool2d of pixels alone", lambda: nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False)),
    Case("GlobalAvgPool2d", nn.GlobalAvgPool2d),
    Case("Dropout", lambda: nn.Dropout(0.4, rng=3)),
    Case("Dropout in evaluation", lambda: nn.Dropout(0.4, rng=3), training=False),
    Case("Flatten", nn.Flatten),
    Case("Identity", nn.Identity),
    Case(
        "Sequential",
        lambda: nn.Sequential(
            nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Tanh(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 3)
        ),
    ),
]
BLOCKS = [
    *(_block(nn.BasicBlock, shortcut=s) for s in ("A", "B", None)),
    *(_block(nn.BasicBlock, shortcut=s, stride=2, out=5) for s in ("A", "B", None)),
    _block(nn.BasicBlock, batchnorm=False, stride=2, out=5, shortcut="B"),
    _block(nn.BasicBlock, branch_scale=0.5),
    _block(nn.BasicBlock, activation=nn.Tanh),
    _block(nn.BasicBlock, activation=nn.LeakyReLU, batchnorm=False),
    *(_block(nn.PreActBlock, shortcut=s, stride=2, out=6) for s in ("A", "B", None)),
    _block(nn.PreActBlock, batchnorm=False, branch_scale=0.3),
    *(_block(nn.Bottleneck, shortcut=s, stride=2) for s in ("A", "B", None)),
    _block(nn.Bottleneck, batchnorm=False),
]
NETWORKS = [
    _network("A"),
    _network("B", shortcut="B"),
    _network("plain", shortcut=None),
    _network("without batchnorm", batchnorm=False),
    _network("plain without batchnorm, tanh", shortcut=None, batchnorm=False, activation=nn.Tanh),
    _network("of pre-activation blocks", block=nn.PreActBlock),
    _network("of bottlenecks", block=nn.Bottleneck, blocks=(1, 1), shortcut="B"),
    _network("of four stages", blocks=(1, 1, 1, 1)),
]
CASES = LAYERS + BLOCKS + NETWORKS
