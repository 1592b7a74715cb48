"""Anybody's layer objects, for `check_layer`.

    class Affine:
        def forward(self, x): ...            # keeps what backward needs in self
        def backward(self, dy): ...          # returns dx, leaves the gradients in self.dweight and self.dbias

    check_layer(wrap(Affine(weight, bias), weight="dweight", bias="dbias"), x)

A path is an attribute ("dweight"), one inside it ("W.grad"), or an entry of a list or dict ("grads[0]", "grads[W]").
Where nobody names the gradients, one pass through a copy of the layer shows them: a parameter moves y, and its gradient
is the array that backward leaves behind under a usual name, or the only one of its shape.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator

import numpy as np

from minires.backend import Array

PAIRS = (("{}", "d{}"), ("{}", "d_{}"), ("{}", "{}_grad"), ("{}", "grad_{}"), ("{}", "{}grad"), ("{}.data", "{}.grad"))
"""How people call a parameter and its gradient."""


class WrappedLayer:
    """A layer object of somebody's own, and where its parameters and their gradients are."""

    def __init__(self, layer: object, gradients: dict[str, str]) -> None:
        self.layer, self.gradients = copy.deepcopy(layer), gradients
        for path in gradients:
            if not isinstance(_get(self.layer, path), np.ndarray):
                raise TypeError(f"{path} of {type(layer).__name__} is no array; expected a parameter")

    @property
    def names(self) -> list[str]:
        return list(self.gradients)

    @property
    def values(self) -> list[Array]:
        return [np.array(_get(self.layer, path), dtype=np.float64) for path in self.gradients]

    def forward(self, x: Array, *values: Array) -> tuple[Array, object]:
        """y and the layer, which is its own cache."""
        for path, value in zip(self.gradients, values, strict=True):
            _set(self.layer, path, value)
        run = getattr(self.layer, "forward", self.layer)
        return run(x), self.layer

    def backward(self, dy: Array, layer: object) -> tuple[Array | None, ...]:
        """dx and the gradients that backward left behind."""
        reset = getattr(layer, "zero_grad", None) or getattr(layer, "zero_grads", None)
        if callable(reset):
            reset()
        dx = layer.backward(dy)
        return (dx[0] if isinstance(dx, tuple) else dx, *(_get(layer, path) for path in self.gradients.values()))

    def completed(self, x: Array) -> tuple[WrappedLayer, list[str]]:
        """With the parameters that a pass with x shows, if none were named; notes on those that stay unchecked."""
        try:
            found, left = _seen_in_a_pass(self.layer, x, self.gradients)
        except Exception:  # somebody's layer: what is wrong with it is for the check to say
            return self, []
        weights_first = sorted(found, key=lambda path: -np.ndim(_get(self.layer, path)))
        layer = self if self.gradients else WrappedLayer(self.layer, {path: found[path] for path in weights_first})
        unchecked = left if not self.gradients else [*found, *left]
        return layer, [
            f"{path} moves y, but its gradient is not checked: say where backward leaves it, as in "
            f'wrap(layer, {{"{path}": "..."}})'
            for path in unchecked
        ]


def wrap(layer: object, paths: dict[str, str] | None = None, **names: str) -> WrappedLayer:
    """Takes a layer object that is not minires' own: parameter="where backward leaves its gradient".

    paths: the same as a dict, for names that are no keyword, as in {"params[0]": "grads[0]"}. Without any, attributes
    named in a common way are taken (weight and dweight, W and dW, params and grads), and what one pass shows. The layer
    itself is left alone.
    Raises TypeError for an object without forward and backward, or for a parameter that is no array.
    """
    if not (callable(getattr(layer, "forward", layer)) and callable(getattr(layer, "backward", None))):
        raise TypeError(f"{type(layer).__name__} has no forward(x) and backward(dy) to check")
    return WrappedLayer(layer, (paths or {}) | names or guess(layer))


