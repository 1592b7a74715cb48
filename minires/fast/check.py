"""Does the fast way still compute what the definition says? Compared before it is used, layer by layer.

Each distinct configuration of a layer is compared once: on a copy with random weights, gains and biases that are not
zero, in float64 (or complex128), on a few images of odd size, in training and in evaluation, forward and backward. The
copy is laid out in uneven pieces, as a batch is. Values are compared, not code: a change that shows only on other
values is not noticed.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from types import FunctionType
from typing import Any

import numpy as np

from minires import nn
from minires.backend import Array, array_namespace, to_numpy
from minires.fast.piece import Refused, Worker, channels_first
from minires.fast.program import Program, known_kind
from minires.fast.team import ThreadGroup

IMAGES = (slice(0, 2), slice(2, 5))
CHANNELS = ("in_channels", "num_features", "in_features")
"""What layers call the number of channels that they take."""

TOLERANCE = 1e-9
"""Largest difference, relative to the largest value: both ways compute in float64."""


class Checked:
    """Which configurations have been found to agree."""

    def __init__(self) -> None:
        self._found: set[Any] = set()
        self._functions: list[FunctionType] = []

    def check(self, program: Program) -> None:
        """Compares what has not been compared yet.

        Raises ValueError naming the layer, the pass and the difference where the two ways disagree, and whatever the
        definition itself raises.
        """
        functions = list(_functions_of_the_definition())
        if functions != self._functions:
            self._found.clear()
        for path, layer, configuration in program.layers:
            if configuration is not None and configuration not in self._found:
                _compare(path, layer)
                self._found.add(configuration)
        self._functions = functions


def _functions_of_the_definition() -> Iterator[FunctionType]:
    for name, module in list(sys.modules.items()):
        if name == "minires.ops" or name.startswith("minires.ops."):
            yield from (value for value in vars(module).values() if isinstance(value, FunctionType))


def _compare(path: str, layer: nn.Layer) -> None:
    """Raises ValueError if the two ways disagree on a copy of the layer."""
    rng = np.random.default_rng(0)
    probe = _probe(layer, rng)
    x = _on_device(_input(probe, rng), probe)
    for mode in ("training", "evaluation"):
        probe.train(mode == "training")
        definition, fast = copy.deepcopy(probe), copy.deepcopy(probe)
        y = definition.forward(x)
        dy = _on_device(rng.standard_normal(y.shape), probe)
        expected = {"forward": {"y": y}, "backward": {"dx": definition.backward(dy)} | _state(definition)}
        expected["inference"] = {"y": definition.infer(x)}
        found = _fast_passes(fast, x, dy)
        for direction, arrays in expected.items():
            for name, array in arrays.items():
                difference = _difference(array, found[direction][name])
                if not difference <= TOLERANCE:
                    raise ValueError(
                        f"{path or 'the model'} ({type(layer).__name__}), {direction} in {mode}: {name}, compiled, "
                        f"differs from the definition's by {difference:.2g} of its largest value. Has minires.ops or "
                        "minires.nn been changed? The model's own passes run it as it stands"
                    )


def _fast_passes(layer: nn.Layer, x: Array, dy: Array) -> dict[str, dict[str, Array]]:
    """The same three passes, the fast way."""
    xp, group = array_namespace(x), ThreadGroup(0, [[]])
    try:
        worker = Worker(xp, Program(True, layer), IMAGES)
        y = xp.concatenate(worker.forward(group, x))
        dx = xp.concatenate(worker.backward(group, dy, wants_dx=True))
        for parameter, gradient in worker.gradients:
            parameter.add_grad(gradient)
        state = _state(layer)
        inferred = xp.concatenate(Worker(xp, Program(False, layer), IMAGES).forward(group, x))
    except Refused as refusal:
        raise ValueError(f"{layer!r}: the fast way does not know how to compute it") from refusal.__cause__
    y, dx, inferred = (channels_first(array) for array in (y, dx, inferred))
    return {"forward": {"y": y}, "backward": {"dx": dx} | state, "inference": {"y": inferred}}


def _state(layer: nn.Layer) -> dict[str, Array]:
    """What the passes have left behind: gradients and running statistics."""
    gradients = {f"gradient of {p.name}": p.grad for p in layer.parameters()}
    return gradients | {name: getattr(owner, attribute) for name, owner, attribute in layer.named_buffers()}


def _difference(expected: Array, found: Array) -> float:
    """Largest difference, relative to the largest value (or to 1); NaN or infinite where an array is not finite."""
    if expected.shape != found.shape:
        return np.inf
    expected, found = to_numpy(expected), to_numpy(found)
    return float(np.abs(expected - found).max(initial=0) / max(1, np.abs(expected).max(initial=0)))


def _probe(layer: nn.Layer, rng: np.random.Generator) -> nn.Layer:
    """A copy of the layer in double precision, its arrays random; of a Sequential, one around two small layers."""
    if known_kind(layer) is nn.Sequential:
        probe = type(layer).__new__(type(layer))
        probe.add("0", nn.Tanh())
        probe.add("1", nn.LeakyReLU(0.3))
        return probe
    probe = copy.deepcopy(layer)
    kinds = {p.value.dtype.kind for p in probe.parameters()}
    probe.astype("complex128" if "c" in kinds else "float64")
    probe.zero_grad()
    for p in probe.parameters():
        size = p.value[0].size if p.value.ndim > 1 else 1
        p.value = _on_device((rng.random(p.value.shape) + 0.5) * rng.choice([-1, 1], p.value.shape) / size**0.5, probe)
    for _, owner, attribute in probe.named_buffers():
        setattr(owner, attribute, _on_device(rng.random(getattr(owner, attribute).shape) + 0.5, probe))
    return probe


def _input(probe: nn.Layer, rng: np.random.Generator) -> Array:
    """Random images, or rows of features, that the layer takes: odd sizes, values to 10."""
    sized = [(layer, name) for _, layer in probe.named_layers() for name in CHANNELS if hasattr(layer, name)]
    first, name = sized[0] if sized else (probe, "")
    channels = getattr(first, name, 3)
    shape = [IMAGES[-1].stop, channels]
    if not isinstance(first, nn.Linear):
        for axis, least in enumerate((5, 3)):
            reach = [_reach(layer, axis) for _, layer in probe.named_layers()]
            shape.append(max(least, *reach) | 1)
    return (rng.random(shape) - 0.5) * 20


def _reach(layer: nn.Layer, axis: int) -> int:
    """How many pixels of an image a window of the layer spans."""
    if not hasattr(layer, "kernel_size"):
        return 1
    dilation = layer.dilation[axis] if hasattr(layer, "dilation") else 1
    return dilation * (layer.kernel_size[axis] - 1) + 1


def _on_device(array: Array, layer: nn.Layer) -> Array:
    """`array` beside the layer's parameters, and complex if they are."""
    parameters = layer.parameters()
    if not parameters:
        return array
    like = parameters[0].value
    return array_namespace(like).asarray(array.astype(np.result_type(array.dtype, like.dtype)))
