"""`minires gradcheck`: every gradient of minires held against numerical ones, and faults planted to see them caught.

`minires gradcheck student.py --like conv2d` checks the functions of anybody's file on the standard cases of an op.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import time
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from minires.commands import (
    CommandError,
    add_device_argument,
    console,
    fitted,
    live_display,
    picture_file,
    positive_number,
    writable_file,
)

if TYPE_CHECKING:
    from minires.gradcheck import GradReport

HELP = "check anybody's forward and backward, or every gradient of minires; plant a fault and see it named"

SETTINGS = ("stride", "padding", "dilation", "kernel_size", "eps", "slope")
"""Settings that functions may be written for, each an option of the command."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "exit code: 0 if everything passes, 1 if not (so 1 for a planted fault that is caught)"
    parser.add_argument(
        "file", nargs="?", type=Path, help="check the functions of this file; without one, everything in minires"
    )
    theirs = parser.add_argument_group("for a file")
    theirs.add_argument("--like", metavar="OP", help="what they should be: conv2d, batchnorm, ... (by their names)")
    theirs.add_argument("--forward", metavar="NAME", help="the forward function, where its name does not tell")
    theirs.add_argument("--backward", metavar="NAME", help="the backward function")
    for name in SETTINGS:
        told = f"the {name.replace('_', ' ')} they are written for (a number, or a pair as in 2,1)"
        theirs.add_argument(f"--{name.replace('_', '-')}", type=_number_or_pair, metavar="N", help=told)
    told = "weights (in, out), samples as columns or images (N, H, W, C); found out by default"
    theirs.add_argument("--layout", choices=("in_out", "columns", "channels_last"), help=told)
    told = "who has to get dy where pixels of a max-pooling window are equally large; any of them by default"
    theirs.add_argument("--ties", choices=("first", "last", "shared", "all"), help=told)
    told = "2: the fault is named (default), 1: where to look, 0: the verdict only"
    theirs.add_argument("--hints", type=int, choices=(0, 1, 2), default=2, help=told)
    theirs.add_argument("--time-limit", type=positive_number, default=5.0, metavar="S", help="seconds a call (5)")
    theirs.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--html", metavar="FILE", type=writable_file, help="write the report as a page, with pictures")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--fault", metavar="NAME", help="plant this fault of the catalogue and show the report")
    what.add_argument("--list", action="store_true", help="list the catalogue of faults")
    what.add_argument(
        "--plot", metavar="FILE", type=picture_file, help="draw error against step, and kinks against their law"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the random inputs and upstreams (0)")
    add_device_argument(parser)


def run(args: argparse.Namespace) -> int:
    if args.seed < 0:
        raise CommandError(f"--seed is {args.seed}; expected a number from 0 up")
    given = {name: getattr(args, name) for name in SETTINGS if getattr(args, name) is not None}
    if args.file:
        if args.list or args.fault or args.plot:
            raise CommandError("--list, --fault and --plot check nothing of a file; leave out one of the two")
        if args.device != "cpu":
            raise CommandError("--device moves minires' own arrays; a file computes where it says, so leave it out")
        return _file(args, given)
    if given or args.json or args.hints != 2 or any((args.like, args.forward, args.backward, args.layout, args.ties)):
        raise CommandError(
            "these options are for a file: name it first, as in minires gradcheck student.py --like conv2d"
        )
    if args.html and (args.list or args.plot):
        raise CommandError("--html writes the report of a check; --list and --plot make none")
    if args.list:
        return _list()
    if args.fault:
        return _plant(args.fault, args.seed, args.html)
    if args.plot:
        return _plot(args.plot, args.seed)
    return _demo(args.seed, args.device, args.html)


def _number_or_pair(text: str) -> int | float | tuple[int, int]:
    """An argparse type: 2, 0.1, or 2,1."""
    try:
        parts = [float(part) for part in text.split(",")]
        numbers = [int(n) if n == int(n) else n for n in parts]
        if len(numbers) > 2 or min(numbers) < 0 or (len(numbers) == 2 and not all(type(n) is int for n in numbers)):
            raise ValueError
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor a pair such as 2,1") from None
    return numbers[0] if len(numbers) == 1 else tuple(numbers)


def _file(args: argparse.Namespace, options: dict) -> int:
    from minires.gradcheck import check_file
    from minires.gradcheck.runner import Limits

    limits = Limits(call=args.time_limit, total=60 * args.time_limit)
    status = console(stderr=True).status("loading the file")
    try:
        with status:
            report = check_file(
                args.file,
                args.like,
                forward=args.forward,
                backward=args.backward,
                options=options,
                layout=args.layout,
                ties=args.ties,
                hints=args.hints,
                seed=args.seed,
                limits=limits,
                progress=lambda case: status.update(f"checking: {case}"),
            )
    except (ValueError, TypeError, FileNotFoundError) as error:
        raise CommandError(str(error)) from None
    if args.html:
        from minires.gradcheck import html

        _write_page(args.html, report.title, [html.file_fragment(report), _v_curve(args.seed)])
    if args.json:
        print(json.dumps(report.as_dict(), indent=1))
    else:
        console().print(report, highlight=False)
    return _exit_code(report.verdict)


def _write_page(path: Path, title: str, fragments: list[str]) -> None:
    from minires.files import atomic_write_text
    from minires.gradcheck import html

    atomic_write_text(path, html.page(title, fragments))
    print(f"page: {path}", file=sys.stderr)


def _v_curve(seed: int) -> str:
    """Error against step as a picture, with what it is good for."""
    import matplotlib.pyplot as plt

    from minires.gradcheck import html
    from minires.gradcheck.curves import step_curve
    from minires.plot.gradcheck import draw_steps
    from minires.plot.style import new_figure

    fig, axes = new_figure(size=(7, 4.2), title="A step too large bends, a step too small rounds")
    draw_steps(axes[0, 0], step_curve("float64", seed))
    axes[0, 0].legend(frameon=False, fontsize=9, loc="upper center")
    file = io.BytesIO()
    fig.savefig(file, format="png", dpi=110, facecolor="white")
    plt.close(fig)
    told = "How exact a numerical derivative is, by its step. The check measures this error and takes it as its bound."
    return html.picture(file.getvalue(), told)


def _list() -> int:
    from rich.table import Table

    from minires.gradcheck import CATALOGUE

    table = Table(title=f"{len(CATALOGUE)} typical faults", title_justify="left")
    table.add_column("name", overflow="fold")
    table.add_column("what is wrong")
    for fault in CATALOGUE.values():
        table.add_row(fault.name, fault.sentence)
    screen = console()
    screen.print(fitted(table, screen.width))
    return 0


def _plant(name: str, seed: int, page: Path | None) -> int:
    from minires.gradcheck import CATALOGUE, check_op
    from minires.gradcheck.configurations import draw

    if name not in CATALOGUE:
        close = get_close_matches(name, CATALOGUE, 3, 0.4)
        hint = f"did you mean {' or '.join(close)}?" if close else "--list shows all"
        raise CommandError(f"there is no fault {name!r}; {hint}")
    fault = CATALOGUE[name]
    inputs, options = draw(fault.op, np.random.default_rng(seed), **fault.needs)
    report = check_op(
        lambda *arrays: fault.forward(*arrays, **options),
        fault.backward,
        inputs,
        like=fault.op,
        options=options,
        seed=seed,
    )
    screen = console()
    screen.print(f"planted: {fault.name}: {fault.sentence}", highlight=False)
    screen.print(report, highlight=False)
    if page:
        from minires.gradcheck import html

        _write_page(page, f"planted: {fault.name}", [html.fragment(report), _v_curve(seed)])
    named = "named" if report.fault == name else f"named {report.fault}" if report.fault else "not named"
    screen.print(f"the fault was {'caught' if report.verdict == 'fail' else 'missed'} and {named}", highlight=False)
    return _exit_code(report.verdict)


def _plot(path: Path, seed: int) -> int:
    from minires.gradcheck.curves import kink_curve, step_curve
    from minires.plot.gradcheck import steps_and_kinks
    from minires.plot.style import save

    double, single, kinks = step_curve("float64", seed), step_curve("float32", seed), kink_curve(seed)
    save(steps_and_kinks(double, single, kinks), path)
    for curve in (double, single):
        best = int(curve.central.argmin())
        print(
            f"{curve.dtype}: central difference, best step predicted {curve.best_step:.1e}, error {curve.floor:.1e}; "
            f"measured {curve.steps[best]:.1e} and {curve.central[best]:.1e}"
        )
    print(f"kinks: {int(kinks.counted.sum())} crossed, the law expects {kinks.expected.sum():.1f}")
    print(f"picture: {path}")
    return 0


def _demo(seed: int, device: str, page: Path | None = None) -> int:
    from rich.progress import TextColumn
    from rich.table import Table

    from minires.gradcheck.own_checks import own_checks

    table = Table(title="every gradient of minires, float64", title_justify="left")
    table.add_column("what", no_wrap=True)
    table.add_column("checked", no_wrap=True)
    for column in ("tensors", "error/bound", "identities", "kinks", "s"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    screen, rows, failed, start = console(), [], [], time.perf_counter()
    with live_display(TextColumn("checking {task.description}")) as display:
        task = display.add_task("")
        for name, check in own_checks(seed, device):
            display.update(task, description=name)
            begun = time.perf_counter()
            report = check()
            rows.append((name, *_summary(report), f"{time.perf_counter() - begun:.1f}", report.verdict))
            table.add_row(*rows[-1])
            if report.verdict != "pass":
                failed.append(report)
    screen.print(fitted(table, screen.width))
    for report in failed:
        screen.print(report, highlight=False)
    passed = f"{table.row_count - len(failed)} of {table.row_count} pass"
    screen.print(f"{passed}, {time.perf_counter() - start:.0f} s", highlight=False)
    if page:
        from minires.gradcheck import html

        header = [str(column.header) for column in table.columns]
        shown = [html.summary(passed, header, rows), *(html.fragment(report) for report in failed), _v_curve(seed)]
        _write_page(page, table.title, shown)
    return 1 if failed else 0


def _summary(report: GradReport) -> tuple[str, str, str, str, str]:
    rows = [row for row in report.tensors if row.name != "y"]
    measured = [row.error / row.bound for row in rows if row.error is not None and row.bound]
    checked = "all" if all(row.coverage.startswith("all") for row in rows) else "sample"
    kept = f"{sum(i.holds for i in report.identities)}/{len(report.identities)}" if report.identities else ""
    worst = max(measured, default=0.0)
    shown = f"{worst:.2f}" if worst < 1000 else f"{worst:.0e}"
    return checked, str(len(rows)), shown, kept, str(sum(row.left_out for row in rows))


def _exit_code(verdict: str) -> int:
    return 0 if verdict == "pass" else 1
