"""How to probe a tensor (`Plan`), what was probed (`Tally`), and what is then known of its gradient (`Measured`)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from minires.gradcheck.numerical import Probe


@dataclass(frozen=True)
class Plan:
    """How to check: by which method, how many entries, along how many directions."""

    method: str
    max_entries: int
    directions: int
    u: float
    """Unit roundoff of the precision the function computes in."""
    rng: np.random.Generator

    @property
    def pilots(self) -> int:
        """How many entries the step is chosen by."""
        return min(3, 1 + self.max_entries // 10)


@dataclass
class Measured:
    """The numerical derivatives behind a tensor's report: flat indices, estimates, bounds, and which are usable."""

    indices: np.ndarray
    values: np.ndarray
    bounds: np.ndarray
    usable: np.ndarray

    def complete(self, shape: tuple[int, ...]) -> np.ndarray | None:
        """The whole gradient, if every entry was measured and at most a few are left out (NaN there)."""
        if len(self.indices) < math.prod(shape) or self.usable.mean() < 0.5:
            return None
        whole = np.full(math.prod(shape), np.nan)
        whole[self.indices] = np.where(self.usable, self.values, np.nan)
        return whole.reshape(shape)


@dataclass
class Tally:
    """Probes of one tensor, while they are collected."""

    labels: list[str] = field(default_factory=list)
    lines: list[int | np.ndarray] = field(default_factory=list)
    """What each probe moved: an entry by its flat index, or a direction."""
    claims: list[float] = field(default_factory=list)
    probes: list[Probe] = field(default_factory=list)
    crossed: list[bool] = field(default_factory=list)
    on_switch: int = 0
