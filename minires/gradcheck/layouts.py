"""Other layouts of the same op: weights (in, out), samples as columns, images with their channels last.

The check runs in minires' layout: arrays are turned on their way into somebody's functions and back on their way out.
Everything is then told in minires' axes, except for a gradient that has not the shape of its input (`OtherShape`).

    in_out          linear: weight (in, out), y = x @ weight + bias
    columns         linear, batchnorm: samples are columns, x (in, N), weight (out, in), bias (out, 1), y (out, N)
    channels_last   conv2d, pooling, batchnorm: x and y (N, H, W, C), weight (kh, kw, in, out), bias with `out` numbers
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from minires.backend import Array
from minires.gradcheck import definitions

LAYOUTS = ("in_out", "columns", "channels_last")

_IMAGE = (0, 3, 1, 2)
_AS_IS, _VECTOR = None, "vector"
Turn = tuple[int, ...] | str | None
"""How an array comes into minires' layout: an order of axes, flattened, or as it is."""

TURNS: dict[tuple[str, str], tuple[tuple[Turn, ...], Turn]] = {
    ("linear", "in_out"): ((_AS_IS, (1, 0), _VECTOR), _AS_IS),
    ("linear", "columns"): (((1, 0), _AS_IS, _VECTOR), (1, 0)),
    ("batchnorm", "columns"): (((1, 0), _VECTOR, _VECTOR), (1, 0)),
    ("conv2d", "channels_last"): ((_IMAGE, (3, 2, 0, 1), _VECTOR), _IMAGE),
    ("batchnorm", "channels_last"): ((_IMAGE, _VECTOR, _VECTOR), _IMAGE),
    ("max_pool2d", "channels_last"): ((_IMAGE,), _IMAGE),
    ("avg_pool2d", "channels_last"): ((_IMAGE,), _IMAGE),
    ("global_avg_pool2d", "channels_last"): ((_IMAGE,), _AS_IS),
}
"""(op, layout) -> the turns of its inputs, and that of y."""

SAY = {
    "in_out": "weight is (in, out) in it, y = x @ weight, where minires has (out, in), y = x @ weight.T",
    "columns": "samples are columns in it, where minires has them as rows",
    "channels_last": "images are (N, H, W, C) and weights (kh, kw, in, out) in it, where minires has (N, C, H, W)",
}


class OtherShape(Exception):
    """A gradient, that of input `number`, has not the shape of its input. Both shapes are as its author has them."""

    def __init__(self, number: int, given: tuple[int, ...], needed: tuple[int, ...]) -> None:
        self.number, self.given, self.needed = number, given, needed


def adapt(
    forward: Callable, backward: Callable, inputs: Sequence[Array | None], like: str | None, layout: str
) -> tuple[Callable, Callable, list[Array | None]]:
    """The functions and inputs as minires has them. ValueError for a layout that does not exist, or not for this op."""
    if layout not in LAYOUTS:
        raise ValueError(f"layout is {layout!r}; expected one of {', '.join(LAYOUTS)}")
    if (like, layout) not in TURNS:
        known = ", ".join(f'"{op}"' for op, name in TURNS if name == layout)
        raise ValueError(f'layout="{layout}" needs like= to be one of {known}; got {like!r}')
    turns, turn_y = TURNS[like, layout]
    shapes = [None if a is None else np.shape(a) for a in inputs]

    def there(number: int, array: Array | None) -> Array | None:
        return None if array is None else _back(array, turns[number], shapes[number])

    def turned_forward(*arrays: Array | None) -> object:
        result = forward(*(there(i, a) for i, a in enumerate(arrays)))
        if not isinstance(result, tuple | list) or len(result) != 2:
            return result
        return _turn(np.asarray(result[0]), turn_y), result[1]

    def turned_backward(dy: Array, cache: object) -> object:
        upstream = np.ascontiguousarray(_back(dy, turn_y, None)) if isinstance(dy, np.ndarray) else dy
        result = backward(upstream, cache)
        gradients = list(result) if isinstance(result, tuple | list) else [result]
        present = [number for number, shape in enumerate(shapes) if shape is not None]
        numbers = present if len(gradients) == len(present) else range(len(shapes))
        if result is None or isinstance(result, dict) or len(gradients) < len(numbers):
            return result  # `Subject` says what is wrong with it
        pairs = zip(numbers, gradients, strict=False)
        turned = [_gradient(number, gradient, turns[number], shapes[number]) for number, gradient in pairs]
        return (*turned, *gradients[len(numbers) :])

    turned = [None if a is None else _turn(np.asarray(a), turn) for a, turn in zip(inputs, turns, strict=False)]
    return turned_forward, turned_backward, turned


def axes_of_x(like: str, layout: str) -> int | None:
    """How many axes x has to have in a layout; None where any number will do."""
    turn = TURNS[like, layout][0][0]
    return len(turn) if isinstance(turn, tuple) else None


def given_in(inputs: Sequence[Array | None], like: str, layout: str) -> tuple[Array | None, ...]:
    """The inputs, as minires has them, in another layout: what `adapt` turns back. ValueError where x does not fit."""
    turns, _ = TURNS[like, layout]
    if (axes := axes_of_x(like, layout)) not in (None, inputs[0].ndim):
        raise ValueError(f"x has {inputs[0].ndim} axes; layout {layout!r} is for {axes}")
    column = layout == "columns"
    shapes = [None if a is None else (a.size, 1) if column else a.shape for a in inputs]
    pairs = zip(inputs, turns, shapes, strict=False)
    return tuple(None if a is None else _back(a, turn, shape) for a, turn, shape in pairs)


def propose(forward: Callable, inputs: Sequence[Array | None], like: str | None, options: dict) -> str | None:
    """The layout in which forward is exactly the op `like`, if there is one."""
    for op, layout in TURNS:
        if op != like:
            continue
        try:
            turned, _, arrays = adapt(forward, forward, inputs, like, layout)
            present = tuple(a for a in arrays if a is not None)
            with np.errstate(all="ignore"):
                y = turned(*arrays)[0]
            expected, _ = definitions.run_forward(like, present, options)
        except Exception:  # somebody's function, called with a guess
            continue
        if y.shape == expected.shape and np.allclose(y, expected, rtol=1e-9, atol=1e-12):
            return layout
    return None


def proposal(layout: str, like: str) -> str:
    """What to tell whoever uses another layout."""
    return f'forward is {like} in another layout: {SAY[layout]}. Say layout="{layout}"'


def _turn(array: Array, turn: Turn) -> Array:
    if turn is _AS_IS:
        return array
    if turn == _VECTOR:
        return array.reshape(-1)
    return array.transpose(turn) if array.ndim == len(turn) else array


def _back(array: Array, turn: Turn, shape: tuple[int, ...] | None) -> Array:
    if turn is _AS_IS:
        return array
    if turn == _VECTOR:
        return array.reshape(shape)
    return np.ascontiguousarray(array.transpose(np.argsort(turn)))


def _gradient(number: int, gradient: object, turn: Turn, shape: tuple[int, ...] | None) -> object:
    """Raises OtherShape where a gradient has not the shape of its input: turned, it might look as if it had."""
    if gradient is None or shape is None:
        return gradient
    if np.shape(gradient) != shape:
        raise OtherShape(number, np.shape(gradient), shape)
    return _turn(np.asarray(gradient), turn)
