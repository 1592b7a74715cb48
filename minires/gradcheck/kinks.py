"""Kinks: a finite difference means nothing where its step crosses the switch of a ReLU or a max-pool.

A gate is the state of a switch. Is the input of a ReLU positive? Which pixel won a pooling window? A finite difference
counts only if every gate is the same on both sides. If not, the entry is left out, the switch is counted, and the
count is held against a law: let the steps of a check move the input z of a switch between z- and z+, and let z be
normal with mean m and standard deviation s over its channel. The expected number of switches crossed is then

    N = sum over switches of (z+ - z-) * phi(m/s) / s                    (4 h phi(0) / s for a ReLU applied to x itself)

A max-pool switches where the two largest of the n pixels in a window are equal. The density of their gap at 0 is
n (n-1) times the integral of phi^2 Phi^(n-2), over s. Crossings are rare, so their number is Poisson. Switches are
counted, not steps: many steps may cross the same ReLU close to 0, and that is one event. A point *on* a switch (an
input of exactly 0) is no chance event. It crosses at every step, however small.

Where forward is a function that nobody knows, its switches cannot be seen; see `noise.py` for the kinks of those.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

import numpy as np

from minires.backend import Array, to_numpy
from minires.checks import pair
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
    """Which pixel of each window is the largest. `options`: kernel_size, stride, padding of the pooling."""
    kernel = pair("kernel_size", options["kernel_size"], 1)
    stride = kernel if options.get("stride") is None else pair("stride", options["stride"], 1)
    (ph, pw) = pair("padding", options.get("padding", 0), 0)
    n, c, h, w = z.shape
    padded = np.full((n, c, h + 2 * ph, w + 2 * pw), -np.inf)
    padded[:, :, ph : ph + h, pw : pw + w] = z.real
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=(2, 3))[:, :, :: stride[0], :: stride[1]]
    return Switch(z, windows.reshape(*windows.shape[:4], -1).argmax(axis=-1), kernel[0] * kernel[1])


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


def touched(switches: list[Switch] | None) -> bool:
    """Whether a complex step moves a ReLU input that is exactly 0 (a complex step crosses nothing else)."""
    return any(np.any((s.z.real == 0) & (s.z.imag != 0)) for s in switches or [])


class Reach:
    """How far the steps of a check move every switch, and which of them they cross."""

    def __init__(self, base: list[Switch]) -> None:
        self.base = base
        self.low, self.high = [s.z.copy() for s in base], [s.z.copy() for s in base]
        self.switched = [np.zeros(s.gate.shape, dtype=bool) for s in base]

    def add(self, *sides: list[Switch]) -> bool:
        """Takes in the switches as they stood at some points; whether any of them differs from the base."""
        anything = False
        for side in sides:
            for i, (here, there) in enumerate(zip(self.base, side, strict=True)):
                np.minimum(self.low[i], there.z, out=self.low[i])
                np.maximum(self.high[i], there.z, out=self.high[i])
                switched = here.gate != there.gate
                self.switched[i] |= switched
                anything = anything or bool(switched.any())
        return anything

    def join(self, other: Reach) -> None:
        """Takes in the steps of another check from the same base."""
        for i, (low, high, switched) in enumerate(zip(other.low, other.high, other.switched, strict=True)):
            np.minimum(self.low[i], low, out=self.low[i])
            np.maximum(self.high[i], high, out=self.high[i])
            self.switched[i] |= switched

    @property
    def crossed(self) -> int:
        """The number of switches crossed."""
        return sum(int(switched.sum()) for switched in self.switched)

    @property
    def expected(self) -> float:
        """N of the law. Mean and spread are taken channel by channel where a channel holds enough numbers to tell."""
        total = 0.0
        for switch, low, high in zip(self.base, self.low, self.high, strict=True):
            z = switch.z
            axes = (0, 2, 3) if z.ndim == 4 and z.size >= MANY * z.shape[1] else None
            mean, spread = z.mean(axis=axes, keepdims=True), z.std(axis=axes, keepdims=True)
            known = np.maximum(spread, 1e-300)
            at_zero = _gap_density(switch.window) if switch.window > 1 else _phi(mean / known)
            total += float(np.sum((high - low) * at_zero / known * (spread > 0)))
        return total


MANY = 16


def _phi(x: Array) -> Array:
    with np.errstate(over="ignore"):  # far out it is 0
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
