"""A compiled model: the passes of a model, carried out by a team of workers. See `minires.compile`."""

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NoReturn, Self

import numpy as np

from minires.backend import Array, array_namespace
from minires.changes import ModelAsItWas
from minires.checks import check_upstream, whole
from minires.fast.check import agreeing, check
from minires.fast.gpu import for_gpu
from minires.fast.program import Program
from minires.fast.worker import Refused, Worker, channels_first
from minires.nn import Layer, Parameter, SoftmaxCrossEntropy
from minires.threads import Group, Team, blas_at_one_thread, divide, lock_of, num_threads

SHARE_PIXELS = 2**10
"""A share of fewer pixels of input images costs more to hand to another thread than it saves."""

PLANS = 4
"""Plans that are kept, each with its memory: of a whole batch and of the last one, to train and to infer."""


class Compiled:
    """The fast way to run `model`, with the model's own parameters and buffers.

    forward, backward, infer, parameters, zero_grad, train and eval mean what they mean for a layer; `step` is all of a
    training step but the update. One thread at a time may use the model. group: the ranks that share each batch with
    this one.
    """

    def __init__(self, model: Layer, threads: int | None = None, group: Group | None = None) -> None:
        if not isinstance(model, Layer):
            raise TypeError(f"model is {model!r}; expected a Layer, as in minires.compile(nn.resnet20())")
        self.model, self.threads = model, num_threads() if threads is None else whole("threads", threads)
        self._team, self._in_use = Team(self.threads, group), lock_of(model)
        self._planned, self._way_back, self._agreed = dict[Any, list[Worker]](), None, None
        self._program(True)

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
            return self._backward(dy)

    def step(self, x: Array, labels: Array) -> tuple[Array, Array]:
        """x, labels (N,) -> loss, logits: zero_grad, forward, softmax cross-entropy and backward in one go."""
        with self._alone():
            loss = SoftmaxCrossEntropy()
            self.zero_grad()
            logits = self._forward(x, keeps=True, wants_dx=False)
            value = loss.forward(logits, labels)
            self._backward(loss.backward())
            return value, logits

    def _forward(self, x: Array, keeps: bool, wants_dx: bool = True) -> Array:
        self._way_back = self.model._cache = None  # neither forward pass of before is gone back through any more
        program, key = self._program(keeps, wants_dx)
        try:
            workers = self._workers(program, key, x)
            y = self._run("forward", workers, x)
        except (TypeError, ValueError, IndexError):  # the definition says it better; on a copy, which may be changed
            model = copy.deepcopy(self.model)
            (model.forward if keeps else model.infer)(x)
            raise
        if keeps:
            self._way_back = workers, y[:0], y.shape
        return y

    def _backward(self, dy: Array) -> Array:
        if self._way_back is None:
            raise ValueError(
                f"{type(self.model).__name__}.backward: no forward of the compiled model has been called, or backward "
                "has already used it up; expected one forward(x) before each backward(dy)"
            )
        (workers, like, shape), self._way_back = self._way_back, None
        xp = check_upstream(dy, shape, like)
        dx = self._run("backward", workers, dy)
        for parameter in workers[0].gradients:
            first, *others = (worker.gradients[parameter] for worker in workers)
            parameter.add_grad(xp.ascontiguousarray(sum(others, first)))
        return dx

    def _program(self, keeps: bool, wants_dx: bool = True) -> tuple[Program, Any]:
        """The program of the model as it is, checked, and its key: the one of before, if nothing has changed since."""
        if self._agreed is not (agreed := agreeing.now()) or not self._model_was.holds():
            self._agreed, self._programs, self._model_was = agreed, dict[Any, Any](), ModelAsItWas(self.model)
        if (keeps, wants_dx) not in self._programs:
            program = Program(keeps, self.model, wants_dx)
            self._check(program)
            self._programs[keeps, wants_dx] = program, program.key()
        return self._programs[keeps, wants_dx]

    def _workers(self, program: Program, key: Any, x: Array) -> list[Worker]:
        """One for each rank; those of an earlier pass, which have planned, if all is as it was."""
        if getattr(x, "ndim", 0) < 2 or x.size == 0:
            raise Refused
        n, pixels, xp = len(x), math.prod(x.shape[2:]), array_namespace(x)
        ranks = self._team.at_most(max(1, min(self.threads, n, n * pixels // SHARE_PIXELS))) if xp is np else 1
        key = key, type(x), x.dtype, x.shape, ranks
        workers = self._planned.pop(key, None)
        if workers is None:
            again = partial(Program, program.keeps, self.model, program.wants_dx, fuses=xp is np)
            programs = [again() if xp is np else for_gpu(again()) for _ in range(ranks)]
            workers = [Worker(xp, *each) for each in zip(programs, divide(0, n, ranks), strict=True)]
        self._planned[key] = workers  # as the last one
        self._planned = dict([*self._planned.items()][-PLANS:])
        return workers

    def _run(self, direction: str, workers: list[Worker], x: Array) -> Array:
        """Has every rank go -> their results put together, in the order of the batch."""
        with blas_at_one_thread():
            met = partial(self.on_meeting, workers)
            shares = self._team.run(len(workers), lambda group: workers[group.rank].go(direction, group, x, met))
        return channels_first(array_namespace(x).concatenate(shares))

    def on_meeting(self, workers: list[Worker], finished: list[Parameter]) -> None:
        """Called after each meeting of the workers. finished: parameters whose gradients are complete in all of them,
        unless a layer that comes later on the way back has them, too. For a subclass that sends them on at once."""

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Refuses a second thread; after an exception there is no way back."""
        if not self._in_use.acquire(blocking=False):
            raise RuntimeError("the model is at work in another thread; compile a copy of it for each thread")
        try:
            yield
        except BaseException:
            self._way_back = None
            self._planned.clear()  # some plan may be half done
            raise
        finally:
            self._in_use.release()

    def parameters(self) -> list[Parameter]:
        """The model's parameters."""
        return self.model.parameters()

    def zero_grad(self) -> None:
        """Sets every gradient of the model to zero."""
        known = getattr(self.model.zero_grad, "__func__", None) is Layer.zero_grad and self._model_was.holds()
        Layer.zero_grad(self._model_was) if known else self.model.zero_grad()

    def train(self, mode: bool = True) -> Self:
        """Puts the model into training mode."""
        self.model.train(mode)
        return self

    def eval(self) -> Self:
        """Puts the model into evaluation mode."""
        return self.train(False)

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("a compiled model cannot be copied or pickled; copy or save its model, `fast.model`")

    def _check(self, program: Program) -> None:
        check(program, _Probe)


class _Probe(Compiled):
    """What is compared with the definition: compiled without a comparison."""

    def _check(self, program: Program) -> None:
        pass
