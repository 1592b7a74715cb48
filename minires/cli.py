"""`python -m minires COMMAND`: finds the command's module, reads its options, runs it.

A command's module is imported only when it is named (or when all are listed), so `minires --version` and every
command's own `--help` answer at once. What a user can put right is printed as one sentence on stderr.

Exit codes: what the command returns (0: all well), 1 the machine said no (a full disk, say), 2 wrong use, 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec

import minires
from minires.commands import CommandError

NAMES = (
    *("train", "compare", "gradcheck", "predict", "bench", "step"),
    *("course", "info", "data", "evaluate", "convert"),
)
COMMANDS = tuple(name for name in NAMES if find_spec(f"minires.commands.{name}"))
"""In the order of --help."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line (`sys.argv` by default) and returns its exit code."""
    os.environ.setdefault("MPLBACKEND", "Agg")  # pictures go into files; no window, no display needed
    argv = list(sys.argv[1:] if argv is None else argv)
    args = build_parser(argv).parse_args(argv)
    try:
        return args.run(args)
    except CommandError as error:
        return _fail(args.command, str(error), 2)
    except BrokenPipeError:  # the reader of our output left, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _fail(args.command, str(error), 1)
    except KeyboardInterrupt:
        return _fail(args.command, "stopped", 130)


def build_parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    """The parser for `argv`: with the one command that it names, or with all of them where it names none."""
    parser = argparse.ArgumentParser(
        prog="minires",
        description="A deep-learning engine small enough to read in one evening.",
        epilog="'minires COMMAND --help' lists a command's options.",
    )
    parser.add_argument("--version", action="version", version=f"minires {minires.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, title="commands")
    named = next((word for word in argv if not word.startswith("-")), None)
    for name in [named] if named in COMMANDS else COMMANDS:
        module = import_module(f"minires.commands.{name}")
        command = commands.add_parser(name, help=module.HELP, description=module.HELP)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def _fail(command: str, message: str, code: int) -> int:
    print(f"minires {command}: {message}", file=sys.stderr)
    return code
