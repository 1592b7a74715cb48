"""The checks at the door: bad input gets a sentence that names the argument, what it was and what was expected.

They raise TypeError for the wrong kind of thing (a list, integers, two dtypes) and ValueError for a size or value that
does not fit, always before anything is computed or changed.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from operator import attrgetter
from types import ModuleType
from typing import Any, NoReturn

import numpy as np

from minires.backend import FLOATS, Array, array_namespace, to_device

Rng = int | np.random.Generator
"""Where random numbers come from: a seed, or a generator that goes on from where it is."""


def check_arrays(optional: dict[str, Array | None] | None = None, **arrays: Array) -> ModuleType:
    """The library of the named arrays; TypeError unless they share it and share a dtype the engine computes in.

    Those in `optional` may be None.
    """
    if optional:
        arrays |= {name: array for name, array in optional.items() if array is not None}
    try:
        dtypes = {*map(attrgetter("dtype"), arrays.values())}
    except AttributeError:
        _refuse_other_objects(arrays)
    xp = array_namespace(*arrays.values())
    if len(dtypes) > 1 or not dtypes <= COMPUTED:
        _refuse_dtypes(arrays)
    return xp


COMPUTED = {np.dtype(name) for name in FLOATS}


def _refuse_other_objects(objects: dict[str, object]) -> NoReturn:
    name, value = next((name, value) for name, value in objects.items() if not hasattr(value, "dtype"))
    raise TypeError(f"{name} is {_in_short(value)}; expected an array, as from np.asarray") from None


def _refuse_dtypes(arrays: dict[str, Array]) -> NoReturn:
    """Says which array has the wrong dtype, and how to convert it."""
    for name, array in arrays.items():
        if array.dtype == np.uint8:
            raise TypeError(f"{name} has dtype uint8; expected {', '.join(FLOATS)}: {name}.astype(np.float32) / 255")
        if array.dtype not in COMPUTED:
            raise TypeError(
                f"{name} has dtype {array.dtype}; expected {', '.join(FLOATS)}: "
                f"convert it, as in {name}.astype(np.float32)"
            )
    (first, leader), *others = arrays.items()
    name, array = next((name, array) for name, array in others if array.dtype != leader.dtype)
    hint = ": convert x, as in x.astype(np.float32)" if (first, leader.dtype, array.dtype) == _DOUBLE_IMAGES else ""
    raise TypeError(f"{name} has dtype {array.dtype} but {first} has {leader.dtype}; expected one dtype for both{hint}")


_DOUBLE_IMAGES = "x", np.dtype("float64"), np.dtype("float32")
"""The most usual mistake: NumPy makes float64 of everything, and weights are float32."""


def _in_short(value: object) -> str:
    if type(value).__module__.partition(".")[0] == "torch":
        return "a PyTorch tensor (.detach().numpy() makes an array of it)"
    return "None" if value is None else f"a {type(value).__name__}"


def check_number(name: str, value: float, minimum: float, below: float = math.inf) -> float:
    """`value` as a plain number; TypeError unless it is a real one, ValueError unless minimum <= value < below.

    NaN is refused. A np.float64 becomes a plain float: it would turn float32 arrays into float64.
    """
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; expected a number")
    if not minimum <= value < below:
        limit = "" if below == math.inf else f" and below {below}"
        raise ValueError(f"{name} is {value}; expected a number of at least {minimum}{limit}")
    return float(value)


def check_axes(name: str, array: Array, axes: str) -> None:
    """ValueError unless `array` has the axes named in `axes`, such as "N, C, H, W", none of them empty."""
    if array.ndim != axes.count(",") + 1 or 0 in array.shape:
        empty = ", none of them empty" if 0 in array.shape else ""
        raise ValueError(f"{name} has shape {array.shape}; expected {axes.count(',') + 1} axes ({axes}){empty}")


def check_shape(name: str, array: Array, shape: tuple[int, ...], why: str) -> None:
    """ValueError unless `array` has exactly `shape`; `why` says where that shape comes from."""
    if array.shape != tuple(shape):
        raise ValueError(f"{name} has shape {array.shape}; expected {tuple(shape)}, {why}")


def check_dtype(dtype: object) -> np.dtype:
    """`dtype` as NumPy's; TypeError unless the engine computes in it."""
    dtype = np.dtype(dtype)
    if dtype not in COMPUTED:
        raise TypeError(f"dtype is {dtype}; expected {', '.join(FLOATS)}")
    return dtype


