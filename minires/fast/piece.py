"""A piece: some images on their way through the network, and the worker that carries them.

Each worker (a rank of the group) has a share of the batch, and takes it through the network in pieces small enough to
stay in the processor's cache from one layer to the next. Only BatchNorm in training, and layers without a fast
version, need the other images: there a piece tells the others what they have to know, and goes on with what comes back.

**A way is planned once and then repeated.** Planned by the nodes of the program, it is a list of calls of NumPy on
arrays that stay where they are: `piece.do(np.add, a, b, out=c)` does not add, but notes the call. In later passes the
calls are all that Python does, which matters: while one thread runs Python, the others cannot. The plan is a generator.
At a place where the pieces meet it yields a `Meeting` and receives the array in which the answer will stand; until then
the calls before it have been made.

Inside, images are (n, H, W, C), their order in memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from functools import partial
from itertools import pairwise
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from minires.backend import Array
from minires.fast.memory import Memory
from minires.fast.team import ThreadGroup

if TYPE_CHECKING:
    from minires.fast.program import Program
    from minires.nn import Parameter


class Refused(Exception):
    """The input does not fit the layers. The definition says why: see `compiled.py`."""


class Meeting:
    """Where a piece needs the other ones: its rows are added to theirs, or `function` is called with all in one."""

    def __init__(self, rows: Array, function: Callable[[Array], Array] | None = None) -> None:
        self.rows, self.function = rows, function
        self.answer: Array = None

    def put(self, answer: Array) -> None:
        """Writes the answer where the calls that follow expect it."""
        if self.answer is None:
            self.answer = answer.copy()
        self.answer[...] = answer


Plan = Generator[Meeting, Array, Array]


class Worker:
    """What one rank has for itself: the images of its share, in pieces, memory, and the gradients."""

    def __init__(self, xp: ModuleType, program: Program, images: Sequence[slice]) -> None:
        self.memory, self.program, self.images = Memory(xp), program, images
        self.shared: dict[Any, Any] = {}
        self.gradients: list[tuple[Parameter, Array]] = []
        self.ways: dict[Any, list[Way]] = {}

    def forward(self, group: ThreadGroup, x: Array) -> list[Array]:
        """Carries the images of x through the program -> what comes out, piece by piece."""
        return self._go("forward", self.program.forward, group, x)

    def backward(self, group: ThreadGroup, dy: Array, wants_dx: bool) -> list[Array]:
        """And back: pieces of dx. The parameters' gradients are in `gradients`."""
        for _, gradient in self.gradients:
            gradient[...] = 0
        return self._go(("backward", wants_dx), partial(self.program.backward, wants_dx=wants_dx), group, dy)

    def _go(self, name: Any, plan: Callable[[Array, Way], Plan], group: ThreadGroup, x: Array) -> list[Array]:
        """Takes all pieces to the next place where they meet, again and again."""
        if name not in self.ways:
            before = [None] * len(self.images) if name == "forward" else self.ways["forward"]
            self.ways[name] = [Way(self, *each, x, plan) for each in zip(self.images, before, strict=True)]
        ways, place = self.ways[name], 0
        for way in ways:
            way.start[...] = pixels(x[way.images])
        while meetings := [meeting for way in ways if (meeting := way.go_to(place)) is not None]:
            self._meet(meetings, group)
            place += 1
        return [way.result for way in ways]

    def _meet(self, meetings: list[Meeting], group: ThreadGroup) -> None:
        concatenate, function = self.memory.xp.concatenate, meetings[0].function
        if function is None:
            total = group.sum(concatenate([meeting.rows for meeting in meetings]))
            for meeting in meetings:
                meeting.put(total)
            return
        every = group.collect([meeting.rows for meeting in meetings])
        y = function(concatenate([rows for share in every for rows in share])) if group.rank == 0 else None
        y = group.collect(y)[0]
        for meeting, part in zip(meetings, self.images, strict=True):
            meeting.put(y[part])


class Way:
    """A piece's way forward, or back: what a node plans with, and the calls that it notes, from meeting to meeting.

    images: those of the piece. before: the way forward that this one leads back from.
    """

    def __init__(
        self, worker: Worker, images: slice, before: Way | None, x: Array, plan: Callable[[Array, Way], Plan]
    ) -> None:
        self.worker, self.images, self.xp = worker, images, worker.memory.xp
        self.keeps, self.new, self.scratch = worker.program.keeps, worker.memory.new, worker.memory.scratch
        self.leads = images == worker.images[0]
        """Whether this is its worker's first piece, which is to note what is done once for all of them."""
        self.tape: list[Any] = [*before.tape] if before else []
        """What the nodes kept for the way back, in the order of the forward pass."""
        self._free = {key: [*arrays] for key, arrays in before._free.items()} if before else {}
        self.start = self.new((images.stop - images.start, *pixels(x).shape[1:]), x.dtype)
        self.result: Array = None
        self._plan = plan(self.start, self)
        self._sections: list[tuple[list[Callable[[], Any]], Meeting | None]] = []

    def go_to(self, place: int) -> Meeting | None:
        """Makes the calls up to a meeting, from the one before; None where there is no further one."""
        if place == len(self._sections):
            self._calls: list[Callable[[], Any]] = []
            try:
                meeting = self._plan.send(self._sections[-1][1].answer if self._sections else None)
            except StopIteration as end:
                self.result, meeting = end.value, None
            self._sections.append((self._calls, meeting))
        calls, meeting = self._sections[place]
        for call in calls:
            call()
        return meeting

    def do(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> None:
        """Notes a call, to be made at this place in every pass."""
        self._calls.append(partial(function, *arguments, **options))

    def take(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """An array with any numbers in it."""
        free = self._free.get((math.prod(shape), np.dtype(dtype)))
        return free.pop().reshape(shape) if free else self.new(shape, dtype)

    def give_back(self, array: Array) -> None:
        """Lets others write into the array: no call that is noted after this needs it."""
        self._free.setdefault((array.size, array.dtype), []).append(array)

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """make(), called for one piece and shared by all of this worker. (The one that leads notes how to fill it.)"""
        shared = self.worker.shared
        if key not in shared:
            shared[key] = make()
        return shared[key]

    def shared(self, key: Any, shape: tuple[int, ...], dtype: Any) -> Array:
        """An array for all pieces of this worker."""
        return self.once(key, lambda: self.new(shape, dtype))

    def gradient(self, parameter: Parameter, shape: tuple[int, ...], view: Callable[[Array], Array]) -> Array:
        """The array to which the pieces add their gradients; `view` shows it as the parameter is laid out."""

        def make() -> Array:
            gradient = self.new(shape, parameter.value.dtype)
            self.worker.gradients.append((parameter, view(gradient)))
            return gradient

        return self.once((parameter, shape), make)


def divide(start: int, stop: int, parts: int) -> list[slice]:
    """range(start, stop) in `parts` contiguous slices of nearly equal length, none of them empty."""
    parts = max(1, min(parts, stop - start))
    ends = [start + (stop - start) * i // parts for i in range(parts + 1)]
    return [slice(*both) for both in pairwise(ends)]


def pixels(x: Array) -> Array:
    """(N, C, H, W) -> (N, H, W, C); other arrays as they are."""
    return x.transpose(0, 2, 3, 1) if x.ndim == 4 else x


def channels_first(x: Array) -> Array:
    """(N, H, W, C) -> (N, C, H, W); other arrays as they are."""
    return x.transpose(0, 3, 1, 2) if x.ndim == 4 else x
