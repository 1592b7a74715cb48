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
from minires.theory.laws.signal import Signal
from minires.theory.laws.stream import Stream


class Scaled(NamedTuple):
    """A stream in units of `scale`: h = scale times the stream's own h."""

    stream: Stream
    scale: float = 1.0

    @classmethod
    def started(cls, grid: Grid, source: Signal, *, rescale: bool) -> Scaled | None:
        """relu(z), z of law `source`; None if the grid is too coarse for it."""
        scale = float(np.sqrt(source.q.mean())) if rescale and source.q.any() else 1.0
        kernel = None if source.kernel is None else source.kernel / scale**2
        source = Signal(source.q / scale**2, kernel)
        return cls(Stream.started(grid, source), scale) if grid.resolves(source.q) else None

    def stepped(self, step: Signal, kept: np.ndarray, share: float) -> Scaled | None:
        """One more step, in true units; see `Stream.stepped`. None if the grid is too coarse for it."""
        step = step.scaled(1 / self.scale**2)
        return (
            self._replace(stream=self.stream.stepped(step, kept, share)) if self.stream.grid.resolves(step.q) else None
        )

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
            fresh = None if p.fresh is None else p.fresh / factor**2
            survivors = _moved(grid, p.survivors, factor)
            populations.append(replace(p, walk=walk, average=average, survivors=survivors, fresh=fresh))
        kernels = [kernel / factor**2 for kernel in self.stream.kernels]
        return Scaled(Stream(grid, populations, kernels), self.scale * factor)


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
