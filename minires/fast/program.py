"""From a model to its program: the list of nodes that a piece goes through, in the order of the forward pass.

The tree of layers is laid out flat: a Sequential is its layers in turn, a residual block is

    fork, branch ..., swap, shortcut ..., join, what comes after the sum

The program is made anew for each pass, which costs little, from the model as it is then: nothing is copied. A layer
that somebody observes, whose methods have been replaced, or of whose type nothing is known becomes a `Whole`: it runs
its own code on the whole batch.
"""

from __future__ import annotations

from types import GeneratorType

from minires import nn
from minires.backend import Array
from minires.fast.conv import Conv
from minires.fast.nodes import Fork, Join, Linear, Node, ReLU, Samplewise, Scale, Swap, Whole
from minires.fast.norm import NormNode
from minires.fast.piece import Pass, Piece
from minires.nn.residual import ResidualBlock, Subsample

SAMPLEWISE = (nn.LeakyReLU, nn.Tanh, nn.Sigmoid, nn.MaxPool2d, nn.AvgPool2d, nn.GlobalAvgPool2d, nn.Flatten, Subsample)
"""Layers without parameters of which each image takes its way alone."""

OTHERS = (nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.Linear, nn.Identity, nn.Dropout, nn.Sequential, ResidualBlock)
PASSES = ("forward", "backward", "infer", "_forward", "_backward")
OWN = {kind: [getattr(kind, name) for name in PASSES] for kind in SAMPLEWISE + OTHERS}


def known_kind(layer: nn.Layer) -> type[nn.Layer] | None:
    """The known class that the layer's passes come from; None if they are its own, replaced or observed."""
    kind = next((kind for kind in type(layer).__mro__ if kind in OWN), None)
    if kind is None or layer._observers or not vars(layer).keys().isdisjoint(PASSES):
        return None
    return kind if [getattr(type(layer), name) for name in PASSES] == OWN[kind] else None


class Program:
    """The nodes of one pass, and the layers that they stand for."""

    def __init__(self, model: nn.Layer, keeps: bool) -> None:
        self.keeps = keeps
        self.nodes: list[Node] = []
        self.layers: list[tuple[str, nn.Layer]] = []
        """(path, layer) of every layer that does not run its own code."""
        self._kept_by_its_maker = self._used_elsewhere = False  # what is known of the array at this place
        self._add("", model)
        if self.nodes and isinstance(self.nodes[0], Conv):
            self.nodes[0].comes_first = True

    def forward(self, x: Array, piece: Piece) -> Pass:
        """A piece's way through all nodes."""
        for node in self.nodes:
            x = node.forward(x, piece)
            if type(x) is GeneratorType:
                x = yield from x
        return x

    def backward(self, dy: Array, piece: Piece) -> Pass:
        """And its way back."""
        for node in reversed(self.nodes):
            dy = node.backward(dy, piece)
            if type(dy) is GeneratorType:
                dy = yield from dy
        return dy

    # --- making it -----------------------------------------------------------------------------------------------

    def _add(self, path: str, layer: nn.Layer) -> None:
        kind = known_kind(layer)
        if kind is None or (kind is nn.Dropout and layer.training):  # a mask is drawn for the whole batch
            return self._append(Whole(layer), keeps=True)
        self.layers.append((path, layer))
        if kind is nn.Sequential:
            for name, child in layer.children():
                self._add(f"{path}.{name}" if path else name, child)
        elif kind is ResidualBlock:
            self._add_block(path, layer)
        elif kind in SAMPLEWISE:
            self._append(Samplewise(layer), keeps=True)
        elif kind is nn.Conv2d:
            self._append(Conv(layer))
        elif kind is nn.Linear:
            self._append(Linear(layer))
        elif kind is nn.ReLU:
            self._append(ReLU(layer, self._free()), keeps=True)
        elif kind is nn.BatchNorm2d:
            self._add_norm(layer)

    def _add_norm(self, layer: nn.BatchNorm2d) -> None:
        norm, before = NormNode(layer, in_place=not self._kept_by_its_maker), self.nodes[-1:]
        if self.keeps or layer.training or not self._free() or not before or type(before[0]) is not Conv:
            self._append(norm)
        else:  # at inference the convolution takes its line over
            self.nodes[-1] = Conv(before[0].layer, norm)

    def _add_block(self, path: str, block: ResidualBlock) -> None:
        def add(name: str) -> None:
            self._add(f"{path}.{name}" if path else name, getattr(block, name))

        if block.shortcut is None:
            for name in block.branch:
                add(name)
            self._append(Scale(block))
        else:
            fork = Fork(block)
            self.nodes.append(fork)
            self._used_elsewhere = True
            first = len(self.nodes)
            for name in block.branch:
                add(name)
            free = self._free()
            self.nodes.append(Swap(block))
            fork.in_place = isinstance(self.nodes[first], Conv | NormNode)  # which make a new dx
            self._kept_by_its_maker = self._used_elsewhere = True
            add("shortcut")
            self._append(Join(block, free))
        if block.after_sum is not None:
            add(block.after_sum)

    def _append(self, node: Node, keeps: bool = False) -> None:
        """keeps: whether the node needs its own output on the way back."""
        self.nodes.append(node)
        self._kept_by_its_maker, self._used_elsewhere = keeps, False

    def _free(self) -> bool:
        """Whether the array at this place may be written over: nobody else will read it."""
        return not self._kept_by_its_maker and not self._used_elsewhere
