"""The checks at the door: bad input gets a sentence that names the argument, what it was and what was expected.

They raise TypeError for the wrong kind of thing (a list, integers, two dtypes) and ValueError for a size or value that
does not fit, always before anything is computed or changed.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from inspect import signature
from operator import attrgetter, index
from types import FunctionType, ModuleType
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
    """What an argument was, in a few words: a plain value as it is, a class as one, everything else by its kind."""
    if isinstance(value, type):
        return f"the class {value.__name__}, not an object of it"
    if type(value).__module__.partition(".")[0] == "torch" and hasattr(value, "detach"):
        return "a PyTorch tensor (.detach().numpy() makes an array of it)"
    if value is None or isinstance(value, bool | int | float | str | np.number):
        return f"{value!r:.60}" if not isinstance(value, np.number) else str(value)
    return f"an array of shape {value.shape}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"


def _shown(value: object) -> str:
    """`_in_short`, but short tuples and lists of plain values as they are."""
    plain = isinstance(value, tuple | list) and all(isinstance(v, int | float | str) for v in value)
    return f"{value!r:.60}" if plain else _in_short(value)


def layer_padding(padding: Any, kernel: tuple[int, int], dilation: tuple[int, int]) -> tuple[int, int] | str:
    """A layer's padding as a pair. "same" stays a word only where one side gets a pixel more than the other."""
    if isinstance(padding, str) and padding == "same":
        around = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return "same" if any(a % 2 for a in around) else (around[0] // 2, around[1] // 2)
    return pair("padding", padding, 0)


def check_same_padding(stride: tuple[int, int]) -> None:
    """ValueError for padding "same" with a stride: y could not be as large as x."""
    if stride != (1, 1):
        raise ValueError(f'padding is "same" and stride is {stride}; expected stride 1, or padding in pixels')


def check_number(name: str, value: float, minimum: float, below: float = math.inf) -> float:
    """`value` as a plain number; TypeError unless it is a real one, ValueError unless minimum <= value < below.

    NaN is refused. A np.float64 becomes a plain float: it would turn float32 arrays into float64.
    """
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise TypeError(f"{name} is {_in_short(value)}; expected a number")
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
    try:
        found = np.dtype(dtype) if isinstance(dtype, str | type | np.dtype) else None
    except (TypeError, ValueError):
        found = None
    if found not in COMPUTED:
        raise TypeError(f"dtype is {found or _in_short(dtype)}; expected {', '.join(FLOATS)}")
    return found


def check_parameters(parameters: Any) -> list[Any]:
    """A model, or a sequence of parameters -> the list of them, each once; ValueError unless there are any."""
    if isinstance(parameters, type | np.ndarray) or not (
        hasattr(parameters, "parameters") or hasattr(parameters, "__iter__")
    ):
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


def check_groups(groups: int, in_channels: int, out_channels: int, name: str = "groups") -> int:
    """The number of groups; ValueError unless it divides both numbers of channels."""
    if in_channels % whole(name, groups) or out_channels % groups:
        channels = f"{in_channels} input channels and the {out_channels} output channels"
        channels = f"{in_channels} channels" if in_channels == out_channels else channels
        raise ValueError(f"{name} is {groups}; expected a number that divides the {channels}")
    return int(groups)


def check_normalized_shape(x: Array, weight: Array, bias: Array) -> None:
    """ValueError unless weight and bias have the shape of the last axes of x, which then hold more than one value."""
    if not 0 < weight.ndim < x.ndim or weight.shape != x.shape[-weight.ndim :] or 0 in x.shape:
        raise ValueError(
            f"weight has shape {weight.shape} and x has shape {x.shape}; expected the shape of x's last axes, "
            f"(features,) = {x.shape[-1:]} or all but the first, {x.shape[1:]}, none of them empty"
        )
    check_shape("bias", bias, weight.shape, "the shape of weight")


def check_channels(x_shape: tuple[int, ...], weight_shape: tuple[int, ...], groups: int = 1) -> None:
    """ValueError unless weight (out, in / groups, kh, kw) and x (N, in, H, W) fit."""
    channels, expected = x_shape[1], weight_shape[1] * whole("groups", groups)
    if channels == expected:
        check_groups(groups, channels, weight_shape[0])
    elif groups != 1:
        raise ValueError(
            f"x has shape {x_shape} and weight has shape {weight_shape}, groups is {groups}; expected weight "
            f"(out, {channels} / {groups}, kh, kw), since x has {channels} channels"
        )
    else:
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


def check_elementwise(dy: Array, cache: Array) -> ModuleType:
    """`check_upstream` for an op whose cache is one array of y's shape."""
    return check_upstream(dy, cache_of(cache).shape, cache)


def check_upstream(dy: Array, shape: tuple[int, ...], like: Array) -> ModuleType:
    """The door of every backward: dy must look like the output y of the forward pass whose cache is used."""
    xp = check_arrays(dy=dy, **{"the forward's input": like})
    check_shape("dy", dy, shape, "the shape of the forward's output")
    return xp


def check_labels(labels: Array | Sequence[int], logits: Array) -> Array:
    """The labels (N,) of logits (N, K) as an array; TypeError or ValueError unless they are whole numbers in 0..K-1."""
    n, k = logits.shape
    if isinstance(labels, list | tuple) and all(_index(label) is not None for label in labels):
        labels = np.asarray(labels)
    if getattr(labels, "shape", None) == (n, k) and k > 1:
        raise ValueError(f"labels has shape {(n, k)}, one-hot perhaps; expected {(n,)}, as from labels.argmax(axis=1)")
    if getattr(getattr(labels, "dtype", None), "kind", "O") not in "iu":
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
    check_state("state", given)
    missing, unexpected = sorted(own.keys() - given.keys()), sorted(given.keys() - own.keys())
    shapes = {name: (tuple(given[name].shape), tuple(own[name].shape)) for name in own if name in given}
    misshaped = [f"{name} has shape {was}; expected {right}" for name, (was, right) in shapes.items() if was != right]
    return missing, unexpected, misshaped


def check_state(name: str, state: Mapping[str, Array]) -> Mapping[str, Array]:
    """TypeError unless `state` is a dictionary of arrays by name."""
    if isinstance(state, type) or not isinstance(state, Mapping):
        raise TypeError(f"{name} is {_in_short(state)}; expected a dictionary of arrays, as from model.state_dict()")
    for key, value in state.items():
        if not isinstance(key, str):
            raise TypeError(f"{name}: a key is {_in_short(key)}; expected names")
        if isinstance(value, type) or not hasattr(value, "shape") or not hasattr(getattr(value, "dtype", None), "kind"):
            raise TypeError(f"{name}: {key} is {_in_short(value)}; expected an array, as from np.asarray")
    return state


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
    number = _index(value)
    if number is None:
        raise TypeError(f"{name} is {_in_short(value)}; expected a whole number")
    if not 1 <= number <= MOST:
        raise ValueError(f"{name} is {number}; expected at least 1{' and a size that fits' if number > 1 else ''}")
    return number


def check_whole(name: str, value: int, least: int) -> int:
    """TypeError unless `value` is a whole number, ValueError unless it is at least `least`; of any length."""
    number = _index(value)
    if number is None:
        raise TypeError(f"{name} is {_in_short(value)}; expected a whole number")
    if number < least:
        raise ValueError(f"{name} is {number}; expected at least {least}")
    return number


MOST = 2**40
"""No size is larger: NumPy could not even count the bytes."""


def _index(value: object) -> int | None:
    """`value` as a plain whole number; None where it is none."""
    if isinstance(value, bool | np.bool_ | type):
        return None
    try:
        return index(value)
    except Exception:
        return None


def pair(name: str, value: int | tuple[int, int], minimum: int) -> tuple[int, int]:
    """An int or a pair of them -> (vertical, horizontal), each at least `minimum`."""
    both = tuple(value) if isinstance(value, tuple | list) else (value, value)
    if len(both) != 2 or {*map(type, both)} != {int}:
        both = _plain_pair(name, value, both)
    if not minimum <= min(both) <= max(both) <= MOST:
        raise ValueError(f"{name} is {_shown(value)}; expected at least {minimum}, and sizes that fit")
    return both


def _plain_pair(name: str, value: object, both: tuple) -> tuple[int, int]:
    plain = tuple(_index(v) for v in both)
    if len(both) != 2 or None in plain:
        raise TypeError(f"{name} is {_shown(value)}; expected a whole number or a pair of them")
    return plain


def flag(name: str, value: bool) -> bool:
    """TypeError unless `value` is True or False."""
    if not isinstance(value, bool | np.bool_) and not (isinstance(value, int) and value in (0, 1)):
        raise TypeError(f"{name} is {_in_short(value)}; expected True or False")
    return bool(value)


def choice(name: str, value: Any, choices: Sequence[Any]) -> Any:
    """ValueError unless `value` is one of the choices."""
    if not isinstance(value, str | int | None) or value not in choices:
        raise ValueError(f"{name} is {_in_short(value)}; expected {' or '.join(map(repr, choices))}")
    return value


def factory(name: str, value: Any, example: str) -> Any:
    """TypeError unless `value` makes something when it is called: a class or a function, not a layer itself."""
    right = callable(value) and (isinstance(value, type) or not hasattr(value, "named_layers"))
    if right and isinstance(value, FunctionType):
        try:
            signature(value).bind()
        except TypeError:
            right = name != "activation"  # a block gets arguments, an activation none
    if not right:
        raise TypeError(f"{name} is {_in_short(value)}; expected what makes one, such as the class {example}")
    return value


def check_model(model: Any) -> Any:
    """TypeError unless `model` is a layer or a network: an object, not a class."""
    if isinstance(model, type) or not hasattr(model, "named_layers"):
        raise TypeError(f"model is {_in_short(model)}; expected a layer or a network, as from nn.resnet20()")
    return model


def layer_name(name: str) -> str:
    """TypeError unless `name` is text, ValueError for an empty one or one with a dot, which stands between names."""
    if not isinstance(name, str):
        raise TypeError(f"name is {_in_short(name)}; expected text, as in add('conv1', layer)")
    if not name or "." in name:
        raise ValueError(f"name is {name!r}; expected one without dots, which stand between the names in a path")
    return name


def check_batch(x: Any) -> bool:
    """Whether x is a batch itself, and not the shape of one; TypeError for an array that is none the engine takes."""
    if isinstance(x, type) or not hasattr(x, "shape"):
        return False
    check_arrays(x=x)
    return True


def named(what: str, value: Any, known: Mapping[str, Any], method: str) -> Any:
    """What `value` stands for: itself if it has `method`, an object of known[...] if it is its name."""
    if isinstance(value, str):
        key = value.replace("_", "").lower()
        if key not in known:
            close = get_close_matches(key, known, 1)
            hint = (
                f"did you mean {close[0]!r}?" if close else "expected a name such as 'he_normal', 'zeros', 'orthogonal'"
            )
            raise ValueError(f"unknown {what} {value!r:.60}; {hint}")
        return known[key]()
    if isinstance(value, type) or not hasattr(value, method):
        raise TypeError(f"the {what} is {_in_short(value)}; expected an object or a name, as HeNormal() or 'he_normal'")
    return value


def check_blocks(blocks: Sequence[int]) -> Sequence[int]:
    """TypeError or ValueError unless `blocks` are numbers of blocks, at least one in each stage."""
    found = tuple(blocks) if isinstance(blocks, tuple | list) else (None,)
    if not found or any(_index(n) is None or not 1 <= _index(n) <= DEEPEST for n in found):
        raise ValueError(f"blocks is {_shown(blocks)}; expected at least one block in each stage, as in (3, 3, 3)")
    return found


DEEPEST = 1000
"""Blocks in a stage: ten times what the deepest published network has (1,202 layers), and a recursion's limit."""


def blocks_of(depth: int, per_stage: int, block: type) -> tuple[int, int, int]:
    """The blocks in three stages that make a network of `depth`; ValueError where no whole number does."""
    n, rest = divmod(whole("depth", depth) - 2, per_stage)
    if rest or not 1 <= n <= DEEPEST:
        examples = ", ".join(str(per_stage * k + 2) for k in (1, 2, 3))
        raise ValueError(
            f"depth is {depth}; expected {per_stage}n + 2 for {getattr(block, '__name__', block)}: {examples}, ..."
        )
    return (n,) * 3


def cache_of(cache: Any, kind: type | None = None, size: int | None = None) -> Any:
    """The cache of a forward pass, of this kind (None: an array); TypeError for anything else, such as (y, cache)."""
    right = hasattr(cache, "shape") and not isinstance(cache, type) if kind is None else type(cache) is kind
    if not right or (size is not None and (len(cache) != size or not hasattr(cache[0], "shape"))):
        raise TypeError(
            f"cache is {_in_short(cache)}; expected what the forward pass returned beside y: y, cache = ..."
        )
    return cache


def check_input_shape(layer: Any, shape: Sequence[int]) -> tuple[int, ...]:
    """`shape` as a tuple; TypeError or ValueError where a layer's forward would refuse an input of it.

    What a layer takes is read from what it says of itself: in_channels, in_features, num_features, kernel_size.
    """
    sizes = whole_shape(shape)
    images = hasattr(layer, "in_channels") or hasattr(layer, "kernel_size")
    axes = (
        (4,) if images else (2,) if hasattr(layer, "in_features") else (2, 4) if hasattr(layer, "num_features") else ()
    )
    if (axes and len(sizes) not in axes) or len(sizes) < 1 or 0 in sizes:
        expected = " or ".join(("(N, C)" if n == 2 else "(N, C, H, W)") for n in axes) or "(N, ...)"
        raise ValueError(f"shape is {sizes}; expected {expected}, no axis empty")
    for name in ("in_channels", "in_features", "num_features"):
        if sizes[1:2] != (wanted := getattr(layer, name, sizes[1:2] and sizes[1]),) and len(sizes) > 1:
            raise ValueError(f"shape is {sizes}; expected {wanted} in its second place: {name} is {wanted}")
    return sizes


def image_size(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of images (N, C, H, W); ValueError for another number of axes."""
    if len(shape) != 4:
        raise ValueError(f"shape is {shape}; expected (N, C, H, W)")
    return shape


def check_sum(branch: tuple[int, ...], shortcut: tuple[int, ...]) -> None:
    """ValueError unless the two arms of a residual block put out the same shape."""
    if branch != shortcut:
        raise ValueError(f"the branch puts out {branch} and the shortcut {shortcut}; expected the same shape of both")


def check_half(padding: tuple[int, int], kernel: tuple[int, int]) -> None:
    """ValueError for a pool's padding of more than half its kernel: a window could lie on padding alone."""
    if any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
        raise ValueError(f"padding is {padding}; expected at most half of kernel_size {kernel}")


def whole_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """`shape` as a tuple of plain integers; TypeError unless it is a shape, ValueError for a negative size."""
    sizes = tuple(shape) if isinstance(shape, tuple | list | range) else (None,)
    if {*map(type, sizes)} != {int}:
        sizes = tuple(map(_index, sizes))
    if None in sizes:
        raise TypeError(f"shape is {_shown(shape)}; expected whole numbers, as in (64, 3, 3, 3)")
    if not 0 <= min(sizes, default=0) <= max(sizes, default=0) <= MOST:
        raise ValueError(f"shape is {_shown(shape)}; expected sizes of at least 0, and no larger than fit")
    return sizes


def generator(rng: Rng | None) -> np.random.Generator:
    """A seed -> its generator; a generator -> itself; None -> one seeded by the operating system."""
    if isinstance(rng, bool) or not isinstance(rng, int | np.integer | np.random.Generator | None):
        raise TypeError(f"rng is {_in_short(rng)}; expected a whole number (a seed) or a numpy.random.Generator")
    if isinstance(rng, int | np.integer) and rng < 0:
        raise ValueError(f"rng is {rng}; expected a seed of at least 0")
    return np.random.default_rng(rng)


def check_scale(name: str, value: float) -> None:
    """ValueError unless `value` is a finite number of at least 0."""
    if not (isinstance(value, numbers.Real) and 0 <= value < math.inf):
        raise ValueError(f"{name} is {_in_short(value)}; expected a finite number of at least 0")
