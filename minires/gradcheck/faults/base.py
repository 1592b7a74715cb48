"""What a fault of the catalogue is, and how one is written down.

A fault is a small executable variation of a right op: `forward(*inputs, **options) -> (y, cache)` and
`backward(dy, cache) -> gradients`, one for each input. Most faults sit in one of the two, and then only that one is
written; the other is minires' own. A backward is given what every forward here keeps: a `Saved`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from minires.backend import Array
from minires.gradcheck import definitions

Gradients = tuple[Array, ...]


class Saved(NamedTuple):
    """The cache of every fault: all there is to know about its forward call."""

    op: str
    inputs: tuple[Array, ...]
    options: dict
    y: Array
    cache: object
    """The right op's own cache."""


def right_forward(op: str, inputs: tuple[Array, ...], options: dict) -> tuple[Array, Saved]:
    """The op as it should be."""
    y, cache = definitions.run_forward(op, inputs, options)
    return y, Saved(op, inputs, options, y, cache)


def right_backward(dy: Array, saved: Saved) -> Gradients:
    """The gradients as they should be, one for each input."""
    return definitions.run_backward(saved.op, dy, saved.cache)[: len(saved.inputs)]


@dataclass(frozen=True)
class Fault:
    """One typical mistake."""

    name: str
    op: str
    sentence: str
    """What is wrong, for the student."""
    hint: str
    """Where to look, without the solution."""
    forward: Callable[..., tuple[Array, Saved]]
    backward: Callable[[Array, Saved], Gradients]
    needs: dict = field(default_factory=dict)
    """Settings without which it would not show (`stride` ignored at stride 1): for `configurations.draw`."""
    rule: str | None = None
    """The rule it breaks, if the numbers of a single call are right: a name in `rules.RULES`."""


CATALOGUE: dict[str, Fault] = {}
"""Every fault by its name, in the order of the files of this package."""


def backward_fault(name: str, sentence: str, hint: str, *, rule: str | None = None, **needs: object) -> Callable:
    """Registers the decorated `backward(dy, saved)` as the fault `name`; the op is what stands before the colon."""

    def register(backward: Callable[[Array, Saved], Gradients]) -> Callable[[Array, Saved], Gradients]:
        op = name.partition(":")[0]

        def forward(*inputs: Array, **options: object) -> tuple[Array, Saved]:
            return right_forward(op, inputs, options)

        _add(Fault(name, op, sentence, hint, forward, backward, needs, rule))
        return backward

    return register


def forward_fault(name: str, sentence: str, hint: str, *, rule: str | None = None, **needs: object) -> Callable:
    """Registers the decorated `output(*inputs, **options) -> y` as the fault `name`; its backward is the right op's."""

    def register(output: Callable[..., Array]) -> Callable[..., Array]:
        op = name.partition(":")[0]

        def forward(*inputs: Array, **options: object) -> tuple[Array, Saved]:
            y = output(*inputs, **options)
            return y, right_forward(op, inputs, options)[1]

        _add(Fault(name, op, sentence, hint, forward, right_backward, needs, rule))
        return output

    return register


def _add(fault: Fault) -> None:
    if fault.name in CATALOGUE:
        raise ValueError(f"two faults are named {fault.name}")
    CATALOGUE[fault.name] = fault


def faults_of(op: str) -> list[Fault]:
    """The catalogue's faults of one op."""
    return [fault for fault in CATALOGUE.values() if fault.op == op]


def replaced(gradients: Gradients, number: int, new: Array) -> Gradients:
    """`gradients` with one of them exchanged."""
    return (*gradients[:number], new, *gradients[number + 1 :])