def check_parameters(parameters: Any) -> list[Any]:
    """A model, or a sequence of parameters -> the list of them, each once; ValueError unless there are any."""
    if isinstance(parameters, type) or not (hasattr(parameters, "parameters") or hasattr(parameters, "__iter__")):
        raise TypeError(f"parameters is {_in_short(parameters)}; expected a model, or its model.parameters()")
    found = list(parameters.parameters() if hasattr(parameters, "parameters") else parameters)
    if not found:
        raise ValueError("parameters is empty; expected model.parameters()")
    for parameter in found:
        if not hasattr(parameter, "grad") or not hasattr(parameter, "add_grad"):
            raise TypeError(f"parameters holds {_in_short(parameter)}; expected a model, or its model.parameters()")
    return list({id(parameter): parameter for parameter in found}.values())


def distinct_names(parameters: Sequence[Any]) -> list[str]:
    """The names that the parameters have now, made different where two models share some: "weight", "weight-2"."""
    names: list[str] = []
    for number, parameter in enumerate(parameters):
        name, copies = parameter.name or str(number), 1
        while name in names:
            copies += 1
            name = f"{parameter.name}-{copies}"
        names.append(name)
    return names


def check_schedule(schedule: Any) -> None:
    """The fields of a learning-rate schedule: TypeError or ValueError unless they are rates, numbers of steps, ..."""
    for name, value in vars(schedule).items():
        if name in ("lr", "final", "start", "gamma"):
            object.__setattr__(schedule, name, check_number(name, value, 0))
        elif name == "steps":
            least = 0 if hasattr(schedule, "schedule") else 1
            check_number(name, value, least)
        elif name == "milestones":
            if isinstance(value, str) or not hasattr(value, "__iter__"):
                raise TypeError(f"milestones is {_in_short(value)}; expected steps, as in (1000, 2000)")
            object.__setattr__(schedule, name, tuple(value))  # a generator would be used up by the first step
            for step in schedule.milestones:
                check_number("a milestone", step, 0)
        elif isinstance(value, type) or not callable(value):
            raise TypeError(
                f"{name} is {_in_short(value)}; expected another schedule, as in Warmup(Cosine(0.1, 100), 10)"
            )


def raise_with_path(error: Exception, layer: Any) -> NoReturn:
    """Raises the error of a layer again. On its way up through a network, its text gets the path of the layer."""
    text, path, below = getattr(error, "located", (str(error), "", None))
    name = next((name for name, child in layer.children() if child is below), "")
    path = ".".join(filter(None, (name, path)))
    error.located = text, path, layer
    error.args = (f"{path}: {text}" if path else text,)
    raise error


def check_channels(x_shape: tuple[int, ...], weight_shape: tuple[int, ...]) -> None:
    """ValueError unless weight (out, in, kh, kw) has as many input channels as x (N, C, H, W)."""
    channels, expected = x_shape[1], weight_shape[1]
    if channels != expected:
        turned = x_shape[3] == expected  # (N, H, W, C), as matplotlib and TensorFlow have it
        hint = "; its last axis looks like the channels: x.transpose(0, 3, 1, 2) puts them in place" if turned else ""
        raise ValueError(
            f"x has shape {x_shape} and weight has shape {weight_shape}; expected weight "
            f"(out, {channels}, kh, kw), since x has {channels} channels{hint}"
        )


def check_batchnorm(x: Array, weight: Array, bias: Array, mean: Array | None, var: Array | None) -> ModuleType:
    """The library of the arguments; TypeError or ValueError if they do not fit."""
    xp = check_arrays({"mean": mean, "var": var}, x=x, weight=weight, bias=bias)
    if x.ndim not in (2, 4) or 0 in x.shape:
        raise ValueError(f"x has shape {x.shape}; expected (N, C) or (N, C, H, W), no axis empty")
    if (mean is None) != (var is None):
        raise ValueError("mean and var: one of them is None; expected both (inference) or neither (training)")
    given = (
        {"weight": weight, "bias": bias} if mean is None else {"weight": weight, "bias": bias, "mean": mean, "var": var}
    )
    for name, array in given.items():
        check_shape(name, array, x.shape[1:2], f"since x has {x.shape[1]} channels")
    if mean is None and x.size == x.shape[1]:
        raise ValueError(f"x has shape {x.shape}: one value per channel; expected at least 2 to take a variance of")
    return xp


def check_upstream(dy: Array, shape: tuple[int, ...], like: Array) -> ModuleType:
    """The door of every backward: dy must look like the output y of the forward pass whose cache is used."""
    xp = check_arrays(dy=dy, **{"the forward's input": like})
    check_shape("dy", dy, shape, "the shape of the forward's output")
    return xp


