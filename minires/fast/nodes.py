"""The nodes of a program: what is done to a way, one node after the other, and backwards in reverse.

A node plans: its `forward(x, way)` notes the calls that compute y from x, keeps on the tape what the way back will
need, and returns y, in which the numbers will stand. `backward(dy, way)` takes it from there and returns dx. Where a
node needs the other pieces, both are generators (see `piece.py`). A backward pass never changes dy, but may write into
the arrays that its node has kept: by then whoever else used them has gone back through them.
"""

import copy
from typing import Any

import numpy as np

from minires.backend import Array
from minires.fast.piece import Meeting, Plan, Refused, Way, channels_first, pixels, setitem
from minires.nn import Layer, Parameter


class Node:
    """Base class. `layer` is the layer of the model whose parameters and settings the node reads at every pass."""

    fresh = False
    """Whether the node keeps neither its y nor its dx: others may write over them."""

    def __init__(self, layer: Layer, in_place: bool = False) -> None:
        self.layer, self.in_place = layer, in_place


def check_fit(x: Array, weight: Array, axis: int, ndim: tuple[int, ...], way: Way) -> None:
    """Raises Refused unless x (n, ..., C) has as many channels as `weight` has along `axis`, and its dtype."""
    like = x.ndim in ndim and x.shape[-1] == weight.shape[axis] and x.dtype == weight.dtype
    if not like or isinstance(weight, np.ndarray) != (way.xp is np):
        raise Refused


class Samplewise(Node):
    """A layer that treats each image by itself: its own two functions, called for each piece.

    On the way back they are those of a copy of the layer, whose parameters collect the gradients of this worker's
    images.
    """

    def forward(self, x: Array, way: Way) -> Array:
        layer, images = self.layer, channels_first(x)
        shape = layer._output_shape(images.shape)
        y = way.take((shape[0], *shape[2:], shape[1]) if len(shape) == 4 else shape, x.dtype)
        cache: list[Any] = []

        def run() -> None:
            channels_first(y)[...], *cache[:] = layer._forward(images)

        way.do(run)
        way.tape.append((x, cache))
        return y

    def backward(self, dy: Array, way: Way) -> Array:
        (x, cache), layer = way.tape.pop(), copy.copy(self.layer)
        own = {name: value for name, value in vars(layer).items() if isinstance(value, Parameter)}
        vars(layer).update((name, _Share(value, way.gradient(value))) for name, value in own.items())
        dx = way.take(x.shape, x.dtype)
        way.do(lambda: setitem(channels_first(dx), ..., layer._backward(channels_first(dy), *cache)))
        return dx


class _Share:
    """A parameter as one worker sees it: its value, and the gradient of the worker's own images."""

    def __init__(self, parameter: Parameter, grad: Array) -> None:
        self.parameter, self.grad = parameter, grad

    @property
    def value(self) -> Array:
        return self.parameter.value

    def add_grad(self, grad: Array) -> None:
        self.grad += grad


class Whole(Node):
    """A layer of which nothing is known: it runs its own code, on the whole batch."""

    def forward(self, x: Array, way: Way) -> Plan:
        run = self.layer.forward if way.keeps else self.layer.infer
        return (yield Meeting(x, lambda x: pixels(run(channels_first(x)))))

    def backward(self, dy: Array, way: Way) -> Plan:
        return (yield Meeting(dy, lambda dy: pixels(self.layer.backward(channels_first(dy)))))


class ReLU(Node):
    """max(x, 0). in_place: whether y may be written over x."""

    def forward(self, x: Array, way: Way) -> Array:
        xp, rows = way.xp, x.reshape(len(x), -1)
        y = x if self.in_place else way.take(x.shape, x.dtype)
        zeros = way.scratch("zeros", rows.shape[1:], x.dtype)  # with a row of them `maximum` is twice as fast as with 0
        way.do(xp.maximum, rows, zeros, out=y.reshape(rows.shape))
        way.tape.append(y)
        return y

    def backward(self, dy: Array, way: Way) -> Array:
        y = way.tape.pop()
        passed = way.scratch("passed", y.shape, bool)
        way.do(way.xp.not_equal, y, 0, out=passed)
        way.do(way.xp.multiply, dy, passed, out=y)
        return y


class Block(Node):
    """A residual block up to its sum: branch(x) * scale + shortcut(x)."""

    def __init__(self, layer: Layer, branch: Any, shortcut: Any) -> None:
        super().__init__(layer)
        self.branch, self.shortcut = branch, shortcut
        self.fresh = shortcut is not None or branch.fresh

    def forward(self, x: Array, way: Way) -> Plan:
        y = self._scaled((yield from self.branch.forward(x, way)), way)
        shortcut = None if self.shortcut is None else (yield from self.shortcut.forward(x, way))
        return self._add(y, shortcut, self.branch.nodes[-1:], way)

    def backward(self, dy: Array, way: Way) -> Plan:
        dshortcut = None if self.shortcut is None else (yield from self.shortcut.backward(dy, way))
        dx = yield from self.branch.backward(self._scaled(dy, way), way)
        return self._add(dx, dshortcut, self.branch.nodes[:1], way)

    def _scaled(self, x: Array, way: Way) -> Array:
        if self.layer.branch_scale == 1:
            return x
        y = way.take(x.shape, x.dtype)
        way.do(way.xp.multiply, x, self.layer.branch_scale, out=y)
        return y

    def _add(self, a: Array, b: Array | None, maker: list[Node], way: Way) -> Array:
        """a + b, written over a if the node that made it allows that."""
        if b is None:
            return a
        if b.shape != a.shape:
            raise Refused
        y = a if maker and maker[0].fresh else way.take(a.shape, a.dtype)
        way.do(way.xp.add, a, b, out=y)
        return y
