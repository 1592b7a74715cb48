"""A layer, block or network as a pair of plain functions of its input and of all its parameters."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import numpy as np

from minires import nn
from minires.backend import Array, array_namespace, to_device, to_numpy
from minires.gradcheck.identities import Pass, Recorder
from minires.gradcheck.kinks import Switch, Watch
from minires.gradcheck.wrapping import advice

KNOWN_LEAVES = (
    *(nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.Sigmoid, nn.MaxPool2d, nn.AvgPool2d),
    *(nn.GlobalAvgPool2d, nn.Dropout, nn.Flatten, nn.Identity, nn.Subsample),
)
"""Layers whose switches can be seen. A tree with any other leaf may hide a kink."""


class LayerPair:
    """A layer (and a loss) as forward and backward functions of x and all parameters.

    The functions take and return arrays of the host; the passes in between run where the layer's arrays are (or, if it
    has none, where x is). The identities and the search for a fault look into a copy on the
    host.
    """

    def __init__(self, layer: nn.Layer, x: Array, loss: object | None = None, labels: Array | None = None) -> None:
        if not isinstance(layer, nn.Layer):
            raise TypeError(
                f"layer is {type(layer).__name__}; expected a layer of minires (a loss is checked by check_model, "
                f"plain functions by check_op). Or {advice(layer)}"
            )
        self.loss, self.labels = copy.deepcopy(loss), labels
        self.xp = _library(layer, x)
        self.copies = {
            "float64": copy.deepcopy(layer).astype(np.float64),
            "complex128": copy.deepcopy(layer).astype(np.complex128),
        }
        self.layer = self.copies["float64"] if self.xp is np else copy.deepcopy(self.copies["float64"]).to("cpu")
        self.parameters = {name: of_one.parameters() for name, of_one in self.copies.items()}
        self.generators = {id(of_one): _generators(of_one) for of_one in (self.layer, *self.copies.values())}
        """With the state in which each generator starts every pass."""
        leaves = [sub for _, sub in layer.named_layers() if not any(True for _ in sub.children())]
        self.transparent = all(isinstance(leaf, KNOWN_LEAVES) for leaf in leaves)
        self.watch = Watch()

    @property
    def values(self) -> list[Array]:
        return [p.value.copy() for p in self.layer.parameters()]

    @property
    def names(self) -> list[str]:
        return [p.name for p in self.layer.parameters()]

    def forward(self, x: Array, *values: Array) -> tuple[Array, nn.Layer]:
        layer = self.copies[x.dtype.name]
        for parameter, value in zip(self.parameters[x.dtype.name], values, strict=True):
            parameter.value = to_device(value, self.xp)
        self._rewind(layer)
        self.watch.switches = []
        y = layer.forward(to_device(x, self.xp))
        return to_numpy(y if self.loss is None else self.loss.forward(y, self.labels)), layer

    def backward(self, dy: Array | float, layer: nn.Layer) -> tuple[Array, ...]:
        layer.zero_grad()
        if self.loss is not None:
            dy = self.loss.backward() * dy
        elif not isinstance(dy, float):
            dy = to_device(dy, self.xp)
        dx = layer.backward(dy)
        return (to_numpy(dx), *(to_numpy(p.grad) for p in layer.parameters()))

    def redraw_ones(self, seed: int) -> list[str]:
        """Random numbers in place of parameters that are 1 everywhere; a note that says so, or none.

        Gains begin with ones, and a gain of 1 looks the same whether it is used or forgotten.
        """
        rng = np.random.default_rng([*b"gains", seed])
        drawn = {name: value for name, value in zip(self.names, self.values, strict=True) if np.all(value == 1)}
        for name in drawn:
            drawn[name] = not_one(rng, drawn[name].shape)
        for of_one in {id(m): m for m in (self.layer, *self.copies.values())}.values():
            for parameter in of_one.parameters():
                if parameter.name in drawn:
                    like = parameter.value
                    parameter.value = to_device(drawn[parameter.name], array_namespace(like)).astype(like.dtype)
        return note_on_ones(list(drawn))

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Within it, every forward call leaves its switches behind."""
        with self.watch.on(self.copies["float64"]), self.watch.on(self.copies["complex128"]):
            yield

    def switches(self) -> list[Switch] | None:
        """Those of the last forward call; None if a layer may hide some."""
        return list(self.watch.switches) if self.transparent else None

    def record(self, x: Array, dy: Array) -> list[Pass]:
        """What went through every layer, in one forward and one backward pass."""
        self.layer.zero_grad()
        recorder = Recorder()
        with self.layer.observe(recorder.see):
            self._round_trip(x, dy)
        return recorder.in_order()

    def accumulates(self, x: Array, dy: Array) -> bool:
        """Whether one more pass adds its gradients to those that `record` has left in .grad."""
        once = [p.grad.copy() for p in self.layer.parameters()]
        self._round_trip(x, dy)
        return all(
            np.allclose(p.grad, 2 * g, rtol=1e-9, atol=1e-12 * float(np.max(np.abs(g), initial=0.0)))
            for p, g in zip(self.layer.parameters(), once, strict=True)
        )

    def _round_trip(self, x: Array, dy: Array) -> tuple[Array, Array]:
        self._rewind(self.layer)
        y = self.layer.forward(x)
        if self.loss is not None:
            self.loss.forward(y, to_numpy(self.labels))
            dy = self.loss.backward() * dy
        return y, self.layer.backward(dy)

    def _rewind(self, layer: nn.Layer) -> None:
        """Random generators (dropout's) start every pass in the same state."""
        for generator, state in self.generators[id(layer)]:
            generator.bit_generator.state = state


def not_one(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Gains to check with: between 0.5 and 1.5, so that a logarithm or a root of them stays defined."""
    return rng.uniform(0.5, 1.5, shape)


def note_on_ones(names: list[str]) -> list[str]:
    """What to say of parameters that were 1 everywhere."""
    if not names:
        return []
    told = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    verb, they = ("is", "it") if len(names) == 1 else ("are", "they")
    return [
        f"{told} {verb} 1 everywhere, which hides whether {they} {verb} used: checked with random numbers instead (the "
        "layer itself is left alone)"
    ]


def _library(layer: nn.Layer, x: Array) -> ModuleType:
    """The array library of the layer's parameters and buffers; of x, if it has none."""
    own = next(iter(layer.state_dict().values()), x)
    return array_namespace(own) if hasattr(own, "dtype") else np


def _generators(layer: nn.Layer) -> list[tuple[np.random.Generator, dict]]:
    """Every generator inside, and the state it is in."""
    return [
        (value, value.bit_generator.state)
        for _, sub in layer.named_layers()
        for value in vars(sub).values()
        if isinstance(value, np.random.Generator)
    ]
