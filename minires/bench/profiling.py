"""Where the time of a training step goes: every layer's two passes timed, by a walk around the real step.

    rows = profile(case, repeats=5)       one row a layer, in the order of the network
    by_type(rows)                         the same, summed over layers of one type

A layer made of layers counts only what it does itself: a residual block adds branch and shortcut.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from minires import nn, optim
from minires.bench.cases import Case
from minires.nn.layer import Layer

CONTAINERS = (nn.Sequential, nn.ResNet)
"""They hand on and do nothing themselves."""


@dataclass(frozen=True)
class Row:
    """One layer, or several of one type. Times in seconds, each the median over the repeated steps.

    flops: of the layer's matrix products as the textbook counts them, two a multiply-add, both passes (backward is
    twice forward: dx and dweight). bytes: those of the arrays that go in and come out, x, y, dy and dx; what a pass
    cannot avoid to move.
    """

    path: str
    type: str
    forward: float = 0.0
    backward: float = 0.0
    flops: int = 0
    bytes: int = 0

    @property
    def seconds(self) -> float:
        return self.forward + self.backward


def profile(case: Case, repeats: int) -> list[Row]:
    """Rows of every layer that does something itself, then the loss and the optimizer; `case` is a "train" case."""
    x, labels = case.arrays()
    model, loss = nn.resnet(case.depth), nn.SoftmaxCrossEntropy()
    optimizer = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    watch = _Watch()
    with watch.around(model):
        for _ in range(repeats + 1):
            watch.begin_step()
            watch.timed(("optimizer", "forward"), model.zero_grad)
            logits = model.forward(x)
            watch.timed(("loss", "forward"), loss.forward, logits, labels)
            model.backward(watch.timed(("loss", "backward"), loss.backward))
            watch.timed(("optimizer", "forward"), optimizer.step)
    layers = {**dict(model.named_layers()), "loss": loss, "optimizer": optimizer}
    return [watch.row(path, layer) for path, layer in layers.items() if not isinstance(layer, CONTAINERS)]


def by_type(rows: Sequence[Row]) -> list[Row]:
    """Rows summed by type; `path` says how many layers there are of it. The one that takes longest comes first."""
    found: dict[str, Row] = {}
    for row in rows:
        before = found.get(row.type, Row("0", row.type))
        sums = {name: getattr(before, name) + getattr(row, name) for name in _SUMMED}
        found[row.type] = replace(before, path=str(int(before.path) + 1), **sums)
    return sorted(found.values(), key=lambda row: -row.seconds)


_SUMMED = ("forward", "backward", "flops", "bytes")


class _Watch:
    """Times calls that call each other: each gets its own time, without that of the calls within it."""

    def __init__(self) -> None:
        self.steps: list[dict[tuple[str, str], float]] = []
        self.within = [0.0]
        self.sizes: dict[tuple[str, str], tuple[int, tuple[int, ...]]] = {}
        """Bytes that go in and come out, and the shape of what comes out."""

    def begin_step(self) -> None:
        self.steps.append({})

    def timed(self, key: tuple[str, str], f: Callable[..., Any], *args: Any) -> Any:
        """f(*args), its own time added to the present step's under `key` (path, direction)."""
        self.within.append(0.0)
        start = time.perf_counter()
        result = f(*args)
        taken = time.perf_counter() - start
        own = taken - self.within.pop()
        self.within[-1] += taken
        self.steps[-1][key] = self.steps[-1].get(key, 0.0) + own
        if args:
            self.sizes[key] = args[0].nbytes + result.nbytes, result.shape
        return result

    @contextmanager
    def around(self, model: Layer) -> Iterator[None]:
        """Within the block every layer's forward and backward are timed."""
        layers = list(model.named_layers())
        for path, layer in layers:
            for direction in ("forward", "backward"):
                self._wrap(layer, path, direction)
        try:
            yield
        finally:
            for _, layer in layers:
                del layer.forward, layer.backward

    def _wrap(self, layer: Layer, path: str, direction: str) -> None:
        method = getattr(layer, direction)
        setattr(layer, direction, lambda array: self.timed((path, direction), method, array))

    def row(self, path: str, layer: object) -> Row:
        """Medians over all steps but the first."""
        times = {
            direction: median(step.get((path, direction), 0.0) for step in self.steps[1:])
            for direction in ("forward", "backward")
        }
        passes = [self.sizes[path, d] for d in ("forward", "backward") if (path, d) in self.sizes]
        if not passes:
            return Row(path, type(layer).__name__, **times)
        flops = 3 * _flops(layer, passes[0][1])
        return Row(path, type(layer).__name__, **times, flops=flops, bytes=sum(size for size, _ in passes))


def _flops(layer: object, y_shape: tuple[int, ...]) -> int:
    """Of the forward pass: two for each weight and each place it is used at."""
    if not isinstance(layer, nn.Conv2d | nn.Linear):
        return 0
    n, _, *places = y_shape
    count = 2 * n * layer.weight.value.size
    for size in places:
        count *= size
    return count
