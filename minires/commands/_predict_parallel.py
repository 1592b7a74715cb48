"""`minires predict --parallel P`: the time of a training step that P ranks share, before there are P machines."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from minires.commands import CommandError, console
from minires.parallel.cost import Compute, Network, work_of
from minires.parallel.report import LEGEND, Plan, sentences, table
from minires.parallel.sweep import ranks_started

if TYPE_CHECKING:
    from minires.bench.compute import Source
    from minires.nn import ResNet

ETHERNET = Network(25e-6, 8e-10)
"""Assumed where nobody has measured: 10 Gbit/s, and what a message through the kernel's TCP takes or so."""

ASSUMED = "assumed, 10 Gbit/s Ethernet; measure yours: mpiexec -n 2 python -m minires bench --network"


def run(args: argparse.Namespace, model: ResNet) -> int:
    """Prints two tables (strong and weak scaling) and what they say; under mpiexec rank 0 does."""
    if ranks_started() == 1:
        given = Network(*args.network) if args.network else ETHERNET
        tell(args, model, _compute(args), given, "given" if args.network else ASSUMED)
        return 0
    from minires.parallel import MPIGroup
    from minires.parallel.network import measure_network, measure_sums, meet_asleep, with_sums

    with MPIGroup() as group:
        fit, sums, found = measure_network(group.comm), measure_sums(group), None
        if group.rank == 0:
            try:
                found = _compute(args)
            except (CommandError, ValueError) as error:
                found = error
        meet_asleep(group.comm)  # until then the others leave rank 0 the cores
    if isinstance(found, Exception):
        raise found
    if fit is not None:
        measured = with_sums(fit.network, sums, group.size)
        source = f"a ping-pong, {fit.where}, and sums over {group.size}"
        tell(args, model, found, *((Network(*args.network), "given") if args.network else (measured, source)))
    return 0


def tell(args: argparse.Namespace, model: ResNet, found: Source, network: Network, source: str) -> None:
    """The tables, the sentences and, with --plot, the picture."""
    plan = Plan(work_of(model, args.input, args.model), found.compute, network)
    ranks, screen = min(args.parallel, args.batch), console()
    screen.width = min(screen.width, 80)
    strong = f"{args.model}, a batch of {args.batch:,} shared by all ranks (strong scaling)"
    screen.print(table(plan.steps(args.batch, ranks), strong))
    screen.print(table(plan.steps(args.batch, args.parallel, weak=True), f"{args.batch:,} images each (weak scaling)"))
    screen.print(LEGEND, style="dim", highlight=False)
    for sentence in sentences(plan, args.batch, ranks):
        screen.print(sentence, highlight=False)
    if ranks < args.parallel:
        screen.print(f"A batch of {args.batch:,} has work for {args.batch:,} ranks.", highlight=False)
    fixed, per_image = (1000 * seconds for seconds in found.compute)
    screen.print(
        f"Compute: {fixed:.3g} ms a step and {per_image:.3g} ms an image ({found.told}), where a rank has its cores "
        "and their memory to itself.",
        highlight=False,
    )
    screen.print(f"Network: --network {network} ({source}).", highlight=False)
    if args.plot:
        from minires.plot.scaling import draw_scaling
        from minires.plot.style import save

        save(draw_scaling(plan), args.plot)
        screen.print(f"figure: {args.plot}", highlight=False)


def _compute(args: argparse.Namespace) -> Source:
    from minires.bench.compute import Source, from_file, measure_compute
    from minires.bench.measure import EngineFailed
    from minires.recipes import depth_of
    from minires.threads import num_threads

    if isinstance(args.compute, float):
        return Source(Compute(0.0, args.compute / 1000), "given")
    try:
        if args.compute is not None:
            return from_file(args.compute, depth_of(args.model))
        return measure_compute(depth_of(args.model), num_threads(), args.device)
    except (EngineFailed, OSError) as error:
        raise CommandError(str(error)) from None
