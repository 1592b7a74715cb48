"""What a layer is: parameters, a forward pass, and a backward pass that goes back through it.

A subclass writes two methods. Each calls one op of `minires.ops`, or the layers that it is made of:

    _forward(x) -> (y, cache)          what backward will need goes into the cache
    _backward(dy, cache) -> dx         adds the parameters' gradients with `parameter.add_grad(...)`

The base class keeps the cache in between, and backward uses it up: going back twice through one forward pass would add
every gradient twice, so it is an error. Children, parameters and buffers are simply the layer's attributes, in the
order in which they were set. Nothing has to be registered.

A layer keeps one forward pass at a time, so two threads must not use one model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Any, Self

import numpy as np

from minires import checks
from minires.backend import Array, array_namespace, to_device
from minires.printing import constructor_call, layer_table

Observer = Callable[["Layer", str, str, Array, Array], None]
"""(layer, path, direction, what went in, what came out); direction is "forward" (x, y) or "backward" (dy, dx)."""


class Parameter:
    """An array that is learned, and the gradient of the loss with respect to it.

    groups: of how many convolutions side by side it is the weight. gain: whether it multiplies normalized values, so
    that it begins with 1.
    """

    def __init__(self, value: Array, groups: int = 1, gain: bool = False) -> None:
        self.name = ""
        """Dotted path, seen from the layer whose `parameters()` was last asked for."""
        self.value, self.groups, self.gain = value, groups, gain
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
    _observers: tuple[Callable[[str, Array, Array], None], ...] = ()
    _shape: tuple[int, ...] | None = None

    # --- the two passes ------------------------------------------------------------------------------------------

    def forward(self, x: Array) -> Array:
        """x -> y; keeps what backward will need."""
        self._cache = None  # if this forward fails, backward must not go back through the one before
        try:
            y, cache = self._forward(x)
        except (TypeError, ValueError) as error:
            checks.raise_with_path(error, self)
        self._cache, self._shape = (cache,) if self._remembers else None, y.shape
        for observer in self._observers:
            observer("forward", x, y)
        return y

    def __call__(self, x: Array) -> Array:
        return self.forward(x)

    def backward(self, dy: Array) -> Array:
        """dy, the gradient of the loss at y -> dx; adds the gradients of the parameters into their `.grad`.

        Raises ValueError if no forward pass is left to go back through.
        """
        if self._cache is None:
            raise ValueError(
                f"{type(self).__name__}.backward: its forward has not been called, or backward has already used it up; "
                "expected one forward(x) before each backward(dy), and a layer of its own in each place of a network"
            )
        try:
            dx = self._backward(dy, *self._cache)
        except (TypeError, ValueError) as error:
            checks.raise_with_path(error, self)
        self._cache = None
        for observer in self._observers:
            observer("backward", dy, dx)
        return dx

    def infer(self, x: Array) -> Array:
        """forward(x) when no backward will follow: nothing is kept, which saves memory."""
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
        self._shape = self._output_shape(checks.check_input_shape(self, shape))
        return self._shape

    def _output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape

    # --- the tree ------------------------------------------------------------------------------------------------

    def children(self) -> Iterator[tuple[str, Layer]]:
        """(name, layer) of the layers that this one is made of, in the order in which they were set."""
        yield from _found_in(vars(self).items(), Layer)

    def named_layers(self, prefix: str = "") -> Iterator[tuple[str, Layer]]:
        """(dotted path, layer) of the whole tree, this layer first, as ""."""
        yield prefix, self
        for name, child in self.children():
            yield from child.named_layers(f"{prefix}.{name}" if prefix else name)

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """(dotted path, parameter) of the whole tree. A parameter that is shared comes once for each of its paths."""
        for path, layer in self.named_layers():
            for name, parameter in _found_in(vars(layer).items(), Parameter):
                yield (f"{path}.{name}" if path else name), parameter

    def parameters(self) -> list[Parameter]:
        """All parameters of the tree, each once, their `.name` set to the path as seen from here."""
        found = {}
        for path, parameter in checks.no_name_twice(self.named_parameters()):
            if id(parameter) not in found:
                parameter.name, found[id(parameter)] = path, parameter
        return list(found.values())

    def named_buffers(self) -> Iterator[tuple[str, Layer, str]]:
        """(dotted path, layer that holds it, attribute) of every buffer of the tree."""
        for path, layer in self.named_layers():
            for name in layer.buffers:
                yield (f"{path}.{name}" if path else name), layer, name

    def reset_buffers(self) -> None:
        """Resets this layer's own buffers to their initial values."""

    @contextmanager
    def observe(self, observer: Observer) -> Iterator[None]:
        """Within the `with` block, `observer` is called after every pass of every layer of the tree."""
        checks.check_observer(observer)
        added = [(layer, partial(observer, layer, path)) for path, layer in self.named_layers()]
        for layer, call in added:
            layer._observers = (*layer._observers, call)
        try:
            yield
        finally:
            for layer, call in added:  # others may have come or gone meanwhile
                layer._observers = tuple(other for other in layer._observers if other is not call)

    # --- state ---------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Array]:
        """Copies of all parameters and buffers by name; PyTorch's names and layouts."""
        state = {name: parameter.value.copy() for name, parameter in checks.no_name_twice(self.named_parameters())}
        state.update((name, getattr(layer, attribute).copy()) for name, layer, attribute in self.named_buffers())
        return state

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Loads all values, converted to this model's dtype and device.

        Raises ValueError unless names and shapes fit, TypeError for anything but floating-point numbers. In both cases
        the model is left as it was.
        """
        new = checks.convert_state(self.state_dict(), state, self.named_parameters())
        for name, parameter in self.named_parameters():
            parameter.value = new[name]
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
        dtype = checks.check_dtype(dtype)
        return self._convert(lambda array: array.astype(dtype))

    def zero_grad(self) -> None:
        """Sets every gradient to zero; to be called before each backward pass that should not add to the last."""
        for p in self.parameters():
            p.grad = array_namespace(p.value).zeros(p.value.shape, p.value.dtype)

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
        """The call that makes such a layer: its arguments, where they are not the defaults."""
        return constructor_call(self)

    def __str__(self) -> str:
        """A table of layers, output shapes and numbers of parameters (shapes as of the last forward pass)."""
        return layer_table(self) if any(True for _ in self.children()) else repr(self)


def _found_in(entries: Iterable[tuple[Any, Any]], kind: type, prefix: str = "") -> list[tuple[str, Any]]:
    """(path, object) of every layer or parameter among attributes: in lists and dicts, too, however deep."""
    found = []
    for key, value in entries:
        if isinstance(value, kind):
            found.append((f"{prefix}{key}", value))
        elif type(value) not in checks.PLAIN and not isinstance(value, (Layer, Parameter)):
            name = f"{prefix}{key}"
            found += _found_in(checks.entries_of(name, value), kind, f"{name}.")
    return found
