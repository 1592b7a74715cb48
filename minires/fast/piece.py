"""A piece: some images on their way through the network, and the worker that carries them.

Each worker (a rank of the group) has a share of the batch, and takes it through the network in pieces small enough to
stay in the processor's cache from one layer to the next. Only BatchNorm in training, and layers without a fast
version, need the other images: there a piece tells the others what they have to know, and goes on with what comes back.

**A way is planned once and then repeated.** Planned by the nodes of the program, it is a list of calls of NumPy on
arrays that stay where they are: `way.do(np.add, a, b, out=c)` does not add, but notes the call. In later passes the
calls are all that Python does, which matters: while one thread runs Python, the others cannot. The plan is a generator.
At a place where the pieces meet it yields a `Meeting` and receives the array in which the answer will stand; until then
the calls before it have been made.

Inside, images are (n, H, W, C), their order in memory.
"""

import math
from collections.abc import Callable, Generator, Sequence
from functools import partial
from itertools import count
from operator import setitem  # noqa: F401 - how a node notes that one array is copied into another
from types import ModuleType
from typing import Any, Self

import numpy as np

from minires.backend import Array
from minires.nn import Parameter
from minires.threads import ThreadGroup

LINE_BYTES = 64
"""A processor moves whole lines of memory. An array that begins in the middle of one makes every second vector
instruction touch two: on such arrays NumPy multiplies and adds half as fast, and BLAS loses a quarter."""

FIRST_BYTES, BLOCK_BYTES = 2**16, 2**25
"""Memory that is asked for at once, at first and in the end. The system uses large pages for large blocks."""


class Refused(ValueError):
    """The input does not fit the layers. The definition says why: see `compiled.py`."""


class Meeting:
    """Where a piece needs the other ones: its rows are added to theirs, or `function` is called with all in one."""

    def __init__(self, rows: Array, function: Callable[[Array], Array] | None = None) -> None:
        self.rows, self.function, self.answer = rows, function, None

    def put(self, answer: Array) -> None:
        """Writes the answer where the calls that follow expect it."""
        self.answer = answer.copy() if self.answer is None else self.answer
        self.answer[...] = answer


Plan = Generator[Meeting, Array, Array]


