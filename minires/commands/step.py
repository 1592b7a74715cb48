"""`minires step`: a page that steps through an operation on real numbers, forward and back."""

from __future__ import annotations

import argparse
import sys
import textwrap
import webbrowser
from pathlib import Path

from minires.commands import CommandError

HELP = "step through an operation on real numbers: a page for the browser, or text for the terminal"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from minires.stepper.lessons import LESSONS

    parser.epilog = "without a lesson: list them all"
    parser.add_argument("lesson", nargs="?", choices=LESSONS, metavar="LESSON", help=", ".join(LESSONS))
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to write it (default: runs/step/LESSON.html)")
    parser.add_argument("--text", action="store_true", help="walk through it here in the terminal; Enter goes on")


def run(args: argparse.Namespace) -> int:
    if args.lesson is None:
        if args.open or args.out or args.text:
            raise CommandError("name a lesson, as in 'minires step conv --open'")
        return _list()
    if args.text:
        if args.open or args.out:
            raise CommandError("--text writes no page; leave --open and --out away")
        return _walk(args.lesson)
    return _write(args.lesson, args.out or Path("runs") / "step" / f"{args.lesson}.html", args.open)


def _list() -> int:
    from rich.table import Table

    from minires.commands import console
    from minires.stepper.lessons import LESSONS, lesson

    table = Table(title="minires step LESSON", title_justify="left")
    table.add_column("lesson")
    table.add_column("what it shows")
    for name in LESSONS:
        table.add_row(name, lesson(name).ABOUT)
    console().print(table)
    return 0


def _write(name: str, path: Path, show: bool) -> int:
    from minires.commands import output_folder
    from minires.files import atomic_write_text
    from minires.stepper import page

    output_folder(path.parent)
    if path.is_dir():
        raise CommandError(f"{path} is a folder; expected the name of a file")
    text = page(name)
    atomic_write_text(path, text)
    print(f"page: {path} ({len(text.encode()) / 1000:.0f} kB, needs no network)")
    if show and not webbrowser.open(path.resolve().as_uri()):
        print("no browser could be opened here; open the file yourself, or take --text")
    return 0


def _walk(name: str) -> int:
    from minires.commands import console
    from minires.stepper import page_data
    from minires.stepper.terminal import WIDTH, to_text

    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a terminal without Σ shows a question mark
    page, width = page_data(name), min(WIDTH, console().width)
    print(f"{page.title}\n{textwrap.fill(page.about, width)}\n")
    print("In the tables, [5] is read by the line and <5> is written; '.' is not known yet.\n")
    waits = sys.stdin.isatty() and sys.stdout.isatty()
    for text in to_text(page, width):
        print(text)
        if waits and not _goes_on():
            break
    return 0


def _goes_on() -> bool:
    """Whether the reader asks for the next move: Enter does; q, or the end of the input, does not."""
    try:
        return input("Enter: on, q: stop ").strip().lower() not in ("q", "quit")
    except EOFError:
        return False
