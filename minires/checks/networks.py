"""Layers and networks: what they are made of, and the shapes that they take."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any, NoReturn

import numpy as np

from minires.checks.operations import check_arrays, pair, plain_index, whole, whole_shape
from minires.checks.wording import in_short, shown, takes


def check_model(model: Any) -> Any:
    """TypeError unless `model` is a layer or a network: an object, not a class."""
    if isinstance(model, type) or not hasattr(model, "named_layers"):
        raise TypeError(f"model is {in_short(model)}; expected a layer or a network, as from nn.resnet20()")
    return model


def check_batch(x: Any) -> bool:
    """Whether x is a batch itself, and not the shape of one; TypeError for an array that is none the engine takes."""
    if isinstance(x, type) or not hasattr(x, "shape"):
        return False
    check_arrays(x=x)
    return True


def check_input_shape(layer: Any, shape: Sequence[int]) -> tuple[int, ...]:
    """`shape` as a tuple; TypeError or ValueError where a layer's forward would refuse an input of it.

    What a layer takes is read from what it says of itself: in_channels, in_features, num_features, num_channels,
    normalized_shape, kernel_size.
    """
    sizes = whole_shape(shape)
    images = any(hasattr(layer, name) for name in ("in_channels", "num_channels", "kernel_size"))
    axes = (
        (4,) if images else (2,) if hasattr(layer, "in_features") else (2, 4) if hasattr(layer, "num_features") else ()
    )
    if (axes and len(sizes) not in axes) or len(sizes) < 1 or 0 in sizes:
        expected = " or ".join(("(N, C)" if n == 2 else "(N, C, H, W)") for n in axes) or "(N, ...)"
        raise ValueError(f"shape is {sizes}; expected {expected}, no axis empty")
    for name in ("in_channels", "in_features", "num_features", "num_channels"):
        if sizes[1:2] != (wanted := getattr(layer, name, sizes[1:2] and sizes[1]),) and len(sizes) > 1:
            raise ValueError(f"shape is {sizes}; expected {wanted} in its second place: {name} is {wanted}")
    last = getattr(layer, "normalized_shape", ())
    if last and (len(sizes) <= len(last) or sizes[-len(last) :] != last):
        raise ValueError(f"shape is {sizes}; expected a batch of {last}: normalized_shape is {last}")
    return sizes


def check_batch_shape(what: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape (N, ...) of a batch; ValueError for one without a second axis."""
    if len(shape) < 2:
        raise ValueError(f"{what} {shape}; expected (N, ...)")
    return shape


