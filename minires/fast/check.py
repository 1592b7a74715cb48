"""Does the fast way still compute what the definition says? Compared before it is used, layer by layer.

Each distinct configuration of a layer is compared once: on a copy with random weights, gains and biases that are not
zero, in float64, on a few images of odd size, in training and in evaluation, forward, backward and at inference.
Values are compared, not code: a change that shows only on other values is not noticed.

What agrees is remembered for as long as the process lives and nothing in the modules and classes of either way has
been replaced, so that the next model of a comparison need not be compared again.
"""

import copy
from collections.abc import Callable, Set
from typing import Any

import numpy as np

from minires import nn
from minires.backend import Array, array_namespace, to_numpy
from minires.changes import CodeAsItWas
from minires.fast.program import Program, known_kind

CHANNELS = ("in_channels", "num_features", "in_features")
"""What layers call the number of channels that they take."""

PARTS = ("minires.ops", "minires.nn", "minires.fast")
"""Where the code of both ways is."""

TOLERANCE = 1e-9
"""Largest difference, relative to the largest value: both ways compute in float64."""


class Agreeing:
    """The configurations that this process has found to agree, with the code as it is."""

    def __init__(self) -> None:
        self._code, self._found = CodeAsItWas(PARTS), set[Any]()

    def now(self, kinds: Set[type] = frozenset()) -> set[Any]:
        """The configurations; a new set, once the code, or one of these kinds of layers, is not what it was."""
        if not self._code.holds() or not kinds <= self._code.kinds:
            self._code, self._found = CodeAsItWas(PARTS, kinds | self._code.kinds), set()
        return self._found


agreeing = Agreeing()
"""One for all compiled models."""


def check(program: Program, compiled: Callable[..., Any]) -> None:
    """Compares what has not been compared yet; all of it, if the code has been changed.

    compiled(layer, threads=1) is the fast way through a layer.

    Raises ValueError naming the layer, the pass and the difference where the two ways disagree, and whatever the
    definition itself raises.
    """
    found = agreeing.now({type(layer) for _, layer, _ in program.layers})
    for path, layer, configuration in program.layers:
        if configuration is not None and configuration not in found:
            _compare(path, layer, compiled)
            found.add(configuration)


def _passes(way: Any, layer: nn.Layer, x: Array) -> dict[tuple[str, str], Array]:
    """What the passes give and leave behind, by pass and name."""
    y = way.forward(x)
    dx = way.backward(array_namespace(x).asarray(np.random.default_rng(1).standard_normal(y.shape)))
    found = {("forward", "y"): y, ("backward", "dx"): dx}
    found |= {("backward", f"gradient of {p.name}"): p.grad for p in layer.parameters()}
    found |= {("forward", name): getattr(owner, attribute) for name, owner, attribute in layer.named_buffers()}
    return found if layer.training else found | {("inference", "y"): way.infer(x)}


def _compare(path: str, layer: nn.Layer, compiled: Callable[..., Any]) -> None:
    """Raises ValueError if the two ways disagree on a copy of the layer."""
    rng = np.random.default_rng(0)
    probe = _probe(layer, rng)
    x = _input(probe, rng)
    definition, fast = probe, copy.deepcopy(probe)
    for mode in ("training", "evaluation"):
        way = compiled(fast.train(mode == "training"), threads=1)
        expected, found = _passes(definition.train(mode == "training"), definition, x), _passes(way, fast, x)
        for (direction, name), array in expected.items():
            difference = _difference(to_numpy(array), to_numpy(found[direction, name]))
            if not difference <= TOLERANCE:
                raise ValueError(
                    f"{path or 'the model'} ({type(layer).__name__}), {direction} in {mode}: the compiled layer's "
                    f"{name} differs from the definition's by {difference:.2g} of its largest value. Has minires.ops "
                    "or minires.nn been changed? The model's own passes run it as it stands"
                )


def _difference(expected: np.ndarray, found: np.ndarray) -> float:
    """Largest difference, relative to the largest value (or to 1); NaN or infinite where an array is not finite."""
    same = expected.shape == found.shape
    return np.abs(expected - found).max(initial=0) / max(1, np.abs(expected).max(initial=0)) if same else np.inf


def _probe(layer: nn.Layer, rng: np.random.Generator) -> nn.Layer:
    """A copy of the layer in float64, its arrays random; of a Sequential, one around two small layers."""
    if known_kind(layer) is nn.Sequential:
        probe = type(layer).__new__(type(layer))
        probe.add("0", nn.Tanh())
        probe.add("1", nn.LeakyReLU(0.3))
        return probe
    probe = copy.deepcopy(layer).astype("float64")
    probe.zero_grad()
    for p in probe.parameters():
        size = p.value[0].size if p.value.ndim > 1 else 1
        value = (rng.random(p.value.shape) + 0.5) * rng.choice([-1, 1], p.value.shape) / size**0.5
        p.value = array_namespace(p.value).asarray(value)
    for _, owner, name in probe.named_buffers():
        old = getattr(owner, name)
        setattr(owner, name, array_namespace(old).asarray(rng.random(old.shape) + 0.5))
    return probe


def _input(probe: nn.Layer, rng: np.random.Generator) -> Array:
    """Random images, or rows of features, that the layer takes: odd sizes, values to 10."""
    layers = [layer for _, layer in probe.named_layers()]
    shape = [5, next((getattr(x, name) for x in layers for name in CHANNELS if hasattr(x, name)), 3)]
    if not isinstance(layers[0], nn.Linear):
        windows = [x for x in layers if hasattr(x, "kernel_size")]
        for axis, least in enumerate((5, 3)):
            spans = [(x.kernel_size[axis] - 1) * getattr(x, "dilation", (1, 1))[axis] + 1 for x in windows]
            shape.append(max(least, *spans, 0) | 1)
    like = next((p.value for p in probe.parameters()), np.empty(0))
    return array_namespace(like).asarray((rng.random(shape) - 0.5) * 20)
