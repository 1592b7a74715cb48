"""What the cost of P ranks says, as a table of 80 columns and a few sentences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from minires.parallel.cost import ALGORITHMS, Compute, Network, Step, Work, rounds, step, takes_over
from minires.parallel.simulation import simulate

if TYPE_CHECKING:
    from rich.table import Table

MOST = 1024
"""How many ranks are looked at when the question is where communication takes over."""

SIMULATED = 128
"""Up to so many ranks a step is simulated as well: more would take seconds."""


@dataclass(frozen=True)
class Plan:
    """What is foretold: a network's work on a machine, and the line between the ranks."""

    work: Work
    compute: Compute
    network: Network

    def steps(self, images: int, most: int, weak: bool = False) -> list[Step]:
        """On 1, 2, 4, ... ranks and on `most`; weak: `images` for each rank, else for all of them."""
        counts = sorted({*(2**k for k in range(rounds(most) + 1)), most})
        return [step(self.work, self.compute, images * n if weak else images, n, self.network) for n in counts]


def table(steps: list[Step], title: str) -> Table:
    """One row a number of ranks; the first one is what the others are compared with."""
    from rich import box
    from rich.table import Table

    found = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name in ("ranks", "images", "compute", "BatchNorm", "gradients", "step", "speed-up", "efficiency"):
        found.add_column(name, justify="right", no_wrap=True)
    for each in steps:
        times = [_ms(seconds) for seconds in (each.compute, each.norms, each.gradients, each.seconds)]
        one = steps[0]
        found.add_row(
            f"{each.ranks:,}", f"{each.share:,}", *times, f"{each.speed_up(one):.2f}", f"{each.efficiency(one):.0%}"
        )
    return found


LEGEND = (
    "images: of the largest share. Times in ms. BatchNorm: waiting for its sums; gradients: waiting after backward for "
    "what is left of theirs."
)


def sentences(plan: Plan, images: int, ranks: int) -> list[str]:
    """What to know of `ranks` ranks that share a batch of so many images."""
    work, compute, network = plan.work, plan.compute, plan.network
    one, found = (step(work, compute, images, n, network) for n in (1, ranks))
    local = step(work, compute, images, ranks, network, synchronize=False)
    late = step(work, compute, images, ranks, network, overlap=False)
    said = [
        f"{ranks:,} ranks, a batch of {images:,}: {_ms(found.seconds)} ms a step, {found.speed_up(one):.2f} times as "
        f"fast as one rank, {found.efficiency(one):.0%} efficient."
    ]
    if ranks <= SIMULATED:
        simulated = simulate(work, compute, images, ranks, network)
        said.append(f"Simulated message by message, with lines that are in use: {_ms(simulated)} ms.")
    if work.norms:
        share = found.norms / found.seconds
        said.append(
            f"BatchNorm's synchronization: {2 * work.norms} sums, {_ms(found.norms)} ms, {share:.0%} of the "
            f"step; with statistics of each rank's own: {_ms(local.seconds)} ms."
        )
    ways = ", ".join(f"{name} {_ms(seconds(ranks, work.gradients, network))}" for name, seconds in ALGORITHMS.items())
    said.append(
        f"Gradients, {work.gradients / 1e6:.3g} MB in one sum: {ways} ms; in buckets under backward "
        f"{_ms(found.gradients)} ms of it are waited for, without overlap {_ms(late.gradients)}."
    )
    strong = takes_over(work, compute, images, network, min(MOST, images))
    weak = takes_over(work, compute, images, network, MOST, weak=True)
    said.append(
        f"Communication takes longer than compute {_from(strong, min(MOST, images))} that share the batch, "
        f"{_from(weak, MOST)} with {images:,} images each."
    )
    return said


def _from(ranks: int | None, most: int) -> str:
    return f"on no number of ranks up to {most:,}" if ranks is None else f"from {ranks:,} ranks on"


def _ms(seconds: float) -> str:
    """Three digits: "0.043", "4.27", "154"."""
    value = 1000 * seconds
    digits = 3 if value < 1 else 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{digits}f}" if value else "0"
