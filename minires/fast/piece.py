"""A piece: some images on their way through the network, and the worker that carries them.

Each worker (a rank of the group) has a share of the batch, and takes it through the network in pieces small enough to
stay in the processor's cache from one layer to the next. Only BatchNorm in training, and layers without a fast
version, need the other images: there a piece yields what the others have to know, and goes on with what comes back.
Inside, images are (n, H, W, C), their order in memory.

A pass over a piece is a generator. What it yields is either rows of numbers, one row for each of its images, to be
summed over the batch: `total = yield rows`; or a function and an array, to be called with the arrays of all pieces
put together: `y = yield function, x`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from itertools import pairwise
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from minires.backend import Array, array_namespace
from minires.fast.memory import Memory
from minires.fast.team import ThreadGroup

if TYPE_CHECKING:
    from minires.fast.program import Program

PIECE_PIXELS = 32768
"""Pixels of input images in a piece: 8 images of 32x32. Fewer would cost calls, more would leave the cache."""

Request = Array | tuple[Callable[[Array], Array], Array]
Pass = Generator[Request, Array, Array]


class Worker:
    """What one rank has for itself: its pieces, scratch, and the gradients of its share."""

    def __init__(self) -> None:
        self.memory = Memory()
        self.pieces: list[Piece] = []
        self.gradients: dict[Any, Array] = {}

    def forward(self, group: ThreadGroup, program: Program, x: Array, images: Sequence[slice]) -> list[Array]:
        """Carries the images of x through the program, in the given pieces -> what comes out, piece by piece."""
        xp = array_namespace(x)
        self._begin(group)
        self.pieces = [Piece(part, self, xp, program.keeps) for part in images]
        return self._run([program.forward(self._own_copy(xp, x[p.images]), p) for p in self.pieces])

    def backward(self, group: ThreadGroup, program: Program, dy: Array, wants_dx: bool) -> list[Array]:
        """And back: pieces of dy -> pieces of dx; the parameters' gradients are in `gradients`."""
        self._begin(group)
        xp = array_namespace(dy)
        for piece in self.pieces:
            piece.wants_dx = wants_dx
        return self._run([program.backward(self._own_copy(xp, dy[p.images]), p) for p in self.pieces])

    def _own_copy(self, xp: ModuleType, x: Array) -> Array:
        x = pixels_first(x)
        copy = self.memory.take(xp, x.shape, x.dtype)
        copy[...] = x
        return copy

    def _begin(self, group: ThreadGroup) -> None:
        """Starts a pass: nothing is known yet of the weights' present values."""
        self.group = group
        self.prepared: dict[Any, Any] = {}
        self.gradients = {}

    def _run(self, passes: list[Pass]) -> list[Array]:
        """Carries all pieces to the next place where they meet, again and again -> what the passes return."""
        answers: list[Array | None] = [None] * len(passes)
        while True:
            requests, results = [], []
            for each, answer in zip(passes, answers, strict=True):
                try:
                    requests.append(each.send(answer))
                except StopIteration as end:
                    results.append(end.value)
            if not requests:
                return results
            answers = self._meet(requests)

    def _meet(self, requests: list[Request]) -> list[Array]:
        if not isinstance(requests[0], tuple):
            return [self.group.sum(array_namespace(requests[0]).concatenate(requests))] * len(requests)
        function, x = requests[0]
        every = self.group.collect([x for _, x in requests])
        xp = array_namespace(x)
        y = function(xp.concatenate([x for share in every for x in share])) if self.group.rank == 0 else None
        y = self.group.collect(y)[0]
        return [y[piece.images] for piece in self.pieces]


class Piece:
    """Some images of the batch: which ones, and what their way back will need.

    tape: the caches of the layers in the order of the forward pass; None where no backward pass will follow.
    waiting: arrays that wait for the other branch of a residual block.
    """

    def __init__(self, images: slice, worker: Worker, xp: ModuleType, keeps: bool) -> None:
        self.images, self.worker, self.xp, self.memory = images, worker, xp, worker.memory
        self.tape: list[Any] | None = [] if keeps else None
        self.waiting: list[Array] = []
        self.wants_dx = True

    @property
    def leads(self) -> bool:
        """Whether this is the first piece of the batch: it does what is to be done once."""
        return self.images.start == 0

    def keep(self, cache: Any) -> None:
        """Puts a layer's cache on the tape."""
        if self.tape is not None:
            self.tape.append(cache)

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """make(), called by the first piece of this worker in this pass: weights in another order, say."""
        prepared = self.worker.prepared
        if key not in prepared:
            prepared[key] = make()
        return prepared[key]

    def add_gradient(self, key: Any, gradient: Array) -> None:
        """Adds to the worker's gradient of one parameter."""
        gradients = self.worker.gradients
        gradients[key] = gradient if key not in gradients else gradients[key] + gradient


def divide(count: int, parts: int) -> list[slice]:
    """range(count) in `parts` contiguous slices of nearly equal length, none of them empty."""
    parts = max(1, min(parts, count))
    ends = [count * i // parts for i in range(parts + 1)]
    return [slice(start, stop) for start, stop in pairwise(ends)]


def pixels_first(x: Array) -> Array:
    """(N, C, H, W) -> (N, H, W, C); other arrays as they are."""
    return x.transpose(0, 2, 3, 1) if x.ndim == 4 else x


def channels_first(x: Array) -> Array:
    """(N, H, W, C) -> (N, C, H, W); other arrays as they are."""
    return x.transpose(0, 3, 1, 2) if x.ndim == 4 else x


def contiguous(xp: ModuleType, x: Array) -> Array:
    """Images in the order that the fast layers expect, copied if need be."""
    return np.ascontiguousarray(x) if xp is np else xp.ascontiguousarray(x)
