"""From a model to its program: the list of nodes that a way goes through, in the order of the forward pass.

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
    return kind if [getattr(type(layer), name) for name in PASSES] == OWN[kind] else None


class Program:
    """The nodes of one pass. keeps: whether a way back is needed; layers: (path, layer, its configuration or None).

    The configuration is None for a layer that runs its own code.
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

    @property
    def key(self) -> Any:
        """Equal for two programs that plan the same."""
        parameters = (p for _, layer, _ in self.layers for p in vars(layer).values() if isinstance(p, nn.Parameter))
        layers = (
            (id(layer), layer.training, known or (known, configuration_of(layer))) for _, layer, known in self.layers
        )
        return self.keeps, *map(id, parameters), *layers

    def forward(self, x: Array, way: Way) -> Plan:
        """Plans a piece's way through all nodes."""
        first = x
        for node in self.nodes:
            before, x = x, node.forward(x, way)
            if type(x) is GeneratorType:
                x = yield from x
            if not self.keeps and before is not first and before is not x:
                way.give_back(before)
        return x

    def backward(self, dy: Array, way: Way, wants_dx: bool = True) -> Plan:
        """Plans its way back. wants_dx: whether somebody will read the gradient of the input."""
        first = dy
        for node in reversed(self.nodes):
            unread = not wants_dx and node is self.nodes[0] and isinstance(node, Conv)
            before, dy = dy, node.backward(dy, way, wants_dx=False) if unread else node.backward(dy, way)
            if type(dy) is GeneratorType:
                dy = yield from dy
            if before is not first and before is not dy:
                way.give_back(before)
        return dy

    def add(self, layer: nn.Layer, path: str = "") -> None:
        """Appends what the layer does."""
        kind = known_kind(layer)
        if kind is nn.Dropout and layer.training:  # a mask is drawn for the whole batch
            kind = None
        self.layers.append((path, layer, kind and configuration_of(layer)))
        if kind is None:
            self.nodes.append(Whole(layer))
        elif kind is nn.Sequential:
            for name, child in layer.children():
                self.add(child, f"{path}.{name}" if path else name)
        elif kind is ResidualBlock:
            self._add_block(layer, f"{path}." if path else "")
        elif kind in SAMPLEWISE:
            self.nodes.append(Samplewise(layer))
        elif kind is nn.Conv2d:
            self.nodes.append(Conv(layer))
        elif kind is nn.ReLU:
            self.nodes.append(ReLU(layer, in_place=self.fresh))
        elif kind is nn.BatchNorm2d:
            norm, folds = Norm(layer, in_place=self.fresh), not self.keeps and not layer.training
            if folds and self.nodes and type(self.nodes[-1]) is Conv and self.nodes[-1].norm is None:
                self.nodes[-1].norm = norm  # at inference the convolution takes its line over
            else:
                self.nodes.append(norm)

    def _add_block(self, block: ResidualBlock, path: str) -> None:
        branch, shortcut = Program(self.keeps), Program(self.keeps)
        for name in block.branch:
            branch.add(getattr(block, name), path + name)
        if block.shortcut is not None:
            shortcut.add(block.shortcut, f"{path}shortcut")
        self.layers += branch.layers + shortcut.layers
        self.nodes.append(Block(block, branch, None if block.shortcut is None else shortcut))
        if block.after_sum is not None:
            self.add(getattr(block, block.after_sum), path + block.after_sum)


def configuration_of(layer: nn.Layer) -> tuple[Any, ...]:
    """All that the arithmetic of a layer depends on but the numbers in its arrays."""
    found: list[Any] = [type(layer)]
    for name, value in vars(layer).items():
        if isinstance(value, nn.Layer):
            if not isinstance(layer, nn.Sequential):
                found.append((name, configuration_of(value)))
        elif isinstance(value, nn.Parameter):
            found.append((name, value.value.shape, value.value.dtype, type(value.value)))
        elif isinstance(value, int | float | str | tuple | None) and not name.startswith("_") and name != "training":
            found.append((name, value))
    return tuple(found)
