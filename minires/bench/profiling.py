"""Where the time of a compiled training step goes, layer by layer: the step that `bench` times.

    rows = profile(case, repeats=5)       one row a layer, in the order of the network
    by_type(rows)                         the same, summed over layers of one type

A compiled model plans its passes once, as a list of calls for each layer. Here each call is timed as it is made. The
layers' times are means over the threads; what is left of the step is the team's: handing work over, and waiting for
each other. A layer made of layers counts only what it does itself: a residual block adds branch and shortcut.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import numpy as np

from minires import compile, nn, optim
from minires.bench.cases import Case
from minires.fast.nodes import Node
from minires.fast.worker import Worker

DIRECTIONS = ("forward", "backward")


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
    """Rows of every layer that does something itself, then the team, the loss and the optimizer; a "train" case."""
    x, labels = case.arrays()
    model, loss = nn.resnet(case.depth), nn.SoftmaxCrossEntropy()
    fast, optimizer, watch = compile(model), optim.SGD(model.parameters(), lr=0.01, momentum=0.9), _Watch()
    with watch.around():
        for _ in range(repeats + 1):
            watch.steps.append(defaultdict(float))
            watch.timed(("optimizer", "forward"), model.zero_grad)
            logits = watch.timed(("team", "forward"), fast.forward, x)
            watch.timed(("loss", "forward"), loss.forward, logits, labels)
            dlogits = watch.timed(("loss", "backward"), loss.backward)
            watch.timed(("team", "backward"), fast.backward, dlogits)
            watch.timed(("optimizer", "forward"), optimizer.step)
    rows, team = [], {direction: watch.median("team", direction) for direction in DIRECTIONS}
    sizes = _sizes(model, x)
    for path, layer in model.named_layers():
        times = {way: watch.median(id(layer), way) / fast.threads for way in DIRECTIONS}
        if any(times.values()):
            team = {direction: team[direction] - times[direction] for direction in DIRECTIONS}
            moved, y_shape = sizes[path]
            rows.append(Row(path, type(layer).__name__, **times, flops=3 * _flops(layer, y_shape), bytes=moved))
    rows.append(Row("team", "Team", **team))
    for path, part in (("loss", loss), ("optimizer", optimizer)):
        rows.append(Row(path, type(part).__name__, **{way: watch.median(path, way) for way in DIRECTIONS}))
    return rows


def _sizes(model: nn.Layer, x: np.ndarray) -> dict[str, tuple[int, tuple[int, ...]]]:
    """By path: the bytes of x, y, dy and dx for a batch like x, and the shape of y. Taken from two of its images."""
    found = {}

    def look(layer: nn.Layer, path: str, direction: str, x: np.ndarray, y: np.ndarray) -> None:
        found[path] = (x.nbytes + y.nbytes) * n, (n, *y.shape[1:])

    n = len(x)
    with model.observe(look):
        model.infer(x[:2])
    return found


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
    """Times calls, step by step, under a key (whose, direction)."""

    def __init__(self) -> None:
        self.steps: list[defaultdict[tuple[Any, str, int], float]] = []

    def timed(self, key: tuple[Any, str], f: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """f(*args), its time added to the present step's under `key`."""
        start = time.perf_counter()
        result = f(*args, **options)
        self.steps[-1][*key, threading.get_ident()] += time.perf_counter() - start
        return result

    @contextmanager
    def around(self) -> Iterator[None]:
        """Within the block, every call that a node plans is timed as that of its layer."""
        do = Worker.do

        def timed_do(worker: Worker, function: Callable[..., Any], *args: Any, **options: Any) -> None:
            frame = sys._getframe(1)
            while frame.f_code.co_name not in DIRECTIONS or not isinstance(frame.f_locals.get("self"), Node):
                frame = frame.f_back
            key = id(frame.f_locals["self"].layer), frame.f_code.co_name
            do(worker, self.timed, key, function, *args, **options)

        Worker.do = timed_do
        try:
            yield
        finally:
            Worker.do = do

    def median(self, whose: Any, direction: str) -> float:
        """Over all steps but the first, which plans."""
        sums = []
        for step in self.steps[1:]:
            sums.append(sum(taken for (*key, _), taken in step.items() if key == [whose, direction]))
        return median(sums)


def _flops(layer: object, y_shape: tuple[int, ...]) -> int:
    """Of the forward pass: two for each weight and each place it is used at."""
    if not isinstance(layer, nn.Conv2d | nn.Linear):
        return 0
    n, _, *places = y_shape
    count = 2 * n * layer.weight.value.size
    for size in places:
        count *= size
    return count
