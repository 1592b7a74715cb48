"""`minires compare`, the main job: the same networks from many starts, as one table, one figure and one CSV."""

from __future__ import annotations

import argparse
import csv
import io
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from threadpoolctl import threadpool_limits

from minires.commands import (
    CommandError,
    add_device_argument,
    add_seed_argument,
    console,
    initializer,
    output_folder,
    positive_number,
    whole_number,
)

if TYPE_CHECKING:
    from rich.table import Table

    from minires.comparison import Case, Run
    from minires.init import Initializer

HELP = "show what initializers do to plain and residual networks, with and without BatchNorm"

PRETRAINED = "pretrained"
DEFAULT_STARTS = (
    *("zero", "constant:0.01", "normal:0.01", "normal:1", "uniform:0.05"),
    *("xavier_normal", "xavier_uniform", "he_normal", "he_uniform", "orthogonal", PRETRAINED),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--init, --depth, --epochs, --lr, --out, --seed, --device."""
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
        help="where compare.png and compare.csv go (default: runs/compare)",
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
        raise argparse.ArgumentTypeError(f"{value} is no depth of these networks; expected 8, 14, 20, 26, ... (6n + 2)")
    return value


def run(args: argparse.Namespace) -> int:
    """Runs all cases, prints the table, writes the CSV and the figure."""
    from minires.comparison import NETWORKS, Case
    from minires.files import atomic_write_text
    from minires.plot.compare import draw
    from minires.plot.style import save

    folder = output_folder(args.out)
    settings = {name: getattr(args, name) for name in ("depth", "epochs", "lr", "seed", "device")}
    starts = dict(args.init)
    runs = run_cases([Case(net, name, law, **settings) for net in NETWORKS for name, law in starts.items()])
    atomic_write_text(folder / "compare.csv", to_csv(runs))
    save(draw(runs), folder / "compare.png")
    screen = console()
    screen.print(table(runs))
    screen.print(f"figure: {folder / 'compare.png'}   numbers: {folder / 'compare.csv'}", highlight=False)
    return 0


def run_cases(cases: Sequence[Case]) -> list[Run]:
    """All cases, in their order, one process a core: for networks as small as these, threads would only wait."""
    from minires.comparison import pretrain, run_case
    from minires.fast.threads import num_threads
    from minires.init import HeNormal

    fresh = [case for case in cases if case.initializer]
    taught = [case for case in cases if not case.initializer]
    workers = 1 if cases[0].device != "cpu" else num_threads()
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_start_worker)
    with progress_bar(len(cases) + len(taught)) as advance, pool:
        try:
            teachers = [pool.submit(pretrain, replace(case, initializer=HeNormal())) for case in taught]
            futures = {case: pool.submit(run_case, case) for case in fresh}
            for future in (*teachers, *futures.values()):
                future.add_done_callback(advance)
            for case, teacher in zip(taught, teachers, strict=True):
                futures[case] = pool.submit(run_case, case, teacher.result())
                futures[case].add_done_callback(advance)
            return [futures[case].result() for case in cases]
        except BrokenProcessPool:
            raise CommandError("a process was stopped from outside, perhaps for want of memory") from None
        finally:
            pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    """Ctrl-C ends a worker without a word (the main process speaks), and a worker has one core for itself."""
    from minires.machine import keep_freed_memory

    signal.signal(signal.SIGINT, signal.SIG_DFL)
    keep_freed_memory()
    os.environ["MINIRES_NUM_THREADS"] = "1"
    threadpool_limits(1)


@contextmanager
def progress_bar(total: int) -> Iterator[Callable[[Future], None]]:
    """A bar on stderr with the time left; gives the function to be called with each future that is done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)

        def advance(future: Future) -> None:
            if not future.cancelled() and not future.exception():
                bar.advance(task)

        yield advance


CAPTION = (
    "forward: rms of the activations at the last layer (the images have 1). back: rms of the gradients at the first "
    "layer, over that at the last. loss: mean over the last epoch (a guess has log 10 = 2.30)."
)


def table(runs: Sequence[Run]) -> Table:
    """One row a case: how much of the signal is left where it arrives, what was foreseen of it, and what came."""
    from rich import box
    from rich.table import Table

    from minires.plot.compare import headline

    styles = {"title_justify": "left", "title_style": "bold", "caption_justify": "left"}
    found = Table(title=headline(runs), caption=CAPTION, box=box.SIMPLE_HEAD, **styles)
    found.add_column("initializer", no_wrap=True, min_width=15)
    for title in ("forward", "back"):
        found.add_column(title, justify="right", no_wrap=True)
    found.add_column("foreseen")
    found.add_column("measured")
    for title in ("loss", "accuracy"):
        found.add_column(title, justify="right", no_wrap=True)
    found.add_column("training")
    network = None
    for run in runs:
        if run.case.network != network:
            network = run.case.network
            found.add_section()
            found.add_row(network, style="bold")
        style = {"learned": "green", "learns slowly": None, "diverged": "red"}.get(run.outcome, "yellow")
        found.add_row(f" {run.case.name}", *_cells(run), style=style)
    return found


def _cells(run: Run) -> list[str]:
    gradients = list(run.signal.gradients.values())
    return [
        f"{list(run.signal.activations.values())[-1]:.2g}",
        f"{gradients[0] / gradients[-1]:.2g}",
        run.foreseen.verdict,
        str(run.signal),
        f"{run.losses[-1]:.3g}",
        "" if run.diverged else f"{run.accuracy:.1%}",
        run.outcome,
    ]


def to_csv(runs: Sequence[Run]) -> str:
    """Every number of every run, one a line: what it is, its place (layer or epoch, from 1; 0: before training)."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["network", "initializer", "foreseen", "measured", "training", "quantity", "place", "layer", "value"]
    )
    for run in runs:
        about = [run.case.network, run.case.name, run.foreseen.verdict, str(run.signal), run.outcome]
        by_layer = {
            "activation_rms": run.signal.activations.items(),
            "activation_rms_foreseen": run.foreseen.activations,
            "gradient_rms": run.signal.gradients.items(),
            "gradient_rms_foreseen": run.foreseen.gradients,
        }
        for quantity, values in by_layer.items():
            for place, (layer, value) in enumerate(values, 1):
                writer.writerow([*about, quantity, place, layer, repr(value)])
        for epoch, loss in enumerate(run.losses):
            writer.writerow([*about, "loss", epoch, "", repr(loss)])
        writer.writerow([*about, "accuracy", len(run.losses) - 1, "", repr(run.accuracy)])
    return text.getvalue()
