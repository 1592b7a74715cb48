"""The experiment behind `minires compare`: one network, many starts, and what becomes of each.

`experiment` runs one case: initialize, foresee, measure, train, evaluate. `cells` puts the seeds of a case together,
says which of them need more than one, and counts what was foreseen and happened. `store` keeps finished runs in a
folder, so that an interrupted comparison goes on where it stopped.
"""

from minires.comparison.cells import Cell, cells_of, edge_cases, headline
from minires.comparison.experiment import (
    CHANCE,
    NETWORKS,
    Case,
    Run,
    Signal,
    build,
    finite,
    halves,
    measure,
    pretrain,
    rms,
    run_case,
    train,
)
from minires.comparison.store import Store

__all__ = [
    "CHANCE",
    "NETWORKS",
    "Case",
    "Cell",
    "Run",
    "Signal",
    "Store",
    "build",
    "cells_of",
    "edge_cases",
    "finite",
    "halves",
    "headline",
    "measure",
    "pretrain",
    "rms",
    "run_case",
    "train",
]
