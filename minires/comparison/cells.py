"""Several seeds of one case make a cell of the comparison: what is said of it, and which cells need several seeds.

A single run can end far from its neighbours: without BatchNorm the signal of one network is a log-normal number, and
9 % of one seed beside 90 % of the next reads as a law where it is chance. So a cell near an edge (it learned, but not
well, or not what was foreseen, or the law was undecided) is run from two more seeds, and its middle run speaks for it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from minires.comparison.experiment import Case, Run

EDGE = (0.2, 0.93)
"""Accuracies between which another seed may well tell another story."""

MORE_SEEDS = 2

EXTRA = 0.19
"""Extra runs at most, as a share of the runs there are: of eleven initializers in four networks, four cells."""


@dataclass(frozen=True)
class Cell:
    """All runs of a network and an initializer, the one that was asked for first."""

    runs: tuple[Run, ...]

    @property
    def first(self) -> Run:
        """The run of the seed that was asked for: its signal and its losses are what is drawn."""
        return self.runs[0]

    @property
    def case(self) -> Case:
        return self.first.case

    @property
    def middle(self) -> Run:
        """The run with the median accuracy, which speaks for all."""
        return sorted(self.runs, key=_rank)[len(self.runs) // 2]

    @property
    def outcome(self) -> str:
        return self.middle.outcome

    @property
    def accuracies(self) -> tuple[float, ...]:
        """From the worst to the best; NaN for a run that diverged."""
        return tuple(run.accuracy for run in sorted(self.runs, key=_rank))


def _rank(run: Run) -> float:
    return -1.0 if math.isnan(run.accuracy) else run.accuracy


def cells_of(runs: Iterable[Run]) -> list[Cell]:
    """The runs by network and initializer, in the order in which those first come."""
    found: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        found.setdefault((run.case.network, run.case.name), []).append(run)
    return [Cell(tuple(runs)) for runs in found.values()]


def edge_cases(runs: Sequence[Run]) -> list[Case]:
    """The cases to run from further seeds, those nearest to an edge first, as far as the time allows."""
    near = sorted((run for run in runs if _distance(run) < math.inf), key=_distance)
    affordable = int(EXTRA * len(runs)) // MORE_SEEDS
    return [replace(run.case, seed=run.case.seed + i) for run in near[:affordable] for i in (1, MORE_SEEDS)]


def _distance(run: Run) -> float:
    """How far from an edge: a surprise is on it; else from even odds where the law was undecided, or from half right.

    Infinite where another seed would hardly tell another story.
    """
    if run.as_foreseen is False:
        return -1.0
    if run.as_foreseen is None and not math.isnan(run.outlook.moves):
        return abs(run.outlook.moves - 0.5)
    return abs(run.accuracy - 0.5) if EDGE[0] < run.accuracy < EDGE[1] else math.inf


def headline(cells: Sequence[Cell]) -> str:
    """What to see, in the numbers of these cells."""
    plain, both = (
        count_learned(cell for cell in cells if cell.case.network == network)
        for network in ("plain", "residual + BatchNorm")
    )
    starts = len({cell.case.name for cell in cells})
    ways = f"{cells[0].case.depth} layers, {starts} way{'s' * (starts != 1)} to start"
    return f"{ways}: {plain} learn{'s' * (plain == 1)} in a plain network, {both} with shortcuts and BatchNorm"


def count_learned(cells: Iterable[Cell]) -> int:
    """How many cells' middle run learned."""
    return sum(cell.outcome == "learned" for cell in cells)
