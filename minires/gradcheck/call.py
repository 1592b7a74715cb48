"""One check: the functions, the arrays they get, and the upstream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from minires.backend import Array
from minires.gradcheck import kinks
from minires.gradcheck.kinks import Switch
from minires.gradcheck.user_functions import Subject


@dataclass
class Call:
    """One check: the functions, the arrays they get, and the upstream."""

    subject: Subject
    slots: list[Array | None]
    slot_names: list[str]
    like: str | None = None
    options: dict = field(default_factory=dict)
    title: str = "gradient check"
    notes: list[str] = field(default_factory=list)
    ties: str | None = None
    """Who gets dy where pixels of a max-pool are equally large; None: any single winner will do."""
    keeps_cache: bool = False
    """Whether the functions are a layer's, which keeps its cache inside and hands it out once."""
    see: Callable[[], list[Switch] | None] | None = None
    """The switches of the last forward call, where the functions are a layer's."""

    def __post_init__(self) -> None:
        self.arrays = tuple(a for a in self.slots if a is not None)
        self.names = [n for n, a in zip(self.slot_names, self.slots, strict=True) if a is not None]
        self.dy = np.ones(())

    def copies(self) -> tuple[Array, ...]:
        return tuple(a.copy() for a in self.arrays)

    def infer_mask(self, y: Array) -> None:
        """Dropout draws its mask inside; which numbers were dropped shows in y."""
        if self.like == "dropout" and "mask" not in self.options and y.shape == self.arrays[0].shape:
            self.options["mask"] = y != 0
        self.options.pop("rng", None)

    def set_upstream(self, y: Array, dy: Array | float | None, seed: int) -> None:
        """Random numbers, so that nothing cancels by symmetry; 1 for a loss, which is the end of the chain.

        Their seed is made longer than any that inputs are drawn with: default_rng([0, 0]) repeats default_rng(0), and
        a dy that equals x hides a gate taken from the wrong one of the two.
        """
        if dy is None:
            dy = np.random.default_rng([*b"upstream", seed]).standard_normal(y.shape) if y.ndim else 1.0
        self.dy = np.asarray(dy, dtype=np.float64)
        if self.dy.shape != y.shape:
            raise ValueError(f"dy has shape {self.dy.shape}; expected {y.shape}, the shape of forward's y")

    def evaluator(self, number: int) -> Callable[[Array], tuple[Array, list[Switch] | None]]:
        """Input `number` -> y and the switches, everything else as it is."""

        def evaluate(value: Array) -> tuple[Array, list[Switch] | None]:
            arrays = [a.astype(value.dtype) for a in self.arrays]
            arrays[number] = value.copy()
            y, _ = self.subject.forward(tuple(arrays))
            if value.dtype.kind == "c" and y.dtype.kind != "c":
                raise ValueError(
                    f'method="complex" needs a forward that computes in complex numbers; this one returned {y.dtype} '
                    '(an array made without dtype=x.dtype drops the imaginary part). Use method="central"'
                )
            return y, self.see() if self.see else kinks.switches_of_op(self.like, arrays[0], self.options)

        return evaluate
