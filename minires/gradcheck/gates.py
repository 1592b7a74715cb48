"""Kinks: where a step crosses the switch of a ReLU or a max-pool, finite differences mean nothing.

A gate is the state of a switch: whether a ReLU's input is positive, which pixel won a pooling window. A finite
difference is used only if every gate is the same on both sides; otherwise the entry is left out and counted, and the
count is held against a law. Moving one number by +-2h moves the input z of a switch from z- to z+, and if z is
normal with mean m and standard deviation s over its layer, the expected number of switches crossed is

    N = sum over switches of |z+ - z-| * phi(m/s) / s                    (4 h phi(0) / s for a ReLU applied to x itself)

For a max-pool with n pixels in a window the switch is where the two largest are equal; the density of their gap at 0 is
n (n-1) times the integral of phi^2 Phi^(n-2), over s. Crossings are rare and independent, so their number is Poisson.
A point *on* a switch (an input of exactly 0) is no chance event: it crosses at every step, however small.

Law: laws of a ReLU network's kinks, measured in tests/gradcheck/evidence.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

import numpy as np

from minires import ops
from minires.backend import Array, to_numpy
from minires.nn.layer import Layer
from minires.nn.layers import LeakyReLU, MaxPool2d, ReLU

FALSE_ALARM = 1e-6
"""A tensor is called a `kink` for too many crossings with at most this probability, if the law holds."""


class Switch(NamedTuple):
    """All switches of one ReLU or max-pool: what decides them, how they stand, how many compete in each."""

    z: Array
    gate: Array
    window: int = 1


def relu_switch(z: Array) -> Switch:
    return Switch(z, z.real > 0)


def max_pool_switch(z: Array, options: dict) -> Switch:
    """`options`: kernel_size, stride, padding of the pooling."""
    _, cache = ops.max_pool2d_forward(z, **options)
    kernel = cache.window[0]
    return Switch(z, cache.winner, kernel[0] * kernel[1])


def switches_of_op(like: str | None, x: Array, options: dict) -> list[Switch] | None:
    """The switches of an op applied to x; none for a smooth op, None where it is not known (no `like`)."""
    if like is None:
        return None
    if like in ("relu", "leaky_relu"):
        return [relu_switch(x)]
    if like == "max_pool2d":
        return [max_pool_switch(x, options)]
    return []


@dataclass
class Watch:
    """Collects the switches of a layer tree during one forward pass."""

    switches: list[Switch] = field(default_factory=list)

    @contextmanager
    def on(self, model: Layer) -> Iterator[Watch]:
        """Within it, `switches` fills up as `model.forward` runs."""
        with model.observe(self._see):
            yield self

    def _see(self, layer: Layer, path: str, direction: str, x: Array, y: Array) -> None:
        if direction != "forward":
            return
        if isinstance(layer, ReLU | LeakyReLU):
            self.switches.append(relu_switch(to_numpy(x).copy()))
        elif isinstance(layer, MaxPool2d):
            window = {"kernel_size": layer.kernel_size, "stride": layer.stride, "padding": layer.padding}
            self.switches.append(max_pool_switch(to_numpy(x), window))


def crossed(here: list[Switch], *sides: list[Switch]) -> bool:
    """Whether any gate differs between the point and one of its sides."""
    return any(np.any(a.gate != b.gate) for side in sides for a, b in zip(here, side, strict=True))


def touched(switches: list[Switch] | None) -> bool:
    """Whether a complex step moves a ReLU input that is exactly 0 (a complex step crosses nothing else)."""
    return any(np.any((s.z.real == 0) & (s.z.imag != 0)) for s in switches or [])


def expected_crossings(plus: list[Switch], minus: list[Switch]) -> float:
    """N of the law above, from what the switches saw on both sides of a step.

    Mean and spread are taken channel by channel where a channel holds enough numbers to tell, else over the layer.
    """
    total = 0.0
    for a, b in zip(plus, minus, strict=True):
        axes = (0, 2, 3) if a.z.ndim == 4 and a.z.size >= MANY * a.z.shape[1] else None
        mean, spread = a.z.mean(axis=axes, keepdims=True), a.z.std(axis=axes, keepdims=True)
        at_zero = _gap_density(a.window) if a.window > 1 else _phi(mean / np.maximum(spread, 1e-300))
        total += float(np.sum(np.abs(a.z - b.z) * at_zero / np.maximum(spread, 1e-300) * (spread > 0)))
    return total


MANY = 16


def _phi(x: Array) -> Array:
    return np.exp(-x * x / 2) / math.sqrt(2 * math.pi)


@cache
def _gap_density(n: int) -> float:
    """Density at 0 of the gap between the two largest of n standard normals."""
    x = np.linspace(-8, 8, 1601)
    cdf = 0.5 * np.array([math.erfc(-v / math.sqrt(2)) for v in x])
    return float(n * (n - 1) * np.sum(_phi(x) ** 2 * cdf ** (n - 2)) * (x[1] - x[0]))


def poisson_quantile(mean: float, false_alarm: float = FALSE_ALARM) -> int:
    """The smallest k with P(more than k events) <= false_alarm for a Poisson number of events."""
    if mean <= 0:
        return 0
    counts = np.arange(int(mean + 12 * math.sqrt(mean) + 60))
    log_p = counts * math.log(mean) - mean - np.array([math.lgamma(k + 1) for k in counts])
    more = np.cumsum(np.exp(log_p)[::-1])[::-1] - np.exp(log_p)
    return int(np.argmax(more <= false_alarm))
