"""A random walk reflected at zero, on a grid: h' = max(0, h + g) with g ~ N(0, q).

This is what a unit does along the blocks of a residual network whose sum ends in a ReLU: each block adds an
increment g to the stream h and the ReLU cuts the sum at zero (Lindley 1952 met the same recursion as a queue).
A law on h >= 0 is a point mass at 0 ("atom") and a density, kept as the masses of n cells of width dx centered
on (j + 1/2) dx.  One step is a convolution with a Gaussian, done by the FFT on a line of 2n cells so that the
negative half has room; what lands there is the new atom.  The mass of a cell is spread evenly over it, which
alone adds dx^2/12 to the variance of the step, so the Gaussian gets q - dx^2/12.

The gradient needs the adjoint, the pull-back  (B F)(h) = E_g[1{h + g > 0} F(h + g)]:  the same convolution,
read at the centers and at h = 0.  Everything works along the last axis; leading axes are independent walks,
each with its own q. If all q are 0 a step changes nothing, and the pull-back keeps only the gate.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


class Walk(NamedTuple):
    """Law of h >= 0: P(h = 0), shape (...), and the masses of the cells, shape (..., n)."""

    atom: Floats
    mass: Floats


class Observable(NamedTuple):
    """A function of h: its value at h = 0, shape (...), and at the cells' centers, shape (..., n)."""

    zero: Floats
    cells: Floats


