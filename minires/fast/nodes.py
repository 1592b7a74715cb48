"""The nodes of a program: what a worker does, one node after the other, and backwards in reverse.

A node plans: its `forward(x, worker)` notes the calls that compute y from x, remembers what the way back will need, and
returns y, in which the numbers will stand. `backward(dy, worker)` takes it from there and returns dx. Where a node
needs the other workers, both are generators (see `worker.py`). A backward pass never changes dy, but may write into the
arrays that its node has kept: by then whoever else used them has gone back through them.
"""

import copy
from typing import Any

import numpy as np

from minires.backend import Array
from minires.fast.worker import Meeting, Plan, Refused, Worker, channels_first, pixels, setitem
from minires.nn import Layer, Parameter


class Node:
    """Base class. `layer` is the layer of the model whose parameters and settings the node reads at every pass."""

    fresh = False
    """Whether the node keeps neither its y nor its dx: others may write over them."""

    def __init__(self, layer: Layer, in_place: bool = False) -> None:
        self.layer, self.in_place = layer, in_place


def check_fit(x: Array, weight: Array, axis: int, ndim: tuple[int, ...], worker: Worker) -> None:
    """Raises Refused unless x (n, ..., C) has as many channels as `weight` has along `axis`, and its dtype."""
    like = x.ndim in ndim and x.shape[-1] == weight.shape[axis] and x.dtype == weight.dtype
    if not like or isinstance(weight, np.ndarray) != (worker.xp is np):
        raise Refused


class Samplewise(Node):
    """A layer that treats each image by itself: its own two functions, called for each worker's images.

    On the way back they are those of a copy of the layer, whose parameters collect the gradients of this worker's
    images.
    """

    fresh = True

    def forward(self, x: Array, worker: Worker) -> Array:
        self.x, images = x, channels_first(x)
        shape = self.layer._output_shape(images.shape)
        y = worker.take((shape[0], *shape[2:], shape[1]) if len(shape) == 4 else shape, x.dtype)
        worker.do(self._run, images, channels_first(y))
        return y

    def _run(self, x: Array, y: Array) -> None:
        y[...], self.cache = self.layer._forward(x)

    def backward(self, dy: Array, worker: Worker) -> Array:
        layer, dx = copy.copy(self.layer), worker.take(self.x.shape, dy.dtype)
        own = {name: value for name, value in vars(layer).items() if isinstance(value, Parameter)}
        vars(layer).update((name, _Share(value, worker.gradient(value))) for name, value in own.items())
        worker.do(lambda: setitem(channels_first(dx), ..., layer._backward(channels_first(dy), self.cache)))
        return dx


class _Share:
    """A parameter as one worker sees it: its value, and the gradient of the worker's own images."""

    def __init__(self, parameter: Parameter, grad: Array) -> None:
        self.parameter, self.grad = parameter, grad

    value = property(lambda self: self.parameter.value)

    def add_grad(self, grad: Array) -> None:
        self.grad += grad


class Whole(Node):
    """A layer of which nothing is known: it runs its own code, on the whole batch."""

    def forward(self, x: Array, worker: Worker) -> Plan:
        run = self.layer.forward if worker.program.keeps else self.layer.infer
        return (yield Meeting(x, lambda x: pixels(run(channels_first(x)))))

    def backward(self, dy: Array, worker: Worker) -> Plan:
        return (yield Meeting(dy, lambda dy: pixels(self.layer.backward(channels_first(dy)))))


class ReLU(Node):
    """max(x, 0). in_place: whether y may be written over x."""

    def forward(self, x: Array, worker: Worker) -> Array:
        self.y = rectify(x, x if self.in_place else worker.take(x.shape, x.dtype), worker)
        return self.y

    def backward(self, dy: Array, worker: Worker) -> Array:
        return gate(dy, self.y, self.y, worker)


def rectify(x: Array, y: Array, worker: Worker) -> Array:
    """max(x, 0), in y. `maximum` is twice as fast with a row of zeros as with 0."""
    zeros = worker.scratch("zeros", (x[0].size,), x.dtype)
    worker.do(worker.xp.maximum, x.reshape(len(x), -1), zeros, out=y.reshape(len(x), -1))
    return y


def gate(dy: Array, y: Array, dx: Array, worker: Worker) -> Array:
    """dy where y is not 0, in dx. y itself becomes the mask, of ones and zeros."""
    worker.do(worker.xp.not_equal, y, 0, out=y)
    worker.do(worker.xp.multiply, dy, y, out=dx)
    return dx


class Block(Node):
    """A residual block up to its sum: branch(x) * scale + shortcut(x)."""

    def __init__(self, layer: Layer, branch: Any, shortcut: Any) -> None:
        super().__init__(layer)
        self.branch, self.shortcut = branch, shortcut
        self.fresh = shortcut is not None or branch.fresh

    def forward(self, x: Array, worker: Worker) -> Plan:
        y = self._scaled((yield from self.branch.plan("forward", x, worker)), worker)
        shortcut = None if self.shortcut is None else (yield from self.shortcut.plan("forward", x, worker))
        return self._add(y, shortcut, self.branch.nodes[-1:], self.shortcut and self.shortcut.nodes[-1:], worker)

    def backward(self, dy: Array, worker: Worker) -> Plan:
        dshortcut = None if self.shortcut is None else (yield from self.shortcut.plan("backward", dy, worker))
        dx = yield from self.branch.plan("backward", self._scaled(dy, worker), worker)
        return self._add(dx, dshortcut, self.branch.nodes[:1], self.shortcut and self.shortcut.nodes[:1], worker)

    def _scaled(self, x: Array, worker: Worker) -> Array:
        if self.layer.branch_scale == 1:
            return x
        y = worker.take(x.shape, x.dtype)
        worker.do(worker.xp.multiply, x, self.layer.branch_scale, out=y)
        return y

    def _add(self, a: Array, b: Array | None, a_by: list[Node], b_by: list[Node] | None, worker: Worker) -> Array:
        """a + b, written over a if the node that made it allows that."""
        if b is None:
            return a
        if b.shape != a.shape:
            raise Refused
        y = a if a_by and a_by[0].fresh else worker.take(a.shape, a.dtype)
        worker.do(worker.xp.add, a, b, out=y)
        if b_by and b_by[0].fresh:
            worker.give_back(b)
        return y
