"""`python -m minires COMMAND`: finds the command's module, reads its options, runs it.

A command's module is imported only when it is named (or when all are listed), so `minires --version` and every
command's own `--help` answer at once. What a user can put right is printed as one sentence on stderr.

Exit codes: what the command returns (0: all well), 1 the machine said no (a full disk, say), 2 wrong use, 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from types import ModuleType
from typing import NoReturn

import minires
from minires.commands import CommandError
from minires.terminal import forgiving_output

COMMANDS = (
    "train",
    "compare",
    "gradcheck",
    "predict",
    "step",
    "tutorial",
    "bench",
    "info",
    "data",
    "evaluate",
    "convert",
    "course",
    "site",
)
"""In the order of --help: each is a file of `minires/commands`."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line (`sys.argv` by default) and returns its exit code."""
    os.environ.setdefault("MPLBACKEND", "Agg")  # pictures go into files; no window, no display needed
    with forgiving_output() as output:
        code = _run(list(sys.argv[1:] if argv is None else argv))
        output.flush()
        if output.problem is not None and code == 0:
            code = 1
            if not isinstance(output.problem, BrokenPipeError):  # who leaves early, as `| head` does, knows it
                print(f"minires: the output could not be written: {output.problem}", file=sys.stderr)
    return code


def _run(argv: list[str]) -> int:
    if not argv or argv[0] not in COMMANDS:
        return _without_command(argv)
    name = argv[0]
    try:
        command = _module(name)
        parser = _Parser(prog=f"minires {name}", description=command.HELP)
        command.add_arguments(parser)
        return command.run(parser.parse_args(argv[1:]))
    except CommandError as error:
        return _fail(name, str(error), 2)
    except OSError as error:
        return _fail(name, f"{error.filename}: {error.strerror}" if error.filename is not None else str(error), 1)
    except MemoryError as error:
        return _fail(name, str(error) or "out of memory", 1)
    except KeyboardInterrupt:
        return _fail(name, "stopped", 130)


class _Parser(argparse.ArgumentParser):
    """argparse's, with the nearest name for an option or a choice that there is not."""

    def error(self, message: str) -> NoReturn:
        wrong, _, rest = message.partition(": ")
        if wrong == "unrecognized arguments":
            options = [option for option in self._option_string_actions if option.startswith("--")]
            close = [get_close_matches(word.partition("=")[0], options, 1) for word in rest.split() if word[:1] == "-"]
            named = [names[0] for names in close if names]
            message += f"; did you mean {' '.join(named)}?" if named else ""
        elif found := re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)$", message):
            close = get_close_matches(found[1], re.findall(r"[^', ]+", found[2]), 1)
            message += f"; did you mean {close[0]!r}?" if close else ""
        super().error(message)


def _without_command(argv: list[str]) -> int:
    """--help, --version, no argument at all, or an unknown command."""
    width = max(shutil.get_terminal_size().columns, 40) - 1
    listing = "\n".join(
        textwrap.fill(_module(name).HELP, width, initial_indent=f"  {name:10} ", subsequent_indent=" " * 13)
        for name in COMMANDS
    )
    parser = argparse.ArgumentParser(
        prog="minires",
        usage="minires [-h] [--version] COMMAND ...",
        description=textwrap.fill(minires.__doc__.splitlines()[0], width),
        epilog=f"commands:\n{listing}\n\n'minires COMMAND --help' lists a command's options.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"minires {minires.__version__}")
    _, rest = parser.parse_known_args(argv)
    if not rest:
        parser.print_help()
        return 2
    close = get_close_matches(rest[0], COMMANDS, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(COMMANDS)}"
    parser.error(f"unknown command {rest[0]!r}; {hint}")


def _module(name: str) -> ModuleType:
    return import_module(f"minires.commands.{name}")


def _fail(command: str, message: str, code: int) -> int:
    print(f"minires {command}: {message}", file=sys.stderr)
    return code
