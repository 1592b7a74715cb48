"""`minires compare`, the main job: the same networks from many starts, as one table, one figure and one CSV."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from minires.commands import (
    CommandError,
    add_device_argument,
    add_seed_argument,
    console,
    initializer,
    live_display,
    output_folder,
    positive_number,
    whole_number,
)

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from minires.comparison import Case, Cell, Run, Store
    from minires.init import Initializer
    from minires.workers import Failure

HELP = "show what initializers do to plain and residual networks, with and without BatchNorm"

PRETRAINED = "pretrained"
DEFAULT_STARTS = (
    *("zero", "constant:0.01", "normal:0.01", "normal:1", "uniform:0.05"),
    *("xavier_normal", "xavier_uniform", "he_normal", "he_uniform", "orthogonal", PRETRAINED),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--init, --depth, --epochs, --lr, --figure, --out, --jobs, --seed, --device."""
    parser.add_argument(
        "--init",
        nargs="+",
        type=start,
        default=[start(text) for text in DEFAULT_STARTS],
        metavar="NAME",
        help="initializers to compare, e.g. he_normal normal:0.01 (its std) pretrained (weights that the command "
        f"trains first, on images that the others do not see); default: {' '.join(DEFAULT_STARTS)}",
    )
    parser.add_argument("--depth", type=depth, default=20, metavar="N", help="weighted layers, 6n + 2 (default: 20)")
    parser.add_argument(
        "--epochs", type=whole_number(1), default=10, metavar="N", help="passes over the images (default: 10)"
    )
    parser.add_argument(
        "--lr", type=positive_number, default=0.02, metavar="X", help="highest learning rate (default: 0.02)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/compare"),
        metavar="FOLDER",
        help="where figures, compare.csv and the finished runs go (default: runs/compare); the same command goes on "
        "from the runs that it finds there",
    )
    parser.add_argument(
        "--figure",
        choices=("full", "slide"),
        default="full",
        help="full: everything in one figure, compare.png; slide: a slide for each network with five of the "
        "initializers, compare-plain.png and so on (default: full)",
    )
    parser.add_argument(
        "--jobs",
        type=whole_number(1, 256),
        metavar="N",
        help="runs side by side on this machine (default: one a core); on several: mpiexec -n N python -m minires "
        "compare, where rank 0 hands out the runs and writes, and the others compute",
    )
    add_seed_argument(parser)
    add_device_argument(parser)


