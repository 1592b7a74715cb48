"""Anybody's layer objects, for `check_layer`.

    class Affine:
        def forward(self, x): ...            # keeps what backward needs in self
        def backward(self, dy): ...          # returns dx, leaves the gradients in self.dweight and self.dbias

    check_layer(wrap(Affine(weight, bias), weight="dweight", bias="dbias"), x)

A path is an attribute ("dweight"), one inside it ("W.grad"), or an entry of a list or dict ("grads[0]", "grads[W]").
"""

from __future__ import annotations

import copy
import re

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
        dx = layer.backward(dy)
        return (dx[0] if isinstance(dx, tuple) else dx, *(_get(layer, path) for path in self.gradients.values()))


def wrap(layer: object, paths: dict[str, str] | None = None, **names: str) -> WrappedLayer:
    """Takes a layer object that is not minires' own: parameter="where backward leaves its gradient".

    paths: the same as a dict, for names that are no keyword, as in {"params[0]": "grads[0]"}. Without any, attributes
    named in a common way are taken (weight and dweight, W and dW, params and grads). The layer itself is left alone.
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