def check_labels(labels: Array | Sequence[int], logits: Array) -> Array:
    """The labels (N,) of logits (N, K) as an array; TypeError or ValueError unless they are whole numbers in 0..K-1."""
    n, k = logits.shape
    if isinstance(labels, list | tuple):
        labels = np.asarray(labels)
    if getattr(labels, "shape", None) == (n, k) and k > 1:
        raise ValueError(f"labels has shape {(n, k)}, one-hot perhaps; expected {(n,)}, as from labels.argmax(axis=1)")
    if getattr(labels, "dtype", np.dtype(object)).kind not in "iu":
        raise TypeError(f"labels are {getattr(labels, 'dtype', _in_short(labels))}; expected whole numbers")
    check_shape("labels", labels, (n,), f"one for each row of logits {logits.shape}")
    if isinstance(labels, np.ndarray) and (labels.min() < 0 or labels.max() >= k):
        worst = labels.min() if labels.min() < 0 else labels.max()
        raise ValueError(f"labels hold {worst}; expected 0..{k - 1}, since logits have {k} columns")
    return labels


def check_loss_upstream(dy: Array | float, like: Array) -> Array | float:
    """The dy of a loss: a plain number, or an array without axes in the dtype of the forward's input.

    A np.float64 becomes a plain float: it would turn float32 gradients into float64.
    """
    if isinstance(dy, int | float):
        return float(dy)
    check_upstream(dy, (), like)
    return dy


def match_state(own: Mapping[str, Array], given: Mapping[str, Array]) -> tuple[list[str], list[str], list[str]]:
    """How a state fits: the names missing in `given`, its unexpected names, and a sentence for each wrong shape."""
    missing, unexpected = sorted(own.keys() - given.keys()), sorted(given.keys() - own.keys())
    shapes = {name: (tuple(given[name].shape), tuple(own[name].shape)) for name in own if name in given}
    misshaped = [f"{name} has shape {was}; expected {right}" for name, (was, right) in shapes.items() if was != right]
    return missing, unexpected, misshaped


def convert_state(own: Mapping[str, Array], given: Mapping[str, Array]) -> dict[str, Array]:
    """`given` in the dtype and on the device of `own`; ValueError or TypeError unless it fits exactly."""
    missing, unexpected, misshaped = match_state(own, given)
    if missing or unexpected:
        raise ValueError(
            f"state: missing {missing or 'nothing'}, unexpected {unexpected or 'nothing'}; expected exactly the names "
            "of state_dict() (init.from_pretrained loads weights that fit in part)"
        )
    if misshaped:
        raise ValueError(f"state: {'; '.join(misshaped)}")
    for name, value in own.items():
        if given[name].dtype.kind not in ("f", value.dtype.kind):
            raise TypeError(f"state: {name} has dtype {given[name].dtype}; expected floating-point numbers")
    return {name: to_device(given[name], array_namespace(v)).astype(v.dtype) for name, v in own.items()}


def whole(name: str, value: int) -> int:
    """A size: TypeError unless `value` is a whole number, ValueError unless it is at least 1."""
    if not hasattr(value, "__index__") or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; expected a whole number")
    if value < 1:
        raise ValueError(f"{name} is {value}; expected at least 1")
    return int(value)


def pair(name: str, value: int | tuple[int, int], minimum: int) -> tuple[int, int]:
    """An int or a pair of them -> (vertical, horizontal), each at least `minimum`."""
    both = tuple(value) if isinstance(value, tuple | list) else (value, value)
    if len(both) != 2 or {*map(type, both)} != {int}:
        both = _plain_pair(name, value, both)
    if min(both) < minimum:
        raise ValueError(f"{name} is {value!r}; expected at least {minimum}")
    return both


def _plain_pair(name: str, value: object, both: tuple) -> tuple[int, int]:
    if len(both) != 2 or not all(hasattr(v, "__index__") and not isinstance(v, bool) for v in both):
        raise TypeError(f"{name} is {value!r}; expected a whole number or a pair of them")
    return int(both[0]), int(both[1])


def whole_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """`shape` as a tuple of plain integers; TypeError unless it is a shape, ValueError for a negative size."""
    sizes = tuple(shape) if isinstance(shape, Sequence) else (None,)
    if not all(hasattr(n, "__index__") and not isinstance(n, bool) for n in sizes):
        raise TypeError(f"shape is {shape!r}; expected whole numbers, as in (64, 3, 3, 3)")
    if min(sizes, default=0) < 0:
        raise ValueError(f"shape is {shape!r}; expected sizes of at least 0")
    return tuple(int(n) for n in sizes)


def generator(rng: Rng | None) -> np.random.Generator:
    """A seed -> its generator; a generator -> itself; None -> one seeded by the operating system."""
    if rng is not None and not isinstance(rng, int | np.integer | np.random.Generator):
        raise TypeError(f"rng is {rng!r}; expected a whole number (a seed) or a numpy.random.Generator")
    if isinstance(rng, int | np.integer) and rng < 0:
        raise ValueError(f"rng is {rng}; expected a seed of at least 0")
    return np.random.default_rng(rng)


def check_scale(name: str, value: float) -> None:
    """ValueError unless `value` is a finite number of at least 0."""
    if not (isinstance(value, numbers.Real) and 0 <= value < math.inf):
        raise ValueError(f"{name} is {value!r}; expected a finite number of at least 0")
