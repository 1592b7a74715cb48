"""A worker: one rank's share of the batch on its way through the network, and back.

Only BatchNorm in training, and layers without a fast version, need the images of the other workers: there a worker
tells the others what they have to know, and goes on with what comes back.

**A way is planned once and then repeated.** Planned by the nodes of the program, it is a list of calls of NumPy on
arrays that stay where they are: `worker.do(np.add, a, b, out=c)` does not add, but notes the call. In later passes the
calls are all that Python does, which matters: while one thread runs Python, the others cannot. The plan is a generator.
At a place where the workers meet it yields a `Meeting` and receives the array in which the answer will stand; until
then the calls before it have been made.

Inside, images are (n, H, W, C), their order in memory.
"""

import math
from collections.abc import Callable, Generator
from functools import partial
from itertools import count
from operator import setitem  # noqa: F401 - how a node notes that one array is copied into another
from typing import Any

import numpy as np

from minires.backend import Array
from minires.nn import Parameter
from minires.threads import ThreadGroup

LINE_BYTES = 64
"""A processor moves whole lines of memory. An array that begins in the middle of one makes every second vector
instruction touch two: on such arrays NumPy multiplies and adds half as fast, and BLAS loses a quarter."""

BLOCK_BYTES = 2**20
"""Memory that small arrays share: asked for one by one, many of them would lie on a page of their own."""


class Refused(ValueError):
    """The input does not fit the layers. The definition says why: see `compiled.py`."""


class Meeting:
    """Where a worker needs the others: its rows are added to theirs, or `function` is called with all in one."""

    def __init__(self, rows: Array, function: Callable[[Array], Array] | None = None) -> None:
        self.rows, self.function, self.answer = rows, function, None

    def hold(self, worker: "Worker", group: ThreadGroup) -> Array:
        """The answer, for this worker's images. It stands where the calls that follow expect it."""
        if self.function is None:
            answer = group.sum(self.rows)
        else:
            every = group.collect(self.rows)
            y = self.function(worker.xp.concatenate(every)) if group.rank == 0 else None
            answer = group.collect(y)[0][worker.images]
        self.answer = answer.copy() if self.answer is None else self.answer
        self.answer[...] = answer
        return self.answer


Plan = Generator[Meeting, Array, Array]


class Worker:
    """What a node plans with, and the calls that it notes.

    program: of its own, since the nodes remember the numbers of its pass. images: those of its share.
    """

    def __init__(self, xp: Any, program: Any, images: slice) -> None:
        self.xp, self.program, self.images = xp, program, images
        self.gradients, self._scratch = dict[Parameter, Array](), dict[Any, Array]()
        self._free, self._block = dict[Any, list[Array]](), np.empty(0, np.uint8)
        """Arrays that no call noted so far will need again, by size and dtype; memory for small new ones."""
        self._ways = dict[str, tuple[Array, Plan, list[Any]]]()

    def go(self, direction: str, group: ThreadGroup, x: Array, met: Callable[[list[Parameter]], None]) -> Array:
        """Carries its images of x "forward" through the program -> y; or dy "backward" -> dx.

        The gradients of the parameters are then in `gradients`. met: called by rank 0 after each meeting, with the
        parameters to which no rank will add anything any more.
        """
        if direction not in self._ways:
            start = self.new((self.images.stop - self.images.start, *pixels(x).shape[1:]), x.dtype)
            self._ways[direction] = start, self.program.plan(direction, start, self), []
        for gradient in self.gradients.values():
            gradient[...] = 0
        (start, plan, sections), answer = self._ways[direction], None
        start[...] = pixels(x[self.images])
        for place in count():
            if place == len(sections):
                sections.append(self._section(plan, answer))
            calls, parameters, end = sections[place]
            for call in calls:
                call()
            if not isinstance(end, Meeting):
                return end
            answer = end.hold(self, group)
            if group.rank == 0:
                met(parameters)

    def _section(self, plan: Plan, answer: Array | None) -> tuple[list[Any], list[Parameter], Meeting | Array]:
        """The calls from one meeting to the next, the parameters whose gradients they add to, and that meeting, or
        the result."""
        self._calls, self._parameters = list[Callable[[], Any]](), list[Parameter]()
        try:
            return self._calls, self._parameters, plan.send(answer)
        except StopIteration as end:
            return self._calls, self._parameters, end.value

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
        key, size = (name, np.dtype(dtype)), math.prod(shape)
        if key not in self._scratch or self._scratch[key].size < size:
            self._scratch[key] = self.new((size,), dtype)
        return self._scratch[key][:size].reshape(shape)

    def gradient(self, parameter: Parameter, at: Array | None = None) -> Array:
        """The array (`at`, if given) to which the layers of this parameter add what this worker's images give."""
        if parameter not in self.gradients:
            self.gradients[parameter] = self.new(parameter.value.shape, parameter.value.dtype) if at is None else at
        self._parameters.append(parameter)
        return self.gradients[parameter]

    def new(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """Zeros in memory of their own; the first one begins a cache line. (A GPU's arrays do anyway.)"""
        if self.xp is not np:
            return self.xp.zeros(shape, dtype)
        size = -(-math.prod(shape) * np.dtype(dtype).itemsize // LINE_BYTES) * LINE_BYTES
        if size > BLOCK_BYTES // 8:
            return np.ndarray(shape, dtype, at_line(size))
        if size > len(self._block):
            self._block = at_line(BLOCK_BYTES)
        start, self._block = self._block, self._block[size:]
        return np.ndarray(shape, dtype, start)


def at_line(size: int) -> np.ndarray:
    """Zeros, `size` bytes of them, the first one at the beginning of a cache line."""
    block = np.zeros(size + LINE_BYTES, np.uint8)
    start = -block.ctypes.data % LINE_BYTES
    return block[start : start + size]


def pixels(x: Array) -> Array:
    """(N, C, H, W) -> (N, H, W, C); other arrays as they are."""
    return x.transpose(0, 2, 3, 1) if x.ndim == 4 else x


def channels_first(x: Array) -> Array:
    """(N, H, W, C) -> (N, C, H, W); other arrays as they are."""
    return x.transpose(0, 3, 1, 2) if x.ndim == 4 else x
