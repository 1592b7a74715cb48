"""A stream that outgrows its grid: without BatchNorm a residual stream grows by a factor each block.

h' = max(0, h + g) with a step g whose variance is a multiple of E h^2 commutes with h -> h/s. So after each block the
stream is divided by its own rms, s, and the grid never has to reach further than a few of them. A law of h becomes
that of h/s by moving its masses, a function F of h/s becomes one of h by reading F at h/s; energies, which are
functions of h, keep their values.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from minires.theory.laws.reflected_walk import Floats, Grid, Observable, Walk
from minires.theory.laws.signal import Outline, Signal
from minires.theory.laws.stream import Stream


class Scaled(NamedTuple):
    """A stream in units of `scale`: h = scale times the stream's own h."""

    stream: Stream
    scale: float = 1.0

    @classmethod
    def started(cls, grid: Grid, source: Signal, *, rescale: bool) -> Scaled | None:
        """relu(z), z of law `source`; None if the grid is too coarse for it."""
        scale = float(np.sqrt(source.q.mean())) if rescale and source.q.any() else 1.0
        source = _in_units(source, scale)
        return cls(Stream.started(grid, source), scale) if _fits(grid, source) else None

    def stepped(self, step: Signal, image: tuple[int, int], stride: int, share: float) -> Scaled | None:
        """One more step, in true units; see `Stream.stepped`. None if the grid is too coarse for it."""
        step, grid = step.scaled(1 / self.scale**2), self.stream.grid
        return self._replace(stream=self.stream.stepped(step, image, stride, share)) if _fits(grid, step) else None

    @property
    def signal(self) -> Signal:
        """Second moment and covariance in true units."""
        return self.stream.signal.scaled(self.scale**2)

    def rescaled(self) -> Scaled:
        """The same stream in units of its own rms."""
        factor = float(np.sqrt(self.stream.q.mean()))
        if factor == 0:
            return self
        grid, populations = self.stream.grid, []
        for p in self.stream.populations:
            walk = Walk(p.walk.atom, _moved(grid, p.walk.mass, factor))
            average = Walk(p.average.atom, _moved(grid, p.average.mass, factor))
            fresh = None if p.fresh is None else p.fresh._replace(q=p.fresh.q / factor**2, mean=p.fresh.mean / factor)
            survivors = _moved(grid, p.survivors, factor)
            populations.append(replace(p, walk=walk, average=average, survivors=survivors, fresh=fresh))
        steps = [step.scaled(1 / factor**2) for step in self.stream.steps]
        return Scaled(Stream(grid, populations, steps), self.scale * factor)


def _in_units(source: Signal | Outline, scale: float) -> Signal:
    """The signal over scale; an outline, from which only the walk is wanted, gets a kernel of zeros."""
    if source.kernel is None:
        return Signal(source.q / scale**2, np.zeros((1, 1)), mean=source.mean / scale)
    return source.scaled(1 / scale**2)


def _fits(grid: Grid, step: Signal) -> bool:
    """Whether the grid resolves steps of these variances; a drift may not carry a walk out of it."""
    q = step.q - step.mean**2
    return grid.resolves(q) and grid.resolves(q.mean()) and abs(step.mean) < grid.top / 4


def _moved(grid: Grid, mass: Floats, factor: float) -> Floats:
    """Masses (..., n) of h/factor from those of h; what lies beyond the top stays in the last cell."""
    edges = np.arange(grid.n + 1) * grid.dx
    rows = mass.reshape(-1, grid.n)
    totals = np.concatenate([np.zeros((len(rows), 1)), np.cumsum(rows, axis=1)], axis=1)
    read = np.array([np.interp(edges * factor, edges, total) for total in totals])
    read[:, -1] = totals[:, -1]
    return np.diff(read, axis=1).reshape(mass.shape)


def stretched(grid: Grid, f: Observable, factor: float) -> Observable:
    """As a function of h, what f is as a function of h/factor."""
    points = np.concatenate([[0.0], grid.h])
    rows = np.concatenate([np.asarray(f.zero)[:, None], f.cells], axis=1)
    return Observable(f.zero, np.array([np.interp(grid.h / factor, points, row) for row in rows]))