class Worker:
    """What one rank has for itself: the images of its share, in pieces, memory, and the gradients."""

    def __init__(self, xp: ModuleType, program: Any, images: Sequence[slice]) -> None:
        self.xp, self.program, self.images = xp, program, images
        self.shared, self.gradients = dict[Any, Any](), dict[Parameter, Array]()
        self.ways, self.free = dict[str, list[Any]](), dict[str, dict[Any, list[Array]]]()
        """For each way, arrays that no call noted so far will need again; for all pieces, since one follows another."""
        self._block, self._used = np.zeros(FIRST_BYTES, np.uint8), FIRST_BYTES

    def go(self, name: str, group: ThreadGroup, x: Array, met: Callable[[list[Parameter]], None]) -> list[Array]:
        """Carries the images of x through the program ("forward") -> what comes out, piece by piece.

        Or dy back: "backward", or "step", which leaves dx undone. The parameters' gradients are in `gradients`.
        met: called by rank 0 after each meeting, with the parameters to which no rank will add anything any more.
        """
        if name not in self.ways:
            before = [None] * len(self.images) if name == "forward" else self.ways["forward"]
            self.ways[name] = [Way(self, name, *each, x) for each in zip(self.images, before, strict=True)]
        for gradient in self.gradients.values():
            gradient[...] = 0
        for way in (ways := self.ways[name]):
            way.start[...] = pixels(x[way.images])
        for place in count():
            meetings = [way.go_to(place) for way in ways]
            if meetings[0] is None:
                return [way.result for way in ways]
            self._meet(meetings, group)
            if group.rank == 0:
                met(ways[0].sections[place][2])

    def _meet(self, meetings: list[Meeting], group: ThreadGroup) -> None:
        rows, function = [meeting.rows for meeting in meetings], meetings[0].function
        if function is None:
            answers = [group.sum(rows[0] if len(rows) == 1 else self.xp.concatenate(rows))] * len(meetings)
        else:
            every = [each for share in group.collect(rows) for each in share]
            y = group.collect(function(self.xp.concatenate(every)) if group.rank == 0 else None)[0]
            answers = [y[part] for part in self.images]
        for meeting, answer in zip(meetings, answers, strict=True):
            meeting.put(answer)

    def new(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """Zeros in memory of their own; the first one begins a cache line. (A GPU's arrays do anyway.)"""
        if self.xp is not np:
            return self.xp.zeros(shape, dtype)
        size = -(-math.prod(shape) * np.dtype(dtype).itemsize // LINE_BYTES) * LINE_BYTES
        if self._used + size > len(self._block):
            length = max(size, min(BLOCK_BYTES, 2 * len(self._block)))
            self._block = np.zeros(length + LINE_BYTES, np.uint8)
            self._used = -self._block.ctypes.data % LINE_BYTES
        self._used += size
        return np.ndarray(shape, dtype, self._block, self._used - size)


class Way:
    """A piece's way forward, or back: what a node plans with, and the calls that it notes, from meeting to meeting.

    images: those of the piece. before: the way forward that this one leads back from.
    """

    def __init__(self, worker: Worker, name: str, images: slice, before: Self | None, x: Array) -> None:
        self.worker, self.images, self.xp, self.new = worker, images, worker.xp, worker.new
        self.keeps, self.wants_dx = worker.program.keeps, name != "step"
        self.leads = images == worker.images[0]
        """Whether this is its worker's first piece, which is to note what is done once for all of them."""
        self.tape: list[Any] = [*before.tape] if before else []
        """What the nodes kept for the way back, in the order of the forward pass."""
        left = worker.free.get("forward", {}).items()
        self._free = worker.free.setdefault(name, {key: [*arrays] for key, arrays in left})
        self.start = self.new((images.stop - images.start, *pixels(x).shape[1:]), x.dtype)
        plan = worker.program.backward if before else worker.program.forward
        self._plan, self.result = plan(self.start, self), None
        self.sections: list[tuple[list[Callable[[], Any]], Meeting | None, list[Parameter]]] = []
        """Calls, the meeting behind them, and the parameters whose gradients they add to."""

    def go_to(self, place: int) -> Meeting | None:
        """Makes the calls up to a meeting, from the one before; None where there is no further one."""
        if place == len(self.sections):
            self._calls, self._parameters = list[Callable[[], Any]](), list[Parameter]()
            try:
                meeting = self._plan.send(self.sections[-1][1].answer if self.sections else None)
            except StopIteration as end:
                self.result, meeting = end.value, None
            self.sections.append((self._calls, meeting, self._parameters))
        calls, meeting, _ = self.sections[place]
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

    def scratch(self, name: Any, shape: tuple[int, ...], dtype: Any) -> Array:
        """An array that is valid until the same name is asked for again. It holds zeros, or what was left in it."""
        shared, key, size = self.worker.shared, (name, np.dtype(dtype)), math.prod(shape)
        if key not in shared or shared[key].size < size:
            shared[key] = self.new((size,), dtype)
        return shared[key][:size].reshape(shape)

    def gradient(self, parameter: Parameter, shape: Any = None, view: Callable[[Array], Array] | None = None) -> Array:
        """The array to which the pieces add their gradients; `view` shows one of this shape as the parameter's."""
        gradient = self.scratch(parameter, shape or parameter.value.shape, parameter.value.dtype)
        self.worker.gradients.setdefault(parameter, view(gradient) if view else gradient)
        self._parameters.append(parameter)
        return gradient


def pixels(x: Array) -> Array:
    """(N, C, H, W) -> (N, H, W, C); other arrays as they are."""
    return x.transpose(0, 2, 3, 1) if x.ndim == 4 else x


def channels_first(x: Array) -> Array:
    """(N, H, W, C) -> (N, C, H, W); other arrays as they are."""
    return x.transpose(0, 3, 1, 2) if x.ndim == 4 else x
