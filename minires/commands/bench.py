"""`minires bench`: times of minires beside other engines on this machine, a profile by layer, and a whole epoch."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from minires.commands import (
    CommandError,
    add_device_argument,
    add_seed_argument,
    console,
    fitted,
    live_display,
    output_folder,
    whole_number,
)

if TYPE_CHECKING:
    from minires.bench.report import Table

HELP = "time steps and layers beside PyTorch and NumPy engines that are installed; a profile; a whole epoch"

DEPTHS, BATCHES = (20, 56, 110), (32, 128, 512)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """By default networks, batches and layers are compared; --profile and --epoch do one thing each instead."""
    parser.add_argument(
        "--models",
        type=_models,
        default=DEPTHS,
        metavar="NAMES",
        help="networks, as in resnet20,resnet56 (default: resnet20,resnet56,resnet110); the first at every batch",
    )
    parser.add_argument(
        "--batches",
        type=_numbers,
        default=BATCHES,
        metavar="N,...",
        help="batch sizes (default: 32,128,512); other networks and layers at the one nearest to 128",
    )
    parser.add_argument(
        "--only",
        type=_kinds,
        default=("train", "infer", "layers"),
        metavar="KINDS",
        help="some of train,infer,layers (default: all)",
    )
    parser.add_argument(
        "--threads",
        type=whole_number(1),
        metavar="N",
        help="threads of every engine (default: MINIRES_NUM_THREADS, or the cores of this process)",
    )
    parser.add_argument(
        "--repeats",
        type=whole_number(1),
        metavar="N",
        help="turns of each engine, of slow ones fewer (default: 9); steps of a profile (default: 9)",
    )
    parser.add_argument("--quick", action="store_true", help="resnet20 at batch 128 and the layers, few turns")
    parser.add_argument("--profile", action="store_true", help="instead: time of each layer of a training step")
    parser.add_argument(
        "--epoch", action="store_true", help="instead: an epoch of resnet20 on 50,000 images, foretold and timed"
    )
    parser.add_argument(
        "--network",
        action="store_true",
        help="instead: the line between two ranks of `mpiexec -n 2 python -m minires bench --network`, by ping-pong",
    )
    parser.add_argument("--images", type=whole_number(1), metavar="N", help="with --epoch: so many images")
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every single time into a file")
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw time against batch and depth: .png, .pdf or .svg"
    )
    add_device_argument(parser)
    add_seed_argument(parser)


def run(args: argparse.Namespace) -> int:
    """0: measured; 1: with --epoch, the forecast was off by more than a tenth."""
    from minires.threads import num_threads

    for path in (args.json, args.plot):
        if path is not None:
            output_folder(path.parent)
    if args.images is not None and not args.epoch:
        raise CommandError("--images goes with --epoch")
    if args.plot and set(args.only) == {"layers"}:
        raise CommandError("--plot draws networks, and --only layers leaves them out")
    try:
        threads = args.threads or num_threads()
    except ValueError as error:
        raise CommandError(str(error)) from None
    os.environ["MINIRES_NUM_THREADS"] = str(threads)  # for --profile and --epoch, which run in this process
    if args.network:
        return _network(args)
    if args.epoch:
        return _epoch(args, threads)
    if args.profile:
        return _profile(args, threads)
    return _compare(args, threads)


def _compare(args: argparse.Namespace, threads: int) -> int:
    from minires.bench import report
    from minires.bench.cases import all_cases, headline_batch
    from minires.bench.measure import Effort, EngineFailed, measure
    from minires.files import atomic_write_text

    if args.quick:
        cases = all_cases(args.models[:1], [headline_batch(args.batches)], args.only)
        effort = Effort(args.repeats or 3, slow=1)
    else:
        cases = all_cases(args.models, args.batches, args.only)
        effort = Effort(args.repeats or 9)
    try:
        with _progress() as told:
            found = measure(cases, device=args.device, threads=threads, effort=effort, report=told)
    except EngineFailed as error:
        raise CommandError(str(error)) from None
    _print(report.times_tables(found), report.explanation(found, threads, args.device), args.markdown)
    if args.json:
        atomic_write_text(args.json, report.as_json(found, threads, args.device))
    if args.plot:
        from minires.plot.bench import draw_times
        from minires.plot.style import save

        save(draw_times(found), args.plot)
    return 0


def _profile(args: argparse.Namespace, threads: int) -> int:
    from minires.bench import report
    from minires.bench.cases import Case, headline_batch
    from minires.bench.profiling import by_type, profile

    if args.device != "cpu":
        raise CommandError(f"--profile times the host's work, and --device is {args.device}: expected cpu")
    case = Case("train", headline_batch(args.batches), args.models[0])
    rows = profile(case, args.repeats or 9)
    tables = [
        report.profile_table(f"{case}: by layer", rows, ("layer", "type")),
        report.profile_table(f"{case}: by type", by_type(rows), ("layers", "type")),
    ]
    facts = f"{threads} threads; numpy {_numpy_version()}; {report.today()}."
    notes = [
        "The compiled step. Medians; a layer's time is the mean over the threads, a block's own that of its sums, and "
        "the team's what is left: handing work over and waiting. GFLOP/s: the textbook's multiply-adds, twice each. "
        "MB moved: the arrays that go in and come out.",
        f"{report.machine()}; {facts}",
    ]
    _print(tables, notes, args.markdown)
    return 0


def _numpy_version() -> str:
    import numpy

    return numpy.__version__


def _epoch(args: argparse.Namespace, threads: int) -> int:
    from minires.bench import report
    from minires.bench.epoch import AFTER, BATCH, IMAGES, run_epoch

    images, out = args.images or IMAGES, console()
    if images < AFTER * BATCH:
        raise CommandError(f"--images is {images}; the forecast takes {AFTER} steps of {BATCH}: {AFTER * BATCH}")
    said: list[float] = []
    with _progress() as told:

        def after_step(step: int, steps: int, expected: float | None) -> None:
            told(f"step {step} of {steps}", step, steps)
            if expected is not None and not said:
                said.append(expected)
                out.print(f"after {step} steps: the epoch of {images:,} images will take {expected:.1f} s")

        epoch = run_epoch(images, device=args.device, seed=args.seed, report=after_step)
    out.print(
        f"it took {epoch.measured:.1f} s: the forecast was off by {epoch.error:.1%}. "
        f"{1000 * epoch.measured / epoch.steps:.0f} ms a step; its batches alone (shuffle, crop, flip) "
        f"{1000 * epoch.loading / epoch.steps:.1f} ms, {epoch.loading / epoch.measured:.1%}"
    )
    out.print(f"{report.machine()}; {threads} threads; {report.today()}.")
    return 0 if epoch.error <= 0.1 else 1


def _network(args: argparse.Namespace) -> int:
    from minires.bench import report
    from minires.parallel import MPIGroup
    from minires.parallel.network import measure_network, measure_sums, with_sums

    try:
        group = MPIGroup()
    except RuntimeError as error:
        raise CommandError(str(error)) from None
    if group.size < 2:
        raise CommandError("a ping-pong needs two ranks: mpiexec -n 2 python -m minires bench --network")
    with group:
        fit = measure_network(group.comm)
        sums = measure_sums(group)
    if fit is None:
        return 0
    alpha, beta, overhead, gamma = network = with_sums(fit.network, sums, group.size)
    size, error = fit.worst
    notes = [
        f"alpha = {1e6 * alpha:.3g} µs a message, beta = {1e9 * beta:.3g} ns a byte ({1e-9 / max(beta, 1e-15):.3g} "
        f"GB/s), {fit.where}; fitted with equal "
        f"weight to every relative error; the worst: {error:+.0%} at {size:,} bytes.",
        f"Beside its messages a sum takes {1e6 * overhead:.3g} µs and {1e9 * gamma:.3g} ns a byte.",
        f"python -m minires predict --parallel 64 --network {network}",
        f"{report.machine()}; {group.size} ranks; {report.today()}.",
    ]
    if group.ranks_here > report.cores():
        notes.insert(0, f"{group.ranks_here} ranks share {report.cores()} cores: sums wait for each other's turns.")
    _print(report.network_tables(fit, sums, group.size), notes, args.markdown)
    return 0


def _print(tables: list[Table], notes: list[str], markdown: bool) -> None:
    if markdown:
        print("\n\n".join([*(table.markdown() for table in tables), "  \n".join(notes)]))
        return
    out = console()
    for table in tables:
        out.print(fitted(table.rich(), out.width))
    for note in notes:
        out.print(note, style="dim", soft_wrap=True)


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """A live line on stderr, so that what is printed can go into a file: told(what, done, of)."""
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn

    with live_display(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()) as progress:
        task = progress.add_task("starting")
        yield lambda what, done, of: progress.update(task, description=what, completed=done, total=of)


# --- argparse types ------------------------------------------------------------------------------------------------


def _models(text: str) -> tuple[int, ...]:
    """ "resnet20,resnet56" -> (20, 56)."""
    depths = []
    for name in text.split(","):
        depth = name.removeprefix("resnet")
        if not depth.isdigit() or int(depth) < 8 or (int(depth) - 2) % 6:
            raise argparse.ArgumentTypeError(f"{name!r}; expected resnet20, resnet56, ...: resnet and 6n + 2")
        depths.append(int(depth))
    return tuple(depths)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(whole_number(1)(number) for number in text.split(","))


def _kinds(text: str) -> tuple[str, ...]:
    from minires.bench.cases import KINDS

    for name in text.split(","):
        if name not in KINDS:
            raise argparse.ArgumentTypeError(f"{name!r}; expected some of {', '.join(KINDS)}")
    return tuple(text.split(","))
