"""What more can be asked of the functions of a failing check than one product with dy.

    numeric(i)   J[j, e] = d y_j / d e for every output j and every entry e of input i, by differences of forward
    theirs(i)    the same as backward claims it: row j is backward(unit vector j), minus what it returns for dy = 0

With both, one sees which output sends its gradient where, and what would be right for any other dy. They are built when
first asked for, and only for tensors small enough for it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from minires.backend import Array
from minires.gradcheck import numerical

MOST_ENTRIES = 700
"""Of y, and of an input."""

MOST_PAIRS = 150_000
"""Entries of a Jacobian."""

STEP = 2.0**-13
"""Relative step of the differences. Two steps cancel the term in h^2, so rounding, some 1e-12, is the larger error."""


class Jacobians:
    """The Jacobians of a pair of functions at the inputs of a check."""

    def __init__(
        self,
        forward: Callable[[tuple[Array, ...]], Array],
        backward: Callable[[Array], tuple[Array | None, ...]],
        inputs: tuple[Array, ...],
        y: Array,
        dy: Array,
    ) -> None:
        """forward(inputs) -> y; backward(dy) -> gradients at `inputs`."""
        self.forward, self.backward = forward, backward
        self.inputs, self.y, self.dy = inputs, y, dy
        self._numeric: dict[int, Array | None] = {}
        self._theirs: list[Array | None] | None = None

    def fits(self, i: int) -> bool:
        """Whether input i and y are small enough."""
        size = self.inputs[i].size
        return max(size, self.y.size) <= MOST_ENTRIES and size * self.y.size <= MOST_PAIRS

    def numeric(self, i: int) -> Array | None:
        """(entries of y, entries of input i), or None where it is too large or not finite."""
        if i not in self._numeric:
            found = self._differences(i) if self.fits(i) else None
            self._numeric[i] = None if found is None or not np.all(np.isfinite(found)) else found
        return self._numeric[i]

    def _differences(self, i: int) -> Array:
        value = self.inputs[i]
        step = numerical.power_of_two(STEP * numerical.typical_size(value))
        return np.stack([self._column(i, unit, step).ravel() for unit in _units(value)], axis=1)

    def _column(self, i: int, direction: Array, step: float, inputs: tuple[Array, ...] | None = None) -> Array:
        """dy / dt along a direction of input i: differences with h and 2h, combined so that their h^2 terms cancel.

        Where the two disagree (a kink within 2h), a step a thousand times smaller is used.
        """
        inputs = self.inputs if inputs is None else inputs

        def at(t: float) -> Array:
            moved = [a.copy() for a in inputs]
            moved[i] = moved[i] + t * direction
            return self.forward(tuple(moved))

        def differences(h: float) -> tuple[Array, Array]:
            return (at(h) - at(-h)) / (2 * h), (at(2 * h) - at(-2 * h)) / (4 * h)

        near, far = differences(step)
        if np.max(np.abs(near - far), initial=0.0) > 1e-5 * np.max(np.abs(near), initial=0.0):
            near, far = differences(step / 1024)
        return near + (near - far) / 3

    def theirs(self, i: int) -> Array | None:
        """(entries of y, entries of input i) of backward, or None where it is too large or of another size."""
        if not self.fits(i):
            return None
        if self._theirs is None:
            self._theirs = self._unit_answers()
        return self._theirs[i]

    def _unit_answers(self) -> list[Array | None]:
        zero = self.backward(np.zeros_like(self.y))
        rows: list[list[Array]] = [[] for _ in self.inputs]
        for unit in _units(self.y):
            for i, gradient in enumerate(self.backward(unit)):
                if gradient is not None and zero[i] is not None and gradient.size == self.inputs[i].size:
                    rows[i].append(np.asarray(gradient - zero[i], dtype=float).ravel())
        whole = [np.array(r) if len(r) == self.y.size else None for r in rows]
        return [m if m is not None and np.all(np.isfinite(m)) else None for m in whole]

    def gradient(self, i: int, dy: Array) -> Array | None:
        """The right gradient of input i for another dy."""
        jacobian = self.numeric(i)
        return None if jacobian is None else (dy.ravel() @ jacobian).reshape(self.inputs[i].shape)

    def slope(self, i: int, direction: Array, inputs: tuple[Array, ...]) -> float:
        """<gradient of input i, direction> at other inputs: cheap, to see whether the whole gradient is worth it."""
        step = numerical.power_of_two(STEP * numerical.typical_size(inputs[i]))
        return float(np.sum(self.dy * self._column(i, direction, step, inputs)))

    def gradient_at(self, i: int, inputs: tuple[Array, ...]) -> Array:
        """The numerical gradient of input i at other inputs, for the dy of the check."""
        slopes = [self.slope(i, unit, inputs) for unit in _units(inputs[i])]
        return np.array(slopes).reshape(inputs[i].shape)


def _units(array: Array) -> list[Array]:
    """All unit vectors of an array's shape."""
    return list(np.eye(array.size).reshape(array.size, *array.shape))
