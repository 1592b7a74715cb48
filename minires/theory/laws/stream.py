"""The stream of a residual network whose sums end in a ReLU, h' = max(0, h + g), resolved by position [MF].

Forward, at each position i, h is a walk reflected at zero (`reflected_walk`) with steps of variance q^(i). To first
order in the correlation (Price's theorem)

    K(i, i') = m(i) m(i') + sum_s S_s^2 C^_s(i, i'),     m = E h,   S_s = P(h > 0 at all steps s..now)

over the steps s since the walk started from zero. For steps of equal variance S_s is free of that variance, and
BatchNorm makes the average over positions 1, so S_s is taken from the average walk. After the first step the
arc-cosine kernel is exact. A projection (shortcut B) restarts the walk with a step of both branches' variances. A
subsampling shortcut (A) lets the old channels walk on and starts the new ones from zero: *populations* that are kept
apart, because BatchNorm centers each channel by itself.

Backward, Gamma(h, i) is the gradient's energy given the value of the stream. It keeps the correlation of the gates: a
unit that is on tends to stay on.

    Gamma(h, i) = E_g[1{h + g > 0} Gamma'(h + g, i)] + what the branch brings
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from minires.theory.laws import signal as maps
from minires.theory.laws.reflected_walk import Floats, Grid, Observable, Walk
from minires.theory.laws.signal import Signal


class _Classes(NamedTuple):
    """Positions with the same history, as mirror images have, share a walk: index (P,), one member of each class."""

    index: np.ndarray
    member: np.ndarray

    @classmethod
    def of(cls, *keys: np.ndarray) -> _Classes:
        """Positions are alike where all keys (P,) agree: integers exactly, others to five digits of their
        mean."""
        rounded = [key if key.dtype.kind == "i" else np.round(1e4 * key / (key.mean() or 1)) for key in keys]
        _, member, index = np.unique(np.stack(rounded, axis=1), axis=0, return_index=True, return_inverse=True)
        return cls(index.ravel(), member)


@dataclass(frozen=True)
class _Population:
    """Channels with one history.

    weight: their share of all channels. classes, walk: law of h for each class of positions. average: the walk
    with the average position's steps; survivors (steps, n): for each step since the start from zero, its
    sub-density that has been positive ever since. fresh: q^ of the first step while it is the only one.
    """

    weight: float
    classes: _Classes
    walk: Walk
    average: Walk
    survivors: Floats
    fresh: Floats | None

    def subsampled(self, kept: np.ndarray, weight: float) -> _Population:
        """The same channels at some positions."""
        classes = self.classes._replace(index=self.classes.index[kept])
        fresh = None if self.fresh is None else self.fresh[kept]
        return replace(self, weight=weight, classes=classes, fresh=fresh)


class Stream:
    """The v1 stream between two blocks: populations, and C^ of the steps that some of them remember."""

    def __init__(self, grid: Grid, populations: list[_Population], kernels: list[Floats]) -> None:
        self.grid, self.populations, self.kernels = grid, populations, kernels

    @classmethod
    def started(cls, grid: Grid, step: Signal) -> Stream:
        """All channels make their first step from zero."""
        return cls(grid, [_start(grid, 1.0, step.q)], [step.kernel])

    def stepped(self, step: Signal, kept: np.ndarray, share: float) -> Stream:
        """One more step, at the positions `kept`; a share of the channels walks on, the others start from
        zero."""
        same = len(kept) == len(self.kernels[-1])
        kernels = self.kernels if same else [k[np.ix_(kept, kept)] for k in self.kernels]
        if not step.q.any():
            populations = [p.subsampled(kept, share * p.weight) for p in self.populations]
            start = [_start(self.grid, 1 - share, step.q)] if share < 1 else []
            return Stream(self.grid, populations + start, kernels)
        populations = [_step(self.grid, p, step.q, kept, share * p.weight) for p in self.populations]
        if share < 1:
            populations.append(_start(self.grid, 1 - share, step.q))
        return Stream(self.grid, populations, [*kernels, step.kernel])

    @property
    def q(self) -> Floats:
        """Second moment, pooled over channels."""
        return sum(p.weight * self.grid.moment(p.walk, 2)[p.classes.index] for p in self.populations)

    @property
    def signal(self) -> Signal:
        """Second moment and cross-sample kernel, pooled over channels; computed anew each time, for it is large."""
        return Signal(self.q, self._kernel())

    def _kernel(self) -> Floats:
        coefficients = np.zeros(len(self.kernels))
        total = np.zeros_like(self.kernels[-1])
        for p in self.populations:
            if p.fresh is not None:
                total += p.weight * maps.arc_cosine(p.fresh, self.kernels[-1])
                continue
            mean = self.grid.moment(p.walk, 1)[p.classes.index]
            total += np.multiply.outer(*2 * [(math.sqrt(p.weight) * mean).astype(total.dtype)])
            coefficients[-len(p.survivors) :] += p.weight * p.survivors.sum(axis=-1) ** 2
        for coefficient, kernel in zip(coefficients, self.kernels, strict=True):
            if coefficient:
                total += float(coefficient) * kernel
        return total

    def positive(self) -> float:
        """Share of entries above zero."""
        return float(sum(p.weight * Grid.positive(p.walk)[p.classes.index].mean() for p in self.populations))

    @cached_property
    def law(self) -> tuple[_Classes, Walk]:
        """Law of h per class of positions, over all channels."""
        classes = _Classes.of(*(p.classes.index for p in self.populations))
        picked = [p.classes.index[classes.member] for p in self.populations]
        pairs = list(zip(self.populations, picked, strict=True))
        atom = sum(p.weight * p.walk.atom[i] for p, i in pairs)
        return classes, Walk(atom, sum(p.weight * p.walk.mass[i] for p, i in pairs))


def _start(grid: Grid, weight: float, q: Floats) -> _Population:
    classes = _Classes.of(q)
    variance = q[classes.member]
    average = grid.step(grid.start(), q.mean())
    walk = grid.step(grid.start(variance.shape), variance)
    return _Population(weight, classes, walk, average, average.mass[None], fresh=q if q.any() else None)


def _step(grid: Grid, p: _Population, q: Floats, kept: np.ndarray, weight: float) -> _Population:
    before = p.classes.index[kept]
    classes = _Classes.of(before, q)
    origin = before[classes.member]
    walk = grid.step(Walk(p.walk.atom[origin], p.walk.mass[origin]), q[classes.member])
    average = grid.step(p.average, q.mean())
    survivors = np.concatenate([grid.survive(p.survivors, q.mean()), average.mass[None]])
    return _Population(weight, classes, walk, average, survivors, fresh=None)


class Gamma(NamedTuple):
    """Gradient at a stream: energy per entry as a function of (h, position), in units the caller chose.

    common: amplitude Y of what all samples share, relative to the top's; coherence: that part's share of the
    energy there.
    """

    field: Field
    common: Field
    coherence: float

    @classmethod
    def constant(cls, grid: Grid, energy: Floats, coherence: float = 0.0) -> Gamma:
        """A gradient that does not depend on h: energy per entry, (P,)."""
        common = Field.constant(grid, np.ones(len(energy)))
        return cls(Field.constant(grid, energy), common, coherence)

    def energy(self, stream: Stream, *, gated: bool = False) -> Floats:
        """Mean energy per entry at each position, (P,); behind the ReLU's gate if gated."""
        return self.field.expect(*stream.law, gated=gated)


