"""The gradients of one backward pass on their way to all ranks.

They travel in a few large flat buckets: each sum over the ranks costs a delay, however short it is, and a network has
hundreds of parameters. A bucket leaves when it is full, while the backward pass goes on to the layers below. The last
layer of the network is the first to have its gradients.
"""

from __future__ import annotations

from minires.backend import Array, array_namespace
from minires.nn import Parameter
from minires.parallel.group import MPIGroup, PendingSum

BUCKET_BYTES = 2**18
"""A bucket is full at so many bytes: resnet20, with 1.1 MB of gradients, makes five. A network of 10 GB/s carries one
in 26 microseconds, so a delay of a few microseconds is a small part of it."""


class GradientSums:
    """What a backward pass adds gradients to, one parameter after the other, in the same order on every rank."""

    def __init__(self, group: MPIGroup) -> None:
        self.group = group
        self.added = set[Parameter]()
        self._bucket, self._bytes = list[tuple[Parameter, Array]](), 0
        self._sent: list[tuple[tuple[Parameter, ...], PendingSum]] = []

    def add(self, parameter: Parameter, gradient: Array) -> None:
        """This rank's gradient, which must not change until its bucket is sent. A full bucket leaves at once."""
        if self._bucket and self._bucket[-1][1].dtype != gradient.dtype:
            self.send()
        self.added.add(parameter)
        self._bucket.append((parameter, gradient))
        self._bytes += gradient.nbytes
        if self._bytes >= BUCKET_BYTES:
            self.send()

    def send(self) -> None:
        """Sends the bucket as it is."""
        if self._bucket:
            parameters, gradients = zip(*self._bucket, strict=True)
            flat = array_namespace(gradients[0]).concatenate([gradient.reshape(-1) for gradient in gradients])
            self._sent.append((parameters, self.group.start_sum(flat)))
        self._bucket, self._bytes = [], 0

    def help_on(self) -> None:
        """Lets MPI work on the buckets that are under way."""
        for _, pending in self._sent:
            pending.help_on()

    def finish(self) -> dict[Parameter, Array]:
        """Sends the rest and waits -> the gradients, summed over the ranks."""
        self.send()
        found = {}
        for parameters, pending in self._sent:
            flat, start = pending.wait(), 0
            for parameter in parameters:
                stop = start + parameter.value.size
                found[parameter] = flat[start:stop].reshape(parameter.value.shape)
                start = stop
        return found
