"""What one rank's training step costs, as fixed + images * per_image: from the file of a bench, or measured now.

`minires.parallel.cost` builds on it. A step has a part that does not shrink with the batch (Python's calls, the
update), and it limits how far a batch can be divided: so two batches are measured, or taken from the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minires import nn
from minires.bench.cases import Case
from minires.bench.measure import open_worker
from minires.parallel.cost import Compute, work_of

BATCHES = (16, 64)
ROUNDS, CALLS = 5, 2
"""Turns of each batch, and steps of a turn, when it is measured here."""


class Source(NamedTuple):
    """The numbers, and in a few words where they come from."""

    compute: Compute
    told: str


def from_file(path: Path, depth: int) -> Source:
    """From what `python -m minires bench --json FILE` has written, for resnet`depth`.

    Another depth in the file is scaled by layers and multiply-adds. Raises ValueError for a file without training
    steps, OSError where it cannot be read.
    """
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        steps = [case for case in facts["cases"] if case["kind"] == "train"]
        found: dict[int, dict[int, float]] = {}
        for case in steps:
            found.setdefault(case["depth"], {})[case["batch"]] = float(case["median_seconds"]["minires"])
        threads = facts["threads"]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path} is not what bench --json writes") from None
    if not found:
        raise ValueError(f"{path} has no training steps; expected bench --only train --json {path.name}")
    nearest = depth if depth in found else min(found, key=lambda other: abs(other - depth))
    compute = line(found[nearest])
    told = f"from {path}, {threads} thread{'s' * (threads > 1)}"
    if nearest != depth:
        compute = compute.of(work_of(nn.resnet(depth)), work_of(nn.resnet(nearest)))
        told += f", scaled from resnet{nearest}"
    return Source(compute, told)


def measure_compute(depth: int, threads: int, device: str = "cpu") -> Source:
    """Times the compiled training step of resnet`depth` at two batches, which take turns, in a process of its own."""
    seconds: dict[int, list[float]] = {batch: [] for batch in BATCHES}
    with open_worker("minires", device, threads) as worker:
        for batch in BATCHES:
            worker.ask("prepare", case=asdict(Case("train", batch, depth)))
        for _ in range(ROUNDS):
            for batch, taken in seconds.items():
                answer = worker.ask("run", case=asdict(Case("train", batch, depth)), calls=CALLS)
                taken.append(answer["seconds"] / CALLS)
    medians = {batch: float(np.median(taken)) for batch, taken in seconds.items()}
    return Source(line(medians), f"measured now, {threads} thread{'s' * (threads > 1)}")


def line(seconds: Mapping[int, float]) -> Compute:
    """fixed and per_image from seconds by batch, each relative error counting the same; neither is negative."""
    batches, taken = np.array([*seconds], float), np.array([*seconds.values()])
    if len(seconds) > 1:
        columns = np.stack([1 / taken, batches / taken], axis=1)
        fixed, per_image = np.linalg.lstsq(columns, np.ones(len(taken)), rcond=None)[0]
        if fixed >= 0 and per_image > 0:
            return Compute(float(fixed), float(per_image))
    ratio = batches / taken
    return Compute(0.0, float(ratio.sum() / (ratio @ ratio)))
