"""`minires tutorial`: the tutorials in their order, and each as a notebook."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from minires.commands import CommandError

HELP = "the tutorials: list them, or write them as notebooks for Jupyter and Colab"

INSTALL = """\
# Installs minires where it is missing. (The registry's package of that name is another project.)
try:
    import minires
except ImportError:
    %pip install -q "WHAT"
    import minires"""

PLAIN = str.maketrans("", "", "{}")
"""How a formula looks in a terminal: `0.5^20`."""

NO_INSTALL = """\
# This notebook needs minires. Where it is missing, install it from its repository: in its folder, pip install -e .
import minires"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "without a number: list all tutorials"
    parser.add_argument("number", nargs="?", metavar="NN", help="which one, e.g. 06")
    parser.add_argument("--open", action="store_true", help="write the notebook and open it in Jupyter")
    parser.add_argument("--notebooks", type=Path, metavar="DIR", help="write notebooks (.ipynb) into DIR")
    parser.add_argument(
        "--install",
        type=source,
        metavar="WHAT",
        help="what a notebook's first cell installs where minires is missing: the address of a repository "
        "(git+https://...), or of a wheel",
    )


def source(text: str) -> str:
    """An argparse type: what pip can install minires from, never a bare name: that would be another project."""
    if re.search(r"[\"\n\r{}$!]", text) or text.startswith("-"):
        raise argparse.ArgumentTypeError(f"{text!r}: expected one address, without quotes, braces or line breaks")
    if not re.search(r"[/\\]|\.whl$", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is a bare name, and the registry's minires is another project; expected the address of a "
            "repository, as in git+https://example.org/you/minires, or of a wheel"
        )
    return text


def run(args: argparse.Namespace) -> int:
    from minires.tutorial import folder

    try:
        chosen = all_tutorials = sorted(folder().glob("[0-9][0-9]_*.py"))
    except FileNotFoundError as error:
        raise CommandError(str(error)) from None
    if args.number is not None:
        chosen = [path for path in all_tutorials if args.number.zfill(2) in (path.stem, path.stem[:2])]
        if not chosen:
            there = ", ".join(path.stem[:2] for path in all_tutorials)
            raise CommandError(f"there is no tutorial {args.number!r}; there are {there}")
    if args.open and args.number is None:
        raise CommandError("say which one to open, as in 'minires tutorial 06 --open'")
    if args.notebooks is None and not args.open:
        return _list(chosen)
    written = _write(chosen, args.notebooks or Path("runs") / "tutorials", args.install)
    return _open(written[0]) if args.open else 0


def _list(paths: list[Path]) -> int:
    from rich.table import Table

    from minires.commands import console

    table = Table(title="open one in Jupyter: minires tutorial NN --open", title_justify="left")
    for name in ("", "tutorial", "what it shows", "takes"):
        table.add_column(name, overflow="fold")
    for path in paths:
        table.add_row(path.stem[:2], *summary(path.read_text(encoding="utf-8")))
    console().print(table)
    return 0


def summary(text: str) -> tuple[str, str, str]:
    """(title, first sentence, the time it takes) of a tutorial's text. Raises ValueError where one is missing."""
    prose = " ".join(line.removeprefix("#").strip() for line in text.partition("# %%\n")[0].splitlines()[2:])
    title = re.match(r"# # (.*)", text.splitlines()[1])
    seconds = re.search(r"Takes about ([\d.]+ s)\b", prose)
    if title is None or seconds is None:
        raise ValueError("a tutorial starts with its title, and says 'Takes about N s' before its first code cell")
    line = re.split(r"(?<=[.!?]) ", prose.strip())[0]
    return title[1], re.sub(r"\$(.*?)\$", lambda formula: formula[1].translate(PLAIN), line), seconds[1]


def _write(paths: list[Path], target: Path, install: str | None) -> list[Path]:
    from minires.commands import output_folder
    from minires.files import atomic_write_text

    output_folder(target)
    written = []
    for path in paths:
        written.append(target / f"{path.stem}.ipynb")
        atomic_write_text(written[-1], notebook(path.read_text(encoding="utf-8"), install))
        print(f"notebook: {written[-1]}")
    return written


def notebook(text: str, install: str | None = None) -> str:
    """A tutorial in the percent format as the text of a notebook, whose first cell imports or installs minires.

    Raises CommandError where jupytext is missing.
    """
    from minires.tutorial import as_notebook

    try:
        import jupytext

        book = as_notebook(text)
    except ImportError:
        raise CommandError(
            'notebooks need jupytext: pip install jupytext, or -e ".[notebooks]" in minires\' folder'
        ) from None
    first = NO_INSTALL if install is None else INSTALL.replace("WHAT", install)
    cell = jupytext.reads("# %%\n" + NO_INSTALL, fmt="py:percent").cells[0]
    cell.source = first
    book.cells.insert(0, cell)
    for number, each in enumerate(book.cells):
        each["id"] = f"cell-{number}"  # jupytext draws them at random; the same tutorial gives the same file
    book.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return jupytext.writes(book, fmt="ipynb")


def _open(path: Path) -> int:
    for program in ("jupyterlab", "notebook"):
        if find_spec(program):
            print("opening it in Jupyter; Ctrl-C here ends that")
            return subprocess.run([sys.executable, "-m", program, str(path)], check=False).returncode
    raise CommandError(
        f"{path} is written, but there is no Jupyter here to open it: pip install jupyterlab, or open the file in an "
        "editor that shows notebooks, such as VS Code"
    )
