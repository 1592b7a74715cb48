"""From a model to its program: the list of nodes that a piece goes through, in the order of the forward pass.

A Sequential is laid out flat; a residual block is a node with two programs, its branch and its shortcut. The program is
made anew for each pass, which costs little, from the model as it is then: nothing is copied. A layer that somebody
observes, whose methods have been replaced, or of whose type nothing is known becomes a `Whole`: it runs its own code
on the whole batch.
"""

from collections.abc import Callable
from types import GeneratorType
from typing import Any

from minires import nn
from minires.backend import Array
from minires.fast.conv import Conv
from minires.fast.nodes import Block, Node, ReLU, Samplewise, Whole
from minires.fast.norm import Norm
from minires.fast.piece import Plan, Way
from minires.nn.residual import ResidualBlock, Subsample

SAMPLEWISE = {nn.Linear, nn.LeakyReLU, nn.Tanh, nn.Sigmoid, nn.Flatten, Subsample}
SAMPLEWISE |= {nn.MaxPool2d, nn.AvgPool2d, nn.GlobalAvgPool2d}
"""Layers of which each image takes its way alone. They run their own code, on one piece after the other."""

OTHERS = {nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.Identity, nn.Dropout, nn.Sequential, ResidualBlock}
PASSES = ("forward", "backward", "infer", "_forward", "_backward")
OWN = {kind: [getattr(kind, name) for name in PASSES] for kind in SAMPLEWISE | OTHERS}


def known_kind(layer: nn.Layer) -> type[nn.Layer] | None:
    """The known class that the layer's passes come from; None if they are its own, replaced or observed."""
    kind = next((kind for kind in type(layer).__mro__ if kind in OWN), None)
    if kind is None or layer._observers or not vars(layer).keys().isdisjoint(PASSES):
        return None
    if kind is nn.Dropout and layer.training:  # a mask is drawn for the whole batch
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
    """The nodes of one pass. keeps: whether a way back is needed.

    layers: (path, layer, configuration), the last one None for a layer that runs its own code.
    """

    def __init__(self, keeps: bool, model: nn.Layer | None = None) -> None:
        self.keeps, self.nodes = keeps, list[Node]()
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
        return self.keeps, *map(id, parameters), *layers

    def forward(self, x: Array, way: Way) -> Plan:
        """Plans a piece's way through all nodes."""
        return self._plan(x, way, [node.forward for node in self.nodes], gives_back=not self.keeps)

    def backward(self, dy: Array, way: Way) -> Plan:
        """Plans its way back."""
        return self._plan(dy, way, [node.backward for node in reversed(self.nodes)], gives_back=True)

    def _plan(self, x: Array, way: Way, steps: list[Callable[[Array, Way], Array | Plan]], gives_back: bool) -> Plan:
        first = x
        for step in steps:
            before, x = x, step(x, way)
            if type(x) is GeneratorType:
                x = yield from x
            if gives_back and before is not first and before is not x:
                way.give_back(before)
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
            self.nodes.append(Conv(layer))
        elif kind is nn.ReLU:
            self.nodes.append(ReLU(layer, self.fresh))
        elif kind is nn.BatchNorm2d:
            before = self.nodes[-1] if self.nodes and not self.keeps and not layer.training else None
            if type(before) is Conv and before.norm is None:  # at inference the convolution takes its line over
                before.norm = layer
            else:
                self.nodes.append(Norm(layer, self.fresh))

    def _add_block(self, block: ResidualBlock, prefix: str) -> None:
        branch, shortcut = Program(self.keeps), None if block.shortcut is None else Program(self.keeps)
        for name in block.branch:
            branch.add(getattr(block, name), prefix + name)
        if shortcut is not None:
            shortcut.add(block.shortcut, f"{prefix}shortcut")
            self.layers += shortcut.layers
        self.layers += branch.layers
        self.nodes.append(Block(block, branch, shortcut))
        if block.after_sum is not None:
            self.add(getattr(block, block.after_sum), prefix + block.after_sum)
