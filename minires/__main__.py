"""`python -m minires`."""

import sys

from minires.cli import main as run
from minires.machine import keep_freed_memory


def main() -> int:
    """The command line in a process of its own."""
    keep_freed_memory()
    return run()


if __name__ == "__main__":
    sys.exit(main())
