"""How layers and networks print themselves."""

from __future__ import annotations

import inspect
import math
from typing import Any


def constructor_call(thing: Any) -> str:
    """`Conv2d(3, 16, 3, padding=1)`: the call that makes such an object, read from its constructor and attributes.

    Arguments that are at their defaults are left out, and so are those that are neither numbers nor text.
    """
    arguments = []
    for name, argument in inspect.signature(type(thing).__init__).parameters.items():
        value = getattr(thing, name, argument.default)
        if isinstance(argument.default, bool):  # bias=True, of which a layer keeps a Parameter or None
            value = value is not None and value is not False
        if isinstance(value, tuple) and len(set(value)) == 1:
            value = value[0]
        if isinstance(value, int | float | tuple | str) and value != argument.default:
            arguments.append(repr(value) if argument.default is argument.empty else f"{name}={value!r}")
    return f"{type(thing).__name__}({', '.join(arguments)})"


def layer_table(network: Any) -> str:
    """A table of a network's layers: path, call, output shape as of the last forward pass, number of parameters."""
    rows = [("layer", "", "output shape", "parameters")]
    for path, layer in network.named_layers():
        if not any(True for _ in layer.children()):
            shape = "?" if layer._shape is None else " x ".join(map(str, layer._shape[1:]))
            rows.append((path, repr(layer), shape, f"{_count(layer):,}"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    header, *lines = ("  ".join(map("{:{}{}}".format, row, "<<<>", widths)) for row in rows)
    rule = "-" * len(header)
    return "\n".join([repr(network), header, rule, *lines, rule, f"{_count(network):,} parameters"])


def _count(layer: Any) -> int:
    return sum(math.prod(p.value.shape) for p in layer.parameters())
