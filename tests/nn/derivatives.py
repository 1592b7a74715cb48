"""Numerical derivatives of a layer along random directions, for every parameter and for its input."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from minires import nn
from tests.numeric import directional_errors, directional_errors_complex


class Probe:
    """The scalar <dy, layer(x)>, with a random dy; or, with labels, the cross-entropy of layer(x)."""

    def __init__(self, layer: nn.Layer, x: np.ndarray, labels: np.ndarray | None = None) -> None:
        self.layer, self.x, self.labels = layer, x, labels
        self.loss = nn.SoftmaxCrossEntropy()
        self.dy = np.random.default_rng(1).standard_normal(self._forward().shape)

    def _forward(self) -> np.ndarray:
        for _, layer in self.layer.named_layers():
            if isinstance(layer, nn.Dropout):
                layer.rng = np.random.default_rng(5)  # the same mask each time
        return self.layer.forward(self.x)

    def value(self) -> complex:
        y = self._forward()
        return np.sum(self.dy * y) if self.labels is None else self.loss.forward(y, self.labels)

    def gates(self) -> bytes:
        """Which units are on: between two points with the same gates there is no kink."""
        signs: list[bytes] = []

        def note(layer, path, direction, x, y):
            if isinstance(layer, nn.ReLU | nn.LeakyReLU | nn.MaxPool2d):
                signs.append(np.packbits(np.asarray(y > 0)).tobytes())

        with self.layer.observe(note):
            self._forward()
        return b"".join(signs)

    def gradients(self) -> list[tuple[str, Callable[[], np.ndarray], np.ndarray]]:
        """(name, function that gives the array, its gradient) of x and of each parameter, by backward."""
        self.value()
        self.layer.zero_grad()
        dx = self.layer.backward(self.dy if self.labels is None else self.loss.backward())
        return [("x", lambda: self.x, dx)] + [
            (p.name, lambda p=p: p.value, p.grad.copy()) for p in self.layer.parameters()
        ]


def central_errors(probe: Probe) -> Iterator[tuple[str, float, float]]:
    """(name, error, size of the gradient) along a direction that crosses no kink, for x and each parameter."""
    rng = np.random.default_rng(2)
    for name, array, gradient in probe.gradients():
        for _ in range(5):
            seen = []

            def value(seen=seen):
                seen.append(probe.gates())
                return probe.value()

            error, size = directional_errors(value, array(), gradient, rng)
            if seen[0] == seen[1]:
                break
        else:
            raise AssertionError(f"{name}: five directions in a row cross a kink")
        yield name, error, size


def complex_errors(probe: Probe, gradients: list) -> Iterator[tuple[str, float, float]]:
    """The same by the complex step; `probe` is complex, `gradients` are those of its real twin."""
    rng = np.random.default_rng(3)
    arrays = [lambda: probe.x] + [lambda p=p: p.value for p in probe.layer.parameters()]
    for array, (name, _, gradient) in zip(arrays, gradients, strict=True):
        error, size = directional_errors_complex(probe.value, array(), gradient, rng)
        yield name, error, size