def start(text: str) -> tuple[str, Initializer | None]:
    """An argparse type: an initializer and what the user called it; None stands for pretrained weights."""
    if text == PRETRAINED:
        return text, None
    try:
        return text, initializer(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(str(error).replace("there are ", f"there are {PRETRAINED}, ")) from None


def depth(text: str) -> int:
    """An argparse type: a depth that whole blocks make."""
    value = whole_number(8)(text)
    if (value - 2) % 6:
        raise argparse.ArgumentTypeError(f"invalid depth {value}; expected 8, 14, 20, 26, ... (6n + 2)")
    return value


def run(args: argparse.Namespace) -> int:
    """Runs all cases, prints the table, writes the CSV and the figures. 1: a run failed or a file was not written."""
    from minires.parallel.sweep import lead_all_ranks

    try:
        return lead_all_ranks(lambda executor: _lead(args, executor), args.jobs)
    except ValueError as error:
        raise CommandError(str(error)) from None


def _lead(args: argparse.Namespace, executor: Executor | None) -> int:
    from minires.files import FolderInUse, locked_folder

    folder = output_folder(args.out)
    try:
        with locked_folder(folder):
            return compare(args, folder, executor)
    except FolderInUse as error:
        raise CommandError(str(error)) from None
    except OSError as error:
        raise CommandError(f"cannot write into {folder}: {error.strerror or error}") from None


def compare(args: argparse.Namespace, folder: Path, executor: Executor | None = None) -> int:
    """The work itself, once the folder is ours. executor: the ranks of an MPI job, if this is one."""
    from minires.comparison import NETWORKS, Case, Store, cells_of, edge_cases
    from minires.comparison.report import foreseen_against_happened, table

    settings = {name: getattr(args, name) for name in ("depth", "epochs", "lr", "seed", "device")}
    cases = [Case(net, name, law, **settings) for net in NETWORKS for name, law in dict(args.init).items()]
    store, screen = Store(folder), console()
    runs, failures = run_cases(cases, store, args.jobs, executor)
    more, failed = run_cases(edge_cases(runs), store, args.jobs, executor)
    failures += failed
    for case, failure in failures:
        print(f"{case.network}, {case.name}, seed {case.seed} failed: {failure.reason}", file=sys.stderr)
    if not runs:
        raise CommandError("no run came to an end")
    if store.taken:
        print(f"{store.taken} of {len(runs) + len(more)} runs were finished before: {store.path}", file=sys.stderr)
    cells = cells_of([*runs, *more])
    screen.print(table(cells, screen.width))
    screen.print(foreseen_against_happened(cells), highlight=False)
    return 1 if write(cells, folder, args.figure) or failures else 0


def write(cells: Sequence[Cell], folder: Path, figure: str) -> int:
    """Writes CSV and figures, says where they are; how many could not be written: each costs itself alone."""
    from minires.comparison.report import to_csv
    from minires.files import atomic_write_text
    from minires.plot.compare import draw, slides
    from minires.plot.style import save

    jobs: dict[str, Callable[[Path], None]] = {"compare.csv": lambda path: atomic_write_text(path, to_csv(cells))}
    if figure == "full":
        jobs["compare.png"] = lambda path: save(draw(cells), path)
    else:
        jobs |= {name: lambda path, make=make: save(make(), path) for name, make in slides(cells).items()}
    missed = 0
    for name, job in jobs.items():
        try:
            job(folder / name)
            print(f"{'numbers' if name.endswith('.csv') else 'figure'}: {folder / name}")
        except OSError as error:
            missed += 1
            print(f"{folder / name} is not written: {error.strerror or error}", file=sys.stderr)
    return missed


def run_cases(
    cases: Sequence[Case], store: Store, jobs: int | None = None, executor: Executor | None = None
) -> tuple[list[Run], list[tuple[Case, Failure]]]:
    """The runs of the cases, in their order, and what failed. Those in the store are taken over, the others kept there.

    `jobs` at a time, by default one process a core: for networks as small as these, threads would only wait.
    """
    from minires.comparison import run_case
    from minires.threads import num_threads
    from minires.workers import Failure, each_result

    found = {case: run for case in cases if (run := store.get(case))}
    left = sorted((case for case in cases if case not in found), key=lambda case: case.initializer is not None)
    failures: list[tuple[Case, Failure]] = []
    workers = (jobs or num_threads()) if all(case.device == "cpu" for case in left) else 1
    with progress_bar(len(left)) as advance, _kept(store, len(cases), found):
        for case, result in each_result(run_case, left, workers, executor):
            advance()
            if isinstance(result, Failure):
                failures.append((case, result))
            else:
                found[case] = result
                _keep(store, result)
    return [found[case] for case in cases if case in found], failures


def _keep(store: Store, run: Run) -> None:
    try:
        store.add(run)
    except OSError as error:  # the run is in memory, and the next one is tried again
        print(f"{store.path} is not written: {error.strerror or error}", file=sys.stderr)


@contextmanager
def _kept(store: Store, count: int, found: dict) -> Iterator[None]:
    """Tells whoever interrupts the work what is not lost."""
    try:
        yield
    except KeyboardInterrupt:
        print(f"{len(found)} of {count} runs are kept in {store.path}: the same command goes on there", file=sys.stderr)
        raise


@contextmanager
def progress_bar(total: int) -> Iterator[Callable[[], None]]:
    """A bar on stderr with the time left; gives the function to be called after each run."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    with live_display(TextColumn("training"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()) as bar:
        task = bar.add_task("", total=total)
        yield lambda: bar.advance(task)