def guess(layer: object) -> dict[str, str]:
    """Parameters of an object and their gradients, by the names people use."""
    found: dict[str, str] = {}
    attributes = dict(getattr(layer, "__dict__", {}))
    for name, value in attributes.items():
        for parameter, gradient in PAIRS:
            path, where = parameter.format(name), gradient.format(name)
            if isinstance(_get(layer, path), np.ndarray) and where.split(".")[0] in attributes:
                found.setdefault(path, where)
        if (
            name in ("params", "parameters")
            and isinstance(value, list | dict)
            and isinstance(attributes.get("grads"), type(value))
        ):
            keys = value if isinstance(value, dict) else range(len(value))
            found |= {f"{name}[{k}]": f"grads[{k}]" for k in keys}
    return found


def _seen_in_a_pass(layer: object, x: Array, known: dict[str, str]) -> tuple[dict[str, str], list[str]]:
    """Parameters that are not in `known` yet: those whose gradient a forward and a backward pass show, and the rest."""
    one = copy.deepcopy(layer)
    before = _arrays(one)
    y = np.asarray(_run(one, x))
    middle = _arrays(one)
    one.backward(np.random.default_rng(0).standard_normal(y.shape))
    after = _arrays(one)
    known = known or guess(one)
    left_behind = [p for p, a in after.items() if p not in middle or not np.array_equal(a, middle[p])]
    found, unchecked = {p: g for p, g in known.items() if p in before}, []
    for path, value in before.items():
        if path in known or path in known.values() or not np.array_equal(middle.get(path), value):
            continue
        if not _moves(layer, path, x, y):
            continue
        same = [p for p in left_behind if after[p].shape == value.shape and p not in found.values() and p != path]
        if len(same) == 1:
            found[path] = same[0]
        else:
            unchecked.append(path)
    return found, unchecked


def _moves(layer: object, path: str, x: Array, y: Array) -> bool:
    """Whether y changes with an array of the layer."""
    one = copy.deepcopy(layer)
    value = _get(one, path)
    _set(one, path, value + 0.01 * (1 + np.abs(value)))
    return not np.array_equal(np.asarray(_run(one, x)), y)


def _run(layer: object, x: Array) -> object:
    return getattr(layer, "forward", layer)(x.copy())


def _arrays(layer: object) -> dict[str, Array]:
    """Copies of all float arrays of an object, in its lists and dicts, and one object deep, by their paths."""
    return {path: np.array(a) for path, a in _found(layer, "", 2) if a.dtype.kind == "f"}


def _found(thing: object, path: str, depth: int) -> Iterator[tuple[str, Array]]:
    if isinstance(thing, np.ndarray):
        yield path, thing
    elif isinstance(thing, list | tuple | dict):
        for key, value in thing.items() if isinstance(thing, dict) else enumerate(thing):
            yield from _found(value, f"{path}[{key}]", depth - 1)
    elif depth and hasattr(thing, "__dict__") and not isinstance(thing, type):
        for name, value in vars(thing).items():
            yield from _found(value, f"{path}.{name}" if path else name, depth - 1)


def advice(layer: object) -> str:
    """How to wrap this very object, for an error message."""
    found = guess(layer) or {"weight": "dweight", "bias": "dbias"}
    if all(re.fullmatch(r"\w+", path) for path in found):
        named = ", ".join(f'{path}="{where}"' for path, where in found.items())
    else:
        named = "{" + ", ".join(f'"{path}": "{where}"' for path, where in found.items()) + "}"
    return f"wrap a layer object of your own: check_layer(wrap(layer, {named}), x)"


def _steps(path: str) -> list[str]:
    return re.findall(r"[^.\[\]\"']+", path)


def _get(thing: object, path: str) -> object:
    for step in _steps(path):
        if isinstance(thing, list | tuple):
            thing = thing[int(step)] if step.isdigit() and int(step) < len(thing) else None
        elif isinstance(thing, dict):
            thing = thing.get(step)
        else:
            thing = getattr(thing, step, None)
    return thing


def _set(thing: object, path: str, value: Array) -> None:
    *way, last = _steps(path)
    for step in way:
        thing = _get(thing, step)
    if isinstance(thing, list):
        thing[int(last)] = value
    elif isinstance(thing, dict):
        thing[last] = value
    else:
        setattr(thing, last, value)
