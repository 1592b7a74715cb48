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
from difflib import get_close_matches
from importlib import import_module
from types import ModuleType

import minires
from minires.commands import CommandError

COMMANDS = ("train", "compare", "gradcheck", "predict", "bench", "info", "data", "evaluate", "convert")
"""In the order of --help: each is a file of `minires/commands`."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line (`sys.argv` by default) and returns its exit code."""
    os.environ.setdefault("MPLBACKEND", "Agg")  # pictures go into files; no window, no display needed
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] not in COMMANDS:
        return _without_command(argv)
    name = argv[0]
    command = _module(name)
    parser = argparse.ArgumentParser(prog=f"minires {name}", description=command.HELP)
    command.add_arguments(parser)
    args = parser.parse_args(argv[1:])
    try:
        code = command.run(args)
        sys.stdout.flush()
        return code
    except CommandError as error:
        return _fail(name, str(error), 2)
    except BrokenPipeError:  # whoever read our output has left, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (OSError, MemoryError) as error:
        return _fail(name, str(error) or "out of memory", 1)
    except KeyboardInterrupt:
        return _fail(name, "stopped", 130)


def _without_command(argv: list[str]) -> int:
    """--help, --version, no argument at all, or a word that is no command."""
    listing = "\n".join(f"  {name:10} {_module(name).HELP}" for name in COMMANDS)
    parser = argparse.ArgumentParser(
        prog="minires",
        usage="minires [-h] [--version] COMMAND ...",
        description=minires.__doc__.splitlines()[0],
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
    parser.error(f"{rest[0]!r} is no command of minires; {hint}")


def _module(name: str) -> ModuleType:
    return import_module(f"minires.commands.{name}")


def _fail(command: str, message: str, code: int) -> int:
    print(f"minires {command}: {message}", file=sys.stderr)
    return code
