"""A compiled model: the passes of a model, carried out by a team of workers. See `minires.compile`."""

import copy
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, Self

import numpy as np

from minires.backend import Array, array_namespace
from minires.checks import check_upstream, whole
from minires.fast.check import Checked
from minires.fast.piece import Refused, Worker, channels_first, divide
from minires.fast.program import Program
from minires.fast.team import Group, Team, ThreadGroup
from minires.fast.threads import blas_at_one_thread, num_threads
from minires.nn import Layer, Parameter, SoftmaxCrossEntropy

PIECE_PIXELS = 2**15
"""Pixels of input images in a piece: 32 images of 32x32. Fewer would cost calls, more would leave the cache."""

PLANS = 4
"""Plans that are kept, each with its memory: of a whole batch and of the last one, to train and to infer."""

SHARE_PIXELS = 2**10
"""A share of fewer pixels of input images costs more to hand to another thread than it saves."""


class Compiled:
    """The fast way to run `model`, with the model's own parameters and buffers.

    forward, backward, infer, parameters, zero_grad, train and eval mean what they mean for a layer; `step` is all of a
    training step but the update. One thread at a time may use it.
    """

    def __init__(self, model: Layer, threads: int | None = None, group: Group | None = None) -> None:
        if not isinstance(model, Layer):
            raise TypeError(f"model is {model!r}; expected a Layer, as in minires.compile(nn.resnet20())")
        self.model = model
        self.threads = num_threads() if threads is None else whole("threads", threads)
        self._team = Team(self.threads, group)
        self._planned: dict[Any, list[Worker]] = {}
        self._in_use = threading.Lock()
        self._way_back: tuple[Any, ...] | None = None
        self._checked = Checked()
        self._checked.check(Program(True, model))

    # --- the passes ----------------------------------------------------------------------------------------------

    def forward(self, x: Array) -> Array:
        """x -> y, as `model.forward`; keeps what backward will need."""
        with self._alone():
            return self._forward(x, keeps=True)

    def infer(self, x: Array) -> Array:
        """forward(x) when no backward will follow, as `model.infer`."""
        with self._alone():
            return self._forward(x, keeps=False)

    def backward(self, dy: Array) -> Array:
        """dy -> dx, as `model.backward`; adds the gradients of the parameters into their `.grad`.

        Raises ValueError if no forward pass of this compiled model is left to go back through.
        """
        with self._alone():
            return self._backward(dy, wants_dx=True)

    def step(self, x: Array, labels: Array) -> tuple[Array, Array]:
        """x, labels (N,) -> loss, logits: zero_grad, forward, softmax cross-entropy and backward in one go."""
        with self._alone():
            loss = SoftmaxCrossEntropy()
            self.model.zero_grad()
            logits = self._forward(x, keeps=True)
            value = loss.forward(logits, labels)
            self._backward(loss.backward(), wants_dx=False)
            return value, logits

    def _forward(self, x: Array, keeps: bool) -> Array:
        self._way_back = None
        for _, layer in self.model.named_layers():
            layer._cache = None  # a forward pass of the model's own is not gone back through any more
        program = Program(keeps, self.model)
        self._checked.check(program)
        try:
            workers = self._workers(program, x)
            y = self._run(workers, lambda worker, group: worker.forward(group, x))
        except Refused as refusal:
            self._explain(x, keeps, refusal)
        if keeps:
            self._way_back = workers, y[:0], y.shape
        return y

    def _workers(self, program: Program, x: Array) -> list[Worker]:
        """One for each rank; those of an earlier pass, which have planned already, if all is as it was then."""
        shares = self._divide(x)
        key = program.key, type(x), x.dtype, x.shape, len(shares)
        workers = self._planned.pop(key, None) or [Worker(array_namespace(x), program, share) for share in shares]
        self._planned[key] = workers  # as the last one
        while len(self._planned) > PLANS:
            del self._planned[next(iter(self._planned))]
        return workers

    def _backward(self, dy: Array, wants_dx: bool) -> Array:
        if self._way_back is None:
            raise ValueError(
                f"{type(self.model).__name__}.backward: no forward of the compiled model has been called, or backward "
                "has already used it up; expected one forward(x) before each backward(dy)"
            )
        workers, like, shape = self._way_back
        xp = check_upstream(dy, shape, like)
        dx = self._run(workers, lambda worker, group: worker.backward(group, dy, wants_dx))
        for found in zip(*(worker.gradients for worker in workers), strict=True):
            total = sum(gradient for _, gradient in found)  # in the order of the ranks
            found[0][0].add_grad(xp.ascontiguousarray(total))
        self._way_back = None
        return dx

    def _divide(self, x: Array) -> list[list[slice]]:
        """The pieces of each rank's share of the batch."""
        try:
            on_host = array_namespace(x) is np
        except TypeError as error:
            raise Refused from error
        if x.ndim < 2 or x.size == 0:
            raise Refused
        n, pixels = len(x), math.prod(x.shape[2:])
        if not on_host:
            return [[slice(0, n)]]
        ranks = self._team.at_most(max(1, min(self.threads, n, n * pixels // SHARE_PIXELS)))
        return [
            divide(share.start, share.stop, math.ceil((share.stop - share.start) * pixels / PIECE_PIXELS))
            for share in divide(0, n, ranks)
        ]

    def _run(self, workers: list[Worker], work: Callable[[Worker, ThreadGroup], list[Array]]) -> Array:
        """work(worker, group) on every rank -> their pieces put together, in the order of the batch."""
        with blas_at_one_thread():
            shares = self._team.run(len(workers), lambda group: work(workers[group.rank], group))
        pieces = [piece for share in shares for piece in share]
        return channels_first(array_namespace(*pieces).concatenate(pieces))

    def _explain(self, x: Array, keeps: bool, refusal: Refused) -> NoReturn:
        """Raises the definition's own exception for an input that does not fit; on a copy, which may be changed."""
        model = copy.deepcopy(self.model)
        (model.forward if keeps else model.infer)(x)
        raise refusal.__cause__ or RuntimeError("the compiled model refused an input that the model accepts")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Refuses a second thread; after an exception there is no way back."""
        if not self._in_use.acquire(blocking=False):
            raise RuntimeError("this compiled model is at work in another thread; compile one for each thread")
        try:
            yield
        except BaseException:
            self._way_back = None
            self._planned.clear()  # some plan may be half done
            raise
        finally:
            self._in_use.release()

    # --- what a layer has, too -----------------------------------------------------------------------------------

    def parameters(self) -> list[Parameter]:
        """The model's parameters."""
        return self.model.parameters()

    def zero_grad(self) -> None:
        """Sets every gradient of the model to zero."""
        self.model.zero_grad()

    def train(self, mode: bool = True) -> Self:
        """Puts the model into training mode."""
        self.model.train(mode)
        return self

    def eval(self) -> Self:
        """Puts the model into evaluation mode."""
        return self.train(False)

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("a compiled model cannot be copied or pickled; copy or save its model, `fast.model`")

    def __repr__(self) -> str:
        return f"minires.compile({self.model!r}, threads={self.threads})"