@dataclass(frozen=True)
class Grid:
    """n cells on 0 < h < top. The top should lie 7 standard deviations up, dx well below a step's."""

    n: int = 960
    top: float = 24.0

    @property
    def dx(self) -> float:
        """Width of a cell."""
        return self.top / self.n

    @cached_property
    def h(self) -> Floats:
        """Centers of the cells, shape (n,)."""
        return (np.arange(self.n) + 0.5) * self.dx

    @cached_property
    def _omega(self) -> Floats:
        return 2 * np.pi * np.fft.rfftfreq(2 * self.n, self.dx)

    def _spectrum(
        self, cells: Floats, q: ArrayLike, atom: Floats | None = None, drift: float = 0.0
    ) -> NDArray[np.complex128]:
        """Transform of the cells (and of an atom at zero) after a step of variance q and mean `drift`, without what
        the Gaussian kills."""
        variance = np.asarray(q, float)[..., None] - self.dx**2 / 12
        smallest = float(variance.min())
        if smallest <= self.dx**2:
            raise ValueError(f"a step of variance {np.min(q):.3g} is too small for a grid of dx = {self.dx:.3g}")
        omega = self._omega[: np.searchsorted(self._omega, math.sqrt(80 / smallest))]  # e^-40 is below rounding
        spectrum = np.fft.rfft(cells, 2 * self.n)[..., : len(omega)]
        if atom is not None:
            spectrum = spectrum + atom[..., None] * np.exp(0.5j * omega * self.dx)
        if drift:
            spectrum = spectrum * np.exp(-1j * omega * drift)
        return spectrum * (np.exp(-0.5 * variance * omega**2) * np.sinc(omega * self.dx / (2 * np.pi)))

    def _cells(self, spectrum: NDArray[np.complex128]) -> Floats:
        return np.fft.irfft(spectrum, 2 * self.n)[..., : self.n]

    def resolves(self, q: ArrayLike) -> bool:
        """Whether steps of these variances are neither finer than the cells nor wider than the grid; 0 is no step."""
        q = np.asarray(q)
        return bool(np.all((q == 0) | ((q > 2 * self.dx**2) & (q < (self.top / 4) ** 2))))

    def start(self, shape: tuple[int, ...] = ()) -> Walk:
        """All the mass at zero."""
        return Walk(np.ones(shape), np.zeros((*shape, self.n)))

    def step(self, walk: Walk, q: ArrayLike, drift: float = 0.0) -> Walk:
        """Law of max(0, h + g), g ~ N(drift, q)."""
        if not np.all(q):
            return self._some(walk, q, lambda part, some: self.step(part, some, drift)) if np.any(q) else walk
        mass = self._cells(self._spectrum(walk.mass, q, walk.atom, drift))
        total = walk.atom + walk.mass.sum(-1)
        return Walk(total - mass.sum(-1), mass)

    def survive(self, mass: Floats, q: ArrayLike, drift: float = 0.0) -> Floats:
        """Sub-density of the walks that are positive and stay so: mass of h + g > 0, started from cells
        only."""
        return self._cells(self._spectrum(mass, q, drift=drift)) if np.any(q) else mass

    def pull_back(self, f: Observable, q: ArrayLike, drift: float = 0.0) -> Observable:
        """E_g[1{h + g > 0} f(h + g)] as a function of h."""
        if np.all(q):
            return self._read(self._spectrum(f.cells, q, drift=-drift))
        still = Observable(np.zeros_like(f.zero), f.cells)
        return self._some(f, q, lambda part, some: self.pull_back(part, some, drift), still) if np.any(q) else still

    @staticmethod
    def _some(given: Any, q: ArrayLike, change: Callable[[Any, Floats], Any], still: Any = None) -> Any:
        """`change` for the independent walks that make a step, those of q > 0; `still` for the others."""
        moving = np.asarray(q) > 0
        found = [array.copy() for array in (given if still is None else still)]
        for array, new in zip(found, change(type(given)(*(a[moving] for a in given)), q[moving]), strict=True):
            array[moving] = new
        return type(given)(*found)

    def pull_back_times_step(self, f: Observable, q: ArrayLike) -> Observable:
        """E_g[g 1{h + g > 0} f(h + g)]: by Stein's identity q times the derivative of the pull-back."""
        if not np.any(q):
            return Observable(np.zeros_like(f.zero), np.zeros_like(f.cells))
        spectrum = self._spectrum(f.cells, q)
        slope = 1j * self._omega[: spectrum.shape[-1]]
        return self._read(spectrum * slope * np.asarray(q, float)[..., None])

    def _read(self, spectrum: NDArray[np.complex128]) -> Observable:
        omega = self._omega[: spectrum.shape[-1]]
        weights = np.where(omega > 0, 2.0, 1.0) / (2 * self.n)  # h = 0 lies half a cell below the first center
        real, imaginary = weights * np.cos(omega * self.dx / 2), weights * np.sin(omega * self.dx / 2)
        return Observable(spectrum.real @ real + spectrum.imag @ imaginary, self._cells(spectrum))

    def constant(self, value: ArrayLike) -> Observable:
        """The constant function, one for each leading index of value."""
        value = np.asarray(value, float)
        return Observable(value, np.repeat(value[..., None], self.n, axis=-1))

    def moment(self, walk: Walk, order: int) -> Floats:
        """E h^order, order >= 1."""
        return walk.mass @ self._powers(order)

    def _powers(self, order: int) -> Floats:
        edges = np.arange(self.n + 1) * self.dx
        return np.diff(edges ** (order + 1)) / ((order + 1) * self.dx)  # mean of h^order over each cell

    @staticmethod
    def positive(walk: Walk) -> Floats:
        """P(h > 0)."""
        return walk.mass.sum(-1)

    @staticmethod
    def expect(walk: Walk, f: Observable) -> Floats:
        """E f(h)."""
        return walk.atom * f.zero + (walk.mass * f.cells).sum(-1)

    @staticmethod
    def expect_positive(walk: Walk, f: Observable) -> Floats:
        """E 1{h > 0} f(h): what a ReLU's gate lets through."""
        return (walk.mass * f.cells).sum(-1)


def grid_for(variance: float, smallest_step: float = 1.0, cells: int = 20, drift: float = 0.0) -> Grid:
    """A grid for a walk whose steps sum up to `variance` and `drift`: to 6 standard deviations and 3 steps more, dx
    1/cells of a step's.

    With 20 cells no law changes by more than 1 in 1,000 on a finer grid; with 3 by 3 in 1,000.
    """
    step = math.sqrt(smallest_step)
    top = 6 * math.sqrt(variance) + 3 * step + drift
    return Grid(_fast_length(math.ceil(cells * top / step)), top)


def _fast_length(n: int) -> int:
    """A length of at least n that the FFT likes: 2^k times 1, 9/8, 5/4, 3/2 or 27/16."""
    power = 2 ** max(math.ceil(math.log2(n)) - 1, 4)
    return next(int(power * f) for f in (1, 1.125, 1.25, 1.5, 1.6875, 2) if power * f >= n)
