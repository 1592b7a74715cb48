"""The nodes of a program: what is done to a piece, one node after the other, and backwards in reverse.

A node's `forward(x, piece)` returns y and keeps its cache on the piece's tape; `backward(dy, piece)` takes it from
there and returns dx. A backward pass never changes dy, but may write into the arrays that its node has kept: by then
whoever else used them has gone back through them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minires.backend import Array
from minires.fast.columns import Refused
from minires.fast.piece import Pass, Piece, channels_first, contiguous, pixels_first
from minires.nn import Layer


class Node:
    """Base class. `layer` is the layer of the model whose parameters and settings the node reads at every pass."""

    def __init__(self, layer: Layer) -> None:
        self.layer = layer

    def forward(self, x: Array, piece: Piece) -> Array | Pass:
        raise NotImplementedError

    def backward(self, dy: Array, piece: Piece) -> Array | Pass:
        raise NotImplementedError

    def add_gradients(self, gradients: dict[Any, Array]) -> None:
        """Adds the gradients that the node's backward has found, summed over all pieces, to the layer's parameters."""


def check_fit(x: Array, weight: Array, axis: int, ndim: tuple[int, ...], piece: Piece) -> None:
    """Raises Refused unless x (n, ..., C) has as many channels as `weight` has along `axis`, and its dtype."""
    if x.ndim not in ndim or x.shape[-1] != weight.shape[axis] or x.dtype != weight.dtype:
        raise Refused
    if isinstance(weight, np.ndarray) != (piece.xp is np):
        raise Refused


class Samplewise(Node):
    """A layer without parameters that treats each image by itself: its own two functions, called for each piece."""

    def forward(self, x: Array, piece: Piece) -> Array:
        try:
            y, cache = self.layer._forward(channels_first(x))
        except (TypeError, ValueError) as error:
            raise Refused from error
        piece.keep(cache)
        return contiguous(piece.xp, pixels_first(y))

    def backward(self, dy: Array, piece: Piece) -> Array:
        return contiguous(piece.xp, pixels_first(self.layer._backward(channels_first(dy), piece.tape.pop())))


class Whole(Node):
    """A layer of which nothing is known: it runs its own code, on the whole batch."""

    def forward(self, x: Array, piece: Piece) -> Pass:
        run = self.layer.infer if piece.tape is None else self.layer.forward
        y = yield (lambda x: contiguous(piece.xp, pixels_first(run(channels_first(x))))), x
        return y

    def backward(self, dy: Array, piece: Piece) -> Pass:
        run = self.layer.backward
        dx = yield (lambda dy: contiguous(piece.xp, pixels_first(run(channels_first(dy))))), dy
        return dx


class Linear(Node):
    """y = x @ weight.T + bias."""

    def forward(self, x: Array, piece: Piece) -> Array:
        weight, bias = self.layer.weight.value, self.layer.bias
        check_fit(x, weight, 1, (2,), piece)
        y = x @ weight.T
        if bias is not None:
            y += bias.value
        piece.keep(x)
        return y

    def backward(self, dy: Array, piece: Piece) -> Array:
        piece.add_gradient((self, "weight"), dy.T @ piece.tape.pop())
        if self.layer.bias is not None:
            piece.add_gradient((self, "bias"), dy.sum(axis=0))
        return dy @ self.layer.weight.value

    def add_gradients(self, gradients: dict[Any, Array]) -> None:
        self.layer.weight.add_grad(gradients[self, "weight"])
        if self.layer.bias is not None:
            self.layer.bias.add_grad(gradients[self, "bias"])


class ReLU(Node):
    """max(x, 0), written over x where nobody needs that any more."""

    def __init__(self, layer: Layer, in_place: bool) -> None:
        super().__init__(layer)
        self.in_place = in_place

    def forward(self, x: Array, piece: Piece) -> Array:
        xp = piece.xp
        y = x if self.in_place else piece.memory.take(xp, x.shape, x.dtype)
        if x.dtype.kind == "c":
            y[...] = xp.where(x.real > 0, x, 0)
        else:  # with a row of zeros `maximum` is twice as fast as with the number 0
            zero = piece.once(("zeros", x[0].size, x.dtype), lambda: xp.zeros(x[0].size, x.dtype))
            xp.maximum(x.reshape(len(x), -1), zero, out=y.reshape(len(x), -1))
        piece.keep(y)
        return y

    def backward(self, dy: Array, piece: Piece) -> Array:
        y = piece.tape.pop()
        passed = piece.memory.scratch(piece.xp, "passed", y.shape, bool)
        return piece.xp.multiply(dy, piece.xp.not_equal(y, 0, out=passed), out=y)


class Fork(Node):
    """Where a residual block begins: x goes into the branch, and waits for the shortcut."""

    in_place = False
    """Whether dx of the branch may be written over."""

    def forward(self, x: Array, piece: Piece) -> Array:
        piece.waiting.append(x)
        return x

    def backward(self, dy: Array, piece: Piece) -> Array:
        """dx of the branch, and that of the shortcut, which waits -> their sum."""
        return piece.xp.add(dy, piece.waiting.pop(), out=dy if self.in_place else None)


class Swap(Node):
    """The branch is done and waits; x goes into the shortcut. Backwards the other way round."""

    def forward(self, x: Array, piece: Piece) -> Array:
        piece.waiting[-1], x = x, piece.waiting[-1]
        return x

    backward = forward


class Join(Node):
    """Where a residual block's two ways meet: y = branch * scale + shortcut."""

    def __init__(self, layer: Layer, in_place: bool) -> None:
        super().__init__(layer)
        self.in_place = in_place

    def forward(self, x: Array, piece: Piece) -> Array:
        branch, scale = piece.waiting.pop(), self.layer.branch_scale
        if branch.shape != x.shape:
            raise Refused
        if scale != 1:
            branch = branch * scale
        return piece.xp.add(branch, x, out=branch if self.in_place or scale != 1 else None)

    def backward(self, dy: Array, piece: Piece) -> Array:
        scale = self.layer.branch_scale
        piece.waiting.append(dy if scale == 1 else dy * scale)
        return dy


class Scale(Node):
    """A branch without a shortcut, times its scale."""

    def forward(self, x: Array, piece: Piece) -> Array:
        return x if self.layer.branch_scale == 1 else x * self.layer.branch_scale

    backward = forward