class Field(NamedTuple):
    """A function of (h, position): one observable for each class of positions."""

    classes: _Classes
    values: Observable

    @classmethod
    def constant(cls, grid: Grid, value: Floats) -> Field:
        """A function of the position alone."""
        classes = _Classes.of(value)
        return cls(classes, grid.constant(value[classes.member]))

    def expect(self, classes: _Classes, walk: Walk, *, gated: bool) -> Floats:
        """E f(h, i) for each position, (P,), where h has the law `walk`; with the factor 1{h > 0} if gated."""
        joint = _Classes.of(classes.index, self.classes.index)
        of_walk, of_value = classes.index[joint.member], self.classes.index[joint.member]
        law = Walk(walk.atom[of_walk], walk.mass[of_walk])
        value = Observable(self.values.zero[of_value], self.values.cells[of_value])
        return (Grid.expect_positive if gated else Grid.expect)(law, value)[joint.index]

    def pulled_back(self, pull: Callable[[Observable, Floats], Observable], q: Floats) -> Field:
        """Through the gate after a step of variance q(i): `pull` is one of Grid's two pull-backs."""
        classes = _Classes.of(self.classes.index, q)
        origin = self.classes.index[classes.member]
        values = Observable(self.values.zero[origin], self.values.cells[origin])
        return Field(classes, pull(values, q[classes.member]))

    def scattered(self, kept: np.ndarray, add: Floats) -> Field:
        """The function on a larger map: this one at the positions `kept`, zero elsewhere, plus `add` (P,)."""
        nowhere = len(self.classes.member)
        index = np.full(len(add), nowhere)
        index[kept] = self.classes.index
        classes = _Classes.of(index, add)
        origin, extra = index[classes.member], add[classes.member]
        zero = np.append(self.values.zero, 0.0)[origin] + extra
        cells = np.concatenate([self.values.cells, np.zeros((1, self.values.cells.shape[1]))])[origin]
        return Field(classes, Observable(zero, cells + extra[:, None]))