def image_size(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of images (N, C, H, W); ValueError for another number of axes."""
    if len(shape) != 4:
        raise ValueError(f"shape is {shape}; expected (N, C, H, W)")
    return shape


def layer_padding(padding: Any, kernel: tuple[int, int], dilation: tuple[int, int]) -> tuple[int, int] | str:
    """A layer's padding as a pair. "same" stays a word only where one side gets a pixel more than the other."""
    if isinstance(padding, str) and padding == "same":
        around = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return "same" if any(a % 2 for a in around) else (around[0] // 2, around[1] // 2)
    return pair("padding", padding, 0)


def check_sum(branch: tuple[int, ...], shortcut: tuple[int, ...]) -> None:
    """ValueError unless the two arms of a residual block put out the same shape."""
    if branch != shortcut:
        raise ValueError(f"the branch puts out {branch} and the shortcut {shortcut}; expected the same shape of both")


def factory(name: str, value: Any, example: str) -> Any:
    """TypeError unless `value` makes something when it is called: a class or a function, not a layer itself."""
    right = callable(value) and (isinstance(value, type) or not hasattr(value, "named_layers"))
    cause = None
    if right and name == "activation":
        try:
            right = hasattr(value(), "named_layers")
        except (TypeError, ValueError) as error:  # it needs arguments, say
            right, cause = False, error
    elif right:
        right = hasattr(value, "expansion") and hasattr(value, "__name__")
    if not right:
        was = f"the class {value.__name__}" if isinstance(value, type) else in_short(value)
        raise TypeError(f"{name} is {was}; expected what makes one, such as the class {example}") from cause
    return value


PLAIN = frozenset({bool, int, float, str, type(None)})
"""Types of settings, in which no layer can be."""


def entries_of(name: str, value: Any) -> Iterable[tuple[Any, Any]]:
    """(key, entry) of an attribute that is a list, tuple or dictionary; none of another.

    TypeError where it keeps layers or parameters in a set, say, in which nobody looks for them. Each step of training
    asks this of many attributes of every layer, so a setting such as (1, 1) is passed by at once.
    """
    if type(value) is tuple and PLAIN.issuperset(map(type, value)):
        return ()
    if isinstance(value, dict):
        return value.items()
    if isinstance(value, list | tuple):
        return enumerate(value)
    if isinstance(value, set | frozenset | deque | Mapping):
        inside: Iterable[Any] = value.values() if isinstance(value, Mapping) else value
    elif isinstance(value, np.ndarray) and value.dtype == object:
        inside = value.flat
    elif is_dataclass(value):
        inside = () if isinstance(value, type) else vars(value).values()
    else:
        return ()
    if any(hasattr(thing, "named_layers") or hasattr(thing, "add_grad") for thing in inside):
        raise TypeError(
            f"{name} is a {type(value).__name__} with layers in it; expected a list, tuple or dict of them: parameters "
            "in anything else would be neither trained nor saved"
        )
    return ()


def check_observer(observer: Any) -> None:
    """TypeError unless `observer` can be called with what an observer is told."""
    if not takes(observer, "layer", "path", "direction", "x", "y"):
        raise TypeError(f"observer is {in_short(observer)}; expected a function of (layer, path, direction, x, y)")


def layer_name(name: str) -> str:
    """TypeError unless `name` is text, ValueError for an empty one or one with a dot, which stands between names."""
    if not isinstance(name, str):
        raise TypeError(f"name is {in_short(name)}; expected text, as in add('conv1', layer)")
    if not name or "." in name:
        raise ValueError(f"name is {name!r}; expected one without dots, which stand between the names in a path")
    return name


def raise_with_path(error: Exception, layer: Any) -> NoReturn:
    """Raises the error of a layer again. On its way up through a network, its text gets the path of the layer."""
    text, path, below = getattr(error, "located", (str(error), "", None))
    name = next((name for name, child in layer.children() if child is below), "")
    path = ".".join(filter(None, (name, path)))
    error.located = text, path, layer
    error.args = (f"{path}: {text}" if path else text,)
    raise error


def check_blocks(blocks: Sequence[int]) -> Sequence[int]:
    """TypeError or ValueError unless `blocks` are numbers of blocks, at least one in each stage."""
    found = tuple(blocks) if isinstance(blocks, tuple | list) else (None,)
    if not found or any(plain_index(n) is None or not 1 <= plain_index(n) <= DEEPEST for n in found):
        raise ValueError(f"blocks is {shown(blocks)}; expected at least one block in each stage, as in (3, 3, 3)")
    return found


DEEPEST = 1000
"""Blocks in a stage: ten times what the deepest published network has (1,202 layers), and a recursion's limit."""


def blocks_of(depth: int, per_stage: int, block: type) -> tuple[int, int, int]:
    """The blocks in three stages that make a network of `depth`; ValueError where no whole number does."""
    n, rest = divmod(whole("depth", depth) - 2, per_stage)
    if rest or not 1 <= n <= DEEPEST:
        examples = ", ".join(str(per_stage * k + 2) for k in (1, 2, 3))
        raise ValueError(
            f"depth is {depth}; expected {per_stage}n + 2 for {getattr(block, '__name__', block)}: {examples}, ..., "
            f"{per_stage * DEEPEST + 2}"
        )
    return (n,) * 3
