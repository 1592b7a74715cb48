"""A model that several processes train together, each on its share of every batch.

Why this is the same training. The loss of a batch of N images is a mean, so its gradient is one too; with n_r images
on rank r,

    gradient = 1/N * sum over all images = sum over ranks of  n_r/N * (the gradient of the mean over the n_r images)

Each rank scales its upstream gradient by n_r/N, so the shares may be uneven, and the sum over the ranks is the gradient
of the whole batch. All ranks receive the same bits, so the same update keeps their weights equal.

BatchNorm is the one layer that sees more than one image: its statistics are summed over the ranks in both passes.
`local_batchnorm=True` leaves that out. Then each rank normalizes by its own share, which is another function of the
batch: that of smaller batches.
"""

from __future__ import annotations

import os
import warnings
import zlib
from typing import Any, Self

import numpy as np

from minires.backend import Array, to_numpy
from minires.fast.compiled import Compiled
from minires.fast.program import Program
from minires.fast.worker import Worker
from minires.nn import BatchNorm2d, Dropout, Layer, Parameter
from minires.parallel.batchnorm import synchronize_batchnorm
from minires.parallel.gradients import GradientSums
from minires.parallel.group import MPIGroup
from minires.threads import num_threads


class DataParallel:
    """The passes of `model`, of which each rank of `group` has a copy, on this rank's share of a batch.

    forward(x) takes the share, backward(dy) the gradient of the mean loss over it, as if there were no other ranks.
    Afterwards every `.grad` is the gradient of the mean over the whole batch. All ranks have to call them together.

    compile: run the passes by `minires.compile`, with `threads` of them in each rank; by default MINIRES_NUM_THREADS,
    or the cores divided among the ranks that share them. Otherwise, and where the compiled model disagrees with the
    definition, the definition is run; the model's BatchNorm layers are replaced for that, in place.
    overlap: gradients travel while the backward pass goes on; otherwise after it.

    All ranks begin with the weights of rank 0. A layer of the user's own sees this rank's share alone. Raises
    ValueError for a model with dropout, whose masks are drawn for a whole batch.
    """

    def __init__(
        self,
        model: Layer,
        group: MPIGroup,
        *,
        compile: bool = True,
        threads: int | None = None,
        local_batchnorm: bool = False,
        overlap: bool = True,
    ) -> None:
        from threadpoolctl import threadpool_limits

        dropouts = [path for path, layer in model.named_layers() if isinstance(layer, Dropout)]
        if dropouts and group.size > 1:
            raise ValueError(f"{dropouts[0]} draws its masks for a whole batch, which no rank has; expected no Dropout")
        self.model, self.group, self.local_batchnorm = model, group, local_batchnorm
        if threads is None:
            threads = num_threads() if "MINIRES_NUM_THREADS" in os.environ else group.threads(num_threads())
        shared = len(list(model.named_parameters())) > len(model.parameters())
        self.overlap = overlap and not shared  # a shared parameter's gradient is complete only in the end
        self.threads, self.sums_norms = threads, group.size > 1 and not local_batchnorm
        self.engine: Compiled | Layer | None = self._compiled() if compile else None
        if self.engine is None:
            threadpool_limits(threads, "blas")  # its products are made by the threads of BLAS, from now on so many
            self.engine = self.model = model if local_batchnorm else synchronize_batchnorm(model, group)
        self._count: Any = None
        self._sums: GradientSums | None = None
        self._take_over(self.model.state_dict())

    def _compiled(self) -> Compiled | None:
        """The compiled model; None, with a warning, where it disagrees with the definition."""
        try:
            return _CompiledShare(self)
        except ValueError as error:
            warnings.warn(f"{error}; training goes on by the definition", stacklevel=3)
            return None

    def forward(self, x: Array) -> Array:
        """x (n, ...), this rank's share -> y (n, ...)."""
        self._count = self.group.start_sum(np.array(float(len(x)))), len(x)
        return self.engine.forward(x)

    def backward(self, dy: Array) -> Array:
        """dy: the gradient of the mean loss over this rank's images -> dx, of the mean over the whole batch.

        Adds the gradients of the parameters, summed over all ranks, into their `.grad`.
        """
        if self._count is None:
            raise ValueError("DataParallel.backward: expected one forward(x) before each backward(dy)")
        (pending, count), self._count = self._count, None
        weight, parameters = count / float(pending.wait()), self.parameters()
        before = [parameter.grad for parameter in parameters]
        self.zero_grad()
        self._sums = sums = GradientSums(self.group)
        if self.overlap and isinstance(self.engine, Layer):
            with self.engine.observe(self._send_what_is_complete):
                dx = self.engine.backward(dy * weight)
        else:
            dx = self.engine.backward(dy * weight)
        for parameter in parameters:
            if parameter not in sums.added:
                sums.add(parameter, parameter.grad)
        totals, self._sums = sums.finish(), None
        for parameter, old in zip(parameters, before, strict=True):
            parameter.grad = old + totals[parameter]
        return dx

    def _send_what_is_complete(self, layer: Layer, path: str, direction: str, dy: Array, dx: Array) -> None:
        """An observer of the definition: called after each layer's backward pass."""
        for parameter in vars(layer).values():
            if isinstance(parameter, Parameter):
                self._sums.add(parameter, parameter.grad)
        self._sums.help_on()

    def infer(self, x: Array) -> Array:
        """forward(x) in this rank alone, when no backward will follow."""
        return self.engine.infer(x)

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

    def agree(self) -> None:
        """Has all ranks take over rank 0's running statistics, which differ with `local_batchnorm`.

        Raises RuntimeError where the ranks' weights have come to differ, which should not happen.
        """
        weights = [to_numpy(parameter.value) for parameter in self.parameters()]
        own = zlib.crc32(b"".join(np.ascontiguousarray(array).data for array in weights))
        _, first = self.group.broadcast(state=own)
        if first != own:
            raise RuntimeError(
                f"the weights of rank {self.group.rank} have come to differ from those of rank 0: do all ranks run the "
                "same program, with the same versions of minires, NumPy and MPI?"
            )
        self._take_over({path: getattr(layer, name) for path, layer, name in self.model.named_buffers()})

    def _take_over(self, state: dict[str, Array]) -> None:
        """Loads rank 0's arrays of these names."""
        found, _ = self.group.broadcast(state)
        if self.group.rank > 0:
            self.model.load_state_dict({**self.model.state_dict(), **found})


class _CompiledShare(Compiled):
    """The compiled model, which sends gradients on their way as soon as they are complete."""

    def __init__(self, owner: DataParallel) -> None:
        self.owner = owner
        super().__init__(owner.model, owner.threads, None if owner.local_batchnorm else owner.group)

    def _check(self, program: Program) -> None:
        super()._check(program)
        if self.owner.sums_norms:
            own = [
                layer for _, layer, configuration in program.layers if configuration is None
            ]  # they run their own code
            inside = (child for layer in own for _, child in layer.named_layers())
            if any(isinstance(child, BatchNorm2d) and child.training for child in inside):
                raise ValueError(
                    "a BatchNorm2d is observed, or lies in a layer that runs its own code: the compiled model cannot "
                    "sum its statistics over the ranks; expected compile=False or local_batchnorm=True"
                )

    def on_meeting(self, workers: list[Worker], finished: list[Parameter]) -> None:
        sums = self.owner._sums
        if sums is not None and self.owner.overlap:
            for parameter in finished:
                sums.add(parameter, sum(worker.gradients[parameter] for worker in workers))
            sums.help_on()
