"""What a layer is: parameters, a forward pass, and a backward pass that goes back through it.

A subclass writes two methods, each of which calls one op of `minires.ops` (or hands on to its children):

    _forward(x) -> (y, cache)          what backward will need goes into the cache
    _backward(dy, cache) -> dx         and adds the parameters' gradients with `parameter.add_grad(...)`

The base class keeps the cache in between. backward consumes it: going back twice through one forward pass would add
every gradient twice, so it is an error. Children, parameters and buffers are found by looking through the layer's
own attributes in the order in which they were set: nothing has to be registered.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Any, Self

import numpy as np

from minires.backend import FLOATS, Array, array_namespace, to_device

Observer = Callable[["Layer", str, str, Array, Array], None]
"""(layer, path, direction, what went in, what came out); direction is "forward" (x, y) or "backward" (dy, dx)."""


class Parameter:
    """An array that is learned, and the gradient of the loss with respect to it."""

    def __init__(self, value: Array) -> None:
        self.name = ""
        """Dotted path, seen from the layer whose `parameters()` was last asked for."""
        self.value = value
        self.grad = array_namespace(value).zeros_like(value)

    def add_grad(self, grad: Array) -> None:
        """Adds: a parameter that is used twice receives the sum of both gradients."""
        self.grad = self.grad + grad

    def __repr__(self) -> str:
        return f"Parameter({self.name or '?'}, shape={tuple(self.value.shape)}, dtype={self.value.dtype})"


class Layer:
    """Base class of all layers, blocks and networks."""

    training = True
    buffers: tuple[str, ...] = ()
    """Names of attributes that hold arrays which are not learned, but saved: BatchNorm's running statistics."""

    _cache: tuple[Any] | None = None
    _remembers = True
    _observer: Callable[[str, Array, Array], None] | None = None
    _shape: tuple[int, ...] | None = None

    # --- the two passes ------------------------------------------------------------------------------------------

    def forward(self, x: Array) -> Array:
        """x -> y; keeps what backward will need."""
        self._cache = None  # should this forward fail, there is no way back through the one before
        y, cache = self._forward(x)
        self._keep(cache, y)
        if self._observer:
            self._observer("forward", x, y)
        return y

    def _keep(self, cache: Any, y: Array) -> None:
        self._cache = (cache,) if self._remembers else None
        self._shape = y.shape

    def backward(self, dy: Array) -> Array:
        """dy, the gradient of the loss at y -> dx; adds the gradients of the parameters into their `.grad`.

        Raises ValueError if no forward pass is left to go back through.
        """
        dx = self._backward(dy, self._kept())
        self._cache = None
        if self._observer:
            self._observer("backward", dy, dx)
        return dx

    def _kept(self) -> Any:
        if self._cache is None:
            raise ValueError(
                f"{type(self).__name__}.backward: its forward has not been called, or backward has already "
                "used it up; expected one forward(x) before each backward(dy)"
            )
        return self._cache[0]

    def infer(self, x: Array) -> Array:
        """forward(x) when no backward will follow: nothing is kept, which saves memory and, with it, time."""
        layers = [layer for _, layer in self.named_layers()]
        for layer in layers:
            layer._remembers = False
        try:
            return self.forward(x)
        finally:
            for layer in layers:
                layer._remembers = True

    def _forward(self, x: Array) -> tuple[Array, Any]:
        raise NotImplementedError

    def _backward(self, dy: Array, cache: Any) -> Array:
        raise NotImplementedError

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of y for an x of `shape` (N, ...), without computing anything."""
        self._shape = self._output_shape(tuple(shape))
        return self._shape

    def _output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape

    # --- the tree ------------------------------------------------------------------------------------------------

    def children(self) -> Iterator[tuple[str, Layer]]:
        """(name, layer) of the layers this one is made of, in the order of their definition."""
        for name, value in vars(self).items():
            if isinstance(value, Layer):
                yield name, value

    def named_layers(self, prefix: str = "") -> Iterator[tuple[str, Layer]]:
        """(dotted path, layer) of the whole tree, this layer first, as ""."""
        yield prefix, self
        for name, child in self.children():
            yield from child.named_layers(f"{prefix}.{name}" if prefix else name)

    def parameters(self) -> list[Parameter]:
        """All parameters of the tree, their `.name` set to the path as seen from here."""
        found = []
        for path, layer in self.named_layers():
            for name, value in vars(layer).items():
                if isinstance(value, Parameter):
                    value.name = f"{path}.{name}" if path else name
                    found.append(value)
        return found

    def named_buffers(self) -> Iterator[tuple[str, Layer, str]]:
        """(dotted path, layer that holds it, attribute) of every buffer of the tree."""
        for path, layer in self.named_layers():
            for name in layer.buffers:
                yield (f"{path}.{name}" if path else name), layer, name

    def reset_buffers(self) -> None:
        """Puts this layer's own buffers back to what they were at first."""

    @contextmanager
    def observe(self, observer: Observer) -> Iterator[None]:
        """Within the `with` block, `observer` is called after every pass of every layer of the tree."""
        layers = list(self.named_layers())
        for path, layer in layers:
            layer._observer = partial(observer, layer, path)
        try:
            yield
        finally:
            for _, layer in layers:
                layer._observer = None

    # --- state ---------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Array]:
        """Copies of all parameters and buffers by name; PyTorch's names and layouts."""
        state = {p.name: p.value.copy() for p in self.parameters()}
        state.update((name, getattr(layer, attribute).copy()) for name, layer, attribute in self.named_buffers())
        return state

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Takes over all values, converted to this model's dtype and device.

        ValueError unless names and shapes fit, TypeError for what is not floating-point; nothing is loaded then.
        """
        own = self.state_dict()
        missing, unexpected = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        if missing or unexpected:
            raise ValueError(
                f"state: missing {missing or 'nothing'}, unexpected {unexpected or 'nothing'}; expected exactly the "
                "names of model.state_dict() (init.from_pretrained loads weights that fit in part)"
            )
        for name, value in own.items():
            if tuple(state[name].shape) != value.shape:
                raise ValueError(f"state: {name} has shape {tuple(state[name].shape)}; expected {value.shape}")
            if state[name].dtype.kind not in ("f", value.dtype.kind):
                raise TypeError(f"state: {name} has dtype {state[name].dtype}; expected floating-point numbers")
        new = {name: to_device(state[name], array_namespace(v)).astype(v.dtype) for name, v in own.items()}
        for parameter in self.parameters():
            parameter.value = new[parameter.name]
        for name, layer, attribute in self.named_buffers():
            setattr(layer, attribute, new[name])

    def _convert(self, f: Callable[[Array], Array]) -> Self:
        for parameter in self.parameters():
            parameter.value, parameter.grad = f(parameter.value), f(parameter.grad)
        for _, layer, attribute in self.named_buffers():
            setattr(layer, attribute, f(getattr(layer, attribute)))
        for _, layer in self.named_layers():
            layer._cache = None
        return self

    def to(self, device: str | ModuleType) -> Self:
        """Moves parameters, gradients and buffers to "cpu" or "cuda"; forward passes in between are forgotten."""
        return self._convert(lambda array: to_device(array, device))

    def astype(self, dtype: np.dtype | type | str) -> Self:
        """Converts parameters, gradients and buffers to float32, float64 or complex128."""
        dtype = np.dtype(dtype)
        if dtype.name not in FLOATS:
            raise TypeError(f"dtype is {dtype}; expected {', '.join(FLOATS)}")
        return self._convert(lambda array: array.astype(dtype))

    def zero_grad(self) -> None:
        """Sets every gradient to zero; to be called before each backward pass that should not add to the last."""
        for parameter in self.parameters():
            value = parameter.value
            parameter.grad = array_namespace(value).zeros(value.shape, value.dtype)

    def train(self, mode: bool = True) -> Self:
        """Training: BatchNorm uses the batch's statistics, Dropout drops."""
        for _, layer in self.named_layers():
            layer.training = mode
        return self

    def eval(self) -> Self:
        """Evaluation: BatchNorm uses its running statistics, Dropout does nothing."""
        return self.train(False)

    # --- print ---------------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def __str__(self) -> str:
        """A table of layers, output shapes and numbers of parameters (shapes as of the last forward pass)."""
        if not any(True for _ in self.children()):
            return repr(self)
        rows = [("layer", "", "output shape", "parameters")]
        for path, layer in self.named_layers():
            if not any(True for _ in layer.children()):
                shape = "?" if layer._shape is None else " x ".join(map(str, layer._shape[1:]))
                rows.append((path, repr(layer), shape, f"{_count(layer):,}"))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        header, *lines = ("  ".join(map("{:{}{}}".format, row, "<<<>", widths)) for row in rows)
        rule = "-" * len(header)
        return "\n".join([repr(self), header, rule, *lines, rule, f"{_count(self):,} parameters"])


def _count(layer: Layer) -> int:
    return sum(math.prod(p.value.shape) for p in layer.parameters())
