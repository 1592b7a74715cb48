"""The stream of a residual network whose sums end in a ReLU, h' = max(0, h + g), position by position [MF].

Forward, h at position i is a walk reflected at zero (`reflected_walk`) with steps of variance q^(i). To first order in
the correlation (Price's theorem)

    K(i, i') = m(i) m(i') + sum_s S_s^2 C^_s(i, i'),     m = E h,   S_s = P(h > 0 at all steps s..now)

over the steps s since the walk started from zero; after the first step alone the arc-cosine kernel is exact. S_s is
that of the average walk: for steps of equal variance it does not depend on the variance. A projection (shortcut B)
restarts the walk with a step of both branches' variances. Shortcut A lets the old channels walk on and starts the new
ones from zero; these *populations* are kept apart, because BatchNorm centers each channel by itself.

Backward, Gamma(h, i) is the gradient's energy given the value of the stream, for a unit that is on tends to stay on:

    Gamma(h, i) = E_g[1{h + g > 0} Gamma'(h + g, i)] + what the branch brings
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import NormalDist
from typing import NamedTuple, Self

import numpy as np

from minires.theory.laws.activations import RELU, activation_kernel
from minires.theory.laws.reflected_walk import Floats, Grid
from minires.theory.laws.signal import Signal, every


class _Classes(NamedTuple):
    """Positions with the same history, as mirror images have, share a walk: index (P,), one member of each class."""

    index: np.ndarray
    member: np.ndarray

    @classmethod
    def of(cls, *keys: np.ndarray) -> Self:
        """Positions are alike where all keys (P,) agree: integers exactly, others to five digits of their mean."""
        rounded = [key if key.dtype.kind == "i" else np.round(1e4 * key / (key.mean() or 1)) for key in keys]
        _, member, index = np.unique(np.stack(rounded, axis=1), axis=0, return_index=True, return_inverse=True)
        return cls(index.ravel(), member)


@dataclass(frozen=True)
class _Population:
    """Channels with one history, a share `weight` of all. classes, walk: law of h for each class of positions. average:
    the walk with the average position's steps; survivors (steps, n + 1): for each step, the part of that walk that has
    been positive ever since. drift: mean of the first step while it is the only one, else None."""

    weight: float
    classes: _Classes
    walk: Floats
    average: Floats
    survivors: Floats
    drift: float | None

    def subsampled(self, kept: np.ndarray, weight: float) -> Self:
        """The same channels at some positions."""
        return replace(self, weight=weight, classes=self.classes._replace(index=self.classes.index[kept]))

    def in_units(self, grid: Grid, factor: float) -> Self:
        """The same channels, h counted in units of `factor`."""
        laws = {name: grid.in_units(getattr(self, name), factor) for name in ("walk", "average", "survivors")}
        return replace(self, **laws, drift=None if self.drift is None else self.drift / factor)

    def moment(self, grid: Grid, order: int) -> Floats:
        """E h^order at each position, (P,)."""
        return grid.moment(self.walk, order)[self.classes.index]

    def stepped(self, grid: Grid, step: Signal) -> Self:
        """The same channels after one more step."""
        q, before = step.q - step.mean**2, self.classes.index
        classes = _Classes.of(before, q)
        walk = grid.step(self.walk[before[classes.member]], q[classes.member], step.mean)
        average = grid.step(self.average, q.mean(), step.mean)
        survivors = np.concatenate([grid.step(self.survivors, q.mean(), step.mean), average[None]]) * (grid.points > 0)
        first = q.any() and not len(self.survivors)
        return _Population(self.weight, classes, walk, average, survivors, step.mean if first else None)


def _started(grid: Grid, weight: float, step: Signal) -> _Population:
    """Channels that make their first step, from zero."""
    classes = _Classes(np.zeros(len(step.q), int), np.zeros(1, int))
    nothing = _Population(weight, classes, grid.start()[None], grid.start(), np.zeros((0, grid.n + 1)), None)
    return nothing.stepped(grid, step)


class Stream:
    """The stream between two blocks: populations, and C^ of the steps that some of them remember. scale: h is so many
    times what the populations and steps, signals without their means, say."""

    def __init__(self, grid: Grid, populations: list[_Population], steps: list[Signal], scale: float = 1.0) -> None:
        self.grid, self.populations, self.steps, self.scale = grid, populations, steps, scale

    @classmethod
    def started(cls, grid: Grid, source: Signal, *, rescale: bool = False) -> Self | None:
        """relu(z), z of law `source`, in units of its deviation if so asked; None if the grid is too coarse for it."""
        scale = float(np.sqrt(source.q.mean())) if rescale and source.q.any() else 1.0
        if source.kernel is None:  # only the walk is wanted
            source = Signal(source.q, np.zeros((1, 1)), mean=source.mean)
        step = source.scaled(1 / scale**2)
        return cls(grid, [_started(grid, 1.0, step)], [step.centered], scale) if _fits(grid, step) else None

    def stepped(self, step: Signal, image: tuple[int, int], stride: int, share: float) -> Self | None:
        """One more step, at every stride-th pixel; a share of the channels walks on, the others start from zero.
        None if the grid is too coarse for the step."""
        step = step.scaled(1 / self.scale**2)
        if not _fits(self.grid, step):
            return None
        steps = self.steps if stride == 1 else [s.subsampled(image, stride) for s in self.steps]
        populations = [p.subsampled(every(image, stride), share * p.weight) for p in self.populations]
        if step.q.any():
            populations = [p.stepped(self.grid, step) for p in populations]
            steps = [*steps, step.centered]
        if share < 1:
            populations.append(_started(self.grid, 1 - share, step))
        return Stream(self.grid, populations, steps, self.scale)

    def rescaled(self) -> Self:
        """The same stream in units of its own rms."""
        factor = float(np.sqrt(self._q.mean()))
        if factor == 0:
            return self
        populations = [p.in_units(self.grid, factor) for p in self.populations]
        steps = [step.scaled(1 / factor**2) for step in self.steps]
        return Stream(self.grid, populations, steps, self.scale * factor)

    @property
    def _q(self) -> Floats:
        return sum(p.weight * p.moment(self.grid, 2) for p in self.populations)

    @property
    def signal(self) -> Signal:
        """Second moment and kernels, pooled over channels; computed anew each time, for they are large."""
        q, last = self._q, self.steps[-1]
        same = None
        if last.same is not None:
            same = self._kernel([s.whole_same() for s in self.steps], lambda values: values)
            np.fill_diagonal(same, q)
        kernel = self._kernel([s.kernel for s in self.steps], last.at_kernel)
        mean = float(sum(p.weight * p.moment(self.grid, 1).mean() for p in self.populations))
        return Signal(q, kernel, same, mean, span=last.span).scaled(self.scale**2)

    def _kernel(self, kernels: list[Floats], at: Callable[[Floats], Floats]) -> Floats:
        """K, or S, from those of the steps; `at` reads values at their positions."""
        coefficients = np.zeros(len(kernels))
        total = np.zeros_like(kernels[-1])
        for p in self.populations:
            if p.drift is not None:
                total += p.weight * activation_kernel(RELU, at(np.sqrt(self.steps[-1].q)), kernels[-1], p.drift)
                continue
            mean = at(p.moment(self.grid, 1))
            total += np.multiply.outer(*2 * [(math.sqrt(p.weight) * mean).astype(total.dtype)])
            coefficients[-len(p.survivors) :] += p.weight * p.survivors.sum(axis=-1) ** 2
        for coefficient, kernel in zip(coefficients, kernels, strict=True):
            if coefficient:
                total += float(coefficient) * kernel
        return total

    @cached_property
    def law(self) -> tuple[_Classes, Floats]:
        """Law of h per class of positions, over all channels."""
        classes = _Classes.of(*(p.classes.index for p in self.populations))
        return classes, sum(p.weight * p.walk[p.classes.index[classes.member]] for p in self.populations)

    @cached_property
    def chances(self) -> Floats:
        """P(h <= edge of each cell), pooled over channels and positions."""
        classes, walk = self.law
        return np.cumsum(np.bincount(classes.index) / len(classes.index) @ walk)

    def quantile(self, chance: Floats) -> Floats:
        """h below which a share `chance` of all entries lies."""
        return self.scale * np.interp(chance, self.chances, np.arange(self.grid.n + 1) * self.grid.dx)

    def density_at_zero(self) -> Floats:
        """(P,): density of h just above zero, pooled over channels."""
        classes, walk = self.law
        return (walk[:, 1] / self.grid.dx)[classes.index]

    def positive(self) -> float:
        """Share of entries above zero."""
        return float(sum(p.weight * Grid.positive(p.walk)[p.classes.index].mean() for p in self.populations))


def _fits(grid: Grid, step: Signal) -> bool:
    """Whether steps of these variances are neither finer than the grid's cells (0 is no step) nor wider than the grid,
    and their drift does not carry a walk out of it."""
    variance = step.q - step.mean**2
    variance = np.append(variance, variance.mean())
    resolved = (variance == 0) | ((variance > 2 * grid.dx**2) & (variance < (grid.top / 4) ** 2))
    return bool(resolved.all()) and abs(step.mean) < grid.top / 4


class Field(NamedTuple):
    """A function of (h, position): its values on the grid for each class of positions."""

    classes: _Classes
    values: Floats

    def expect(self, classes: _Classes, walk: Floats, *, gated: bool) -> Floats:
        """E f(h, i) for each position, (P,), where h has the law `walk`; with the factor 1{h > 0} if gated."""
        joint = _Classes.of(classes.index, self.classes.index)
        of_walk, of_value = classes.index[joint.member], self.classes.index[joint.member]
        return Grid.expect(walk[of_walk], self.values[of_value], gated=gated)[joint.index]

    def pulled_back(self, pull: Callable[[Floats, Floats], Floats], q: Floats) -> Self:
        """Through the gate after a step of variance q(i): `pull` is `Grid.pull_back`."""
        classes = _Classes.of(self.classes.index, q)
        return Field(classes, pull(self.values[self.classes.index[classes.member]], q[classes.member]))

    def scattered(self, kept: np.ndarray, add: Floats) -> Self:
        """The function on a larger map: this one at the positions `kept`, zero elsewhere, plus `add` (P,)."""
        nowhere = len(self.classes.member)
        index = np.full(len(add), nowhere)
        index[kept] = self.classes.index
        classes = _Classes.of(index, add)
        values = np.concatenate([self.values, np.zeros_like(self.values[:1])])
        return Field(classes, values[index[classes.member]] + add[classes.member, None])


class Gamma(NamedTuple):
    """Gradient at a stream: energy per entry as a function of (h, position), in units the caller chose.
    common: amplitude Y of what all samples share, relative to the top's."""

    field: Field
    common: Field

    @classmethod
    def constant(cls, grid: Grid, energy: Floats) -> Self:
        """A gradient that does not depend on h: energy per entry, (P,)."""
        classes, alike = _Classes.of(energy), _Classes.of(np.ones(len(energy)))
        values = np.repeat(energy[classes.member, None], grid.n + 1, axis=1)
        return cls(Field(classes, values), Field(alike, np.ones((1, grid.n + 1))))

    @classmethod
    def weighted(cls, stream: Stream, energy: Floats, gate: Callable[[Floats], Floats]) -> Self:
        """A gradient of mean energy (P,) that goes with gate(z), h = F^-1(Phi(z))."""
        edges = np.clip(stream.chances, 1e-12, 1 - 1e-12)
        middle = np.concatenate([[edges[0] / 2], (edges[1:] + edges[:-1]) / 2])
        found = gate(np.array([NormalDist().inv_cdf(chance) for chance in middle]))
        found = found / max(float(found @ np.diff(stream.chances, prepend=0.0)), 1e-300)
        plain = cls.constant(stream.grid, energy)
        return plain._replace(field=plain.field._replace(values=plain.field.values * found))

    def energy(self, stream: Stream, *, gated: bool = False) -> Floats:
        """Mean energy per entry at each position, (P,); behind the ReLU's gate if gated."""
        return self.field.expect(*stream.law, gated=gated)
