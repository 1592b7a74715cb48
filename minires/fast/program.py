"""From a model to its program: the list of nodes that images go through, in the order of the forward pass.

A Sequential is laid out flat; a residual block is a node with two programs, its branch and its shortcut. The program is
made anew for each pass, which costs little, from the model as it is then: nothing is copied. A layer that somebody
observes, whose methods have been replaced, or of whose type nothing is known becomes a `Whole`: it runs its own code
on the whole batch.
"""

from types import GeneratorType
from typing import Any

from minires import nn
from minires.backend import Array
from minires.fast.conv import Conv
from minires.fast.nodes import Block, Node, ReLU, Samplewise, Whole
from minires.fast.norm import Norm
from minires.fast.worker import Plan, Worker
from minires.nn.residual import ResidualBlock, Subsample

SAMPLEWISE = {nn.Linear, nn.LeakyReLU, nn.Tanh, nn.Sigmoid, nn.Flatten, Subsample}
SAMPLEWISE |= {nn.MaxPool2d, nn.AvgPool2d, nn.GlobalAvgPool2d}
"""Layers of which each image takes its way alone. They run their own code, on each worker's images."""

OTHERS = {nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.Identity, nn.Dropout, nn.Sequential, ResidualBlock}
PASSES = ("forward", "backward", "infer", "_forward", "_backward")
OWN = {kind: [getattr(kind, name) for name in PASSES] for kind in SAMPLEWISE | OTHERS}


def known_kind(layer: nn.Layer) -> type[nn.Layer] | None:
    """The known class that the layer's passes come from; None if they are its own, replaced or observed."""
    kind = next((kind for kind in type(layer).__mro__ if kind in OWN), None)
    draws = kind is nn.Dropout and layer.training  # a mask for the whole batch
    if kind is None or draws or layer._observers or not vars(layer).keys().isdisjoint(PASSES):
        return None
    return kind if [getattr(type(layer), name) for name in PASSES] == OWN[kind] else None


def configuration_of(layer: nn.Layer) -> tuple[Any, ...]:
    """All that the arithmetic of a layer depends on but the numbers in its arrays."""
    found: list[Any] = [type(layer)]
    for name, value in vars(layer).items():
        if isinstance(value, nn.Parameter):
            found.append((name, value.value.shape, value.value.dtype, type(value.value)))
        elif isinstance(value, nn.Layer) and not isinstance(layer, nn.Sequential):
            found.append((name, configuration_of(value)))
        elif name[0] != "_" and name != "training" and isinstance(value, int | float | str | tuple | None):
            found.append((name, str(value)))
    return tuple(found)


class Program:
    """The nodes of one pass. keeps: whether a way back is needed. wants_dx: whether what comes out of it is.
    fuses: whether convolutions do what they can for BatchNorms beside them.

    layers: (path, layer, configuration), the last one None for a layer that runs its own code.
    """

    def __init__(self, keeps: bool, model: nn.Layer | None = None, wants_dx: bool = True, fuses: bool = True) -> None:
        self.keeps, self.wants_dx, self.fuses, self.nodes = keeps, wants_dx, keeps and fuses, list[Node]()
        self.layers: list[tuple[str, nn.Layer, Any]] = []
        if model is not None:
            self.add(model)

    @property
    def fresh(self) -> bool:
        """Whether what comes out may be written over: nobody has kept it, and nobody else will read it."""
        return bool(self.nodes) and self.nodes[-1].fresh

    def key(self) -> Any:
        """Equal for two programs that plan the same."""
        parameters = (p for _, layer, _ in self.layers for p in vars(layer).values() if isinstance(p, nn.Parameter))
        layers = ((id(x), x.training, own is None, own or configuration_of(x)) for _, x, own in self.layers)
        return self.keeps, self.wants_dx, *map(id, parameters), *layers

    def plan(self, direction: str, x: Array, worker: Worker) -> Plan:
        """Plans the way "forward" or "backward" through all nodes."""
        forward, first = direction == "forward", x
        for node in self.nodes if forward else reversed(self.nodes):
            before, x = x, getattr(node, direction)(x, worker)
            if type(x) is GeneratorType:
                x = yield from x
            if before is not first and before is not x and not (forward and self.keeps):
                worker.give_back(before)
        return x

    def add(self, layer: nn.Layer, path: str = "") -> None:
        """Appends what the layer does."""
        kind = known_kind(layer)
        self.layers.append((path, layer, kind and configuration_of(layer)))
        prefix = f"{path}." if path else ""
        if kind is None:
            self.nodes.append(Whole(layer))
        elif kind is nn.Sequential:
            for name, child in layer.children():
                self.add(child, prefix + name)
        elif kind is ResidualBlock:
            self._add_block(layer, prefix)
        elif kind in SAMPLEWISE or (kind is nn.Conv2d and (layer.groups != 1 or layer.padding == "same")):
            self.nodes.append(Samplewise(layer))
        elif kind is nn.Conv2d:
            self._add_conv(Conv(layer))
        elif kind is nn.ReLU:
            self.nodes.append(ReLU(layer, self.fresh))
        elif kind is nn.BatchNorm2d:
            self._add_norm(layer)

    def _add_conv(self, conv: Conv) -> None:
        """A BatchNorm and a ReLU before it become part of it."""
        if self.fuses and [type(node) for node in self.nodes[-2:]] == [Norm, ReLU]:
            self.nodes.pop()
            conv.before = self.nodes[-1]
            conv.before.before_conv = True
        self.nodes.append(conv)

    def _add_norm(self, layer: nn.BatchNorm2d) -> None:
        """At inference it becomes part of a convolution before it; in training half of its way back does."""
        conv = self.nodes[-1] if self.nodes and type(self.nodes[-1]) is Conv else None
        if conv and not conv.folded and not layer.training and not self.keeps:
            conv.folded = layer
            return
        self.nodes.append(Norm(layer, self.fresh))
        if conv and conv.layer.bias is None and layer.training and self.fuses:
            conv.after = self.nodes[-1]
            conv.after.after_conv = True

    def _add_block(self, block: ResidualBlock, prefix: str) -> None:
        branch, shortcut = (Program(self.keeps, fuses=self.fuses) for _ in range(2))
        for name in block.branch:
            branch.add(getattr(block, name), prefix + name)
        if block.shortcut is not None:
            shortcut.add(block.shortcut, f"{prefix}shortcut")
        self.layers += shortcut.layers + branch.layers
        self.nodes.append(Block(block, branch, None if block.shortcut is None else shortcut))
        if block.after_sum is not None:
            self.add(getattr(block, block.after_sum), prefix + block.after_sum)
