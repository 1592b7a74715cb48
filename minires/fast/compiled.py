"""A compiled model: the passes of a model, carried out by a team of workers. See `minires.compile`."""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, Self

import numpy as np

from minires.backend import Array, array_namespace
from minires.checks import check_upstream, whole
from minires.fast.check import Checked
from minires.fast.columns import Refused
from minires.fast.group import Group
from minires.fast.piece import PIECE_PIXELS, Worker, channels_first, divide
from minires.fast.program import Program
from minires.fast.team import Team
from minires.fast.threads import blas_at_one_thread, num_threads
from minires.nn import Layer, Parameter, SoftmaxCrossEntropy

SHARE_PIXELS = 1024
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
        self._workers = [Worker() for _ in range(self.threads)]
        self._in_use = threading.Lock()
        self._way_back: tuple[Program, int, Array, tuple[int, ...]] | None = None
        self._checked = Checked()
        self._checked.check(Program(model, keeps=True))

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
        self._forget()
        for _, layer in self.model.named_layers():
            layer._cache = None  # a forward pass of the model's own is not gone back through any more
        program = Program(self.model, keeps)
        self._checked.check(program)
        try:
            shares = self._divide(x)
            pieces = self._run(len(shares), lambda worker, group: worker.forward(group, program, x, shares[group.rank]))
        except Refused as refusal:
            self._explain(x, keeps, refusal)
        y = channels_first(array_namespace(x).concatenate(pieces))
        if keeps:
            self._way_back = program, len(shares), y[:0], y.shape
        return y

    def _backward(self, dy: Array, wants_dx: bool) -> Array | None:
        if self._way_back is None:
            raise ValueError(
                f"{type(self.model).__name__}.backward: no forward of the compiled model has been called, or backward "
                "has already used it up; expected one forward(x) before each backward(dy)"
            )
        program, ranks, like, shape = self._way_back
        check_upstream(dy, shape, like)
        pieces = self._run(ranks, lambda worker, group: worker.backward(group, program, dy, wants_dx))
        gradients: dict[Any, Array] = {}
        for worker in self._workers[:ranks]:  # in the order of the ranks
            for key, gradient in worker.gradients.items():
                gradients[key] = gradient if key not in gradients else gradients[key] + gradient
        for node in program.nodes:
            node.add_gradients(gradients)
        self._forget()
        return channels_first(array_namespace(dy).concatenate(pieces)) if wants_dx else None

    def _divide(self, x: Array) -> list[list[slice]]:
        """The pieces of each rank's share of the batch."""
        try:
            on_host = array_namespace(x) is np
        except TypeError as error:
            raise Refused from error
        if x.ndim < 2 or x.size == 0:
            raise Refused
        pixels = math.prod(x.shape[2:])
        if not on_host:
            return [[slice(0, len(x))]]
        ranks = self._team.at_most(max(1, min(self.threads, len(x), len(x) * pixels // SHARE_PIXELS)))
        shares = []
        for share in divide(len(x), ranks):
            count = share.stop - share.start
            parts = divide(count, math.ceil(count * pixels / PIECE_PIXELS))
            shares.append([slice(share.start + part.start, share.start + part.stop) for part in parts])
        return shares

    def _run(self, ranks: int, work: Any) -> list[Array]:
        """work(worker, group) on every rank -> the pieces of all of them, in the order of the batch."""
        with blas_at_one_thread():
            results = self._team.run(ranks, lambda group: work(self._workers[group.rank], group))
        return [piece for pieces in results for piece in pieces]

    def _explain(self, x: Array, keeps: bool, refusal: Refused) -> NoReturn:
        """Raises the definition's own exception for an input that does not fit; on a copy, which may be changed."""
        model = copy.deepcopy(self.model)
        (model.forward if keeps else model.infer)(x)
        raise refusal.__cause__ or RuntimeError("the compiled model refused an input that the model accepts")

    def _forget(self) -> None:
        self._way_back = None
        for worker in self._workers:
            worker.pieces = []

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Refuses a second thread; after an exception there is no way back."""
        if not self._in_use.acquire(blocking=False):
            raise RuntimeError("this compiled model is at work in another thread; compile one for each thread")
        try:
            yield
        except BaseException:
            self._forget()
            raise
        finally:
            self._in_use.release()

    # --- what a layer has, too -----------------------------------------------------------------------------------

    @property
    def training(self) -> bool:
        """Whether the model is in training mode."""
        return self.model.training

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
