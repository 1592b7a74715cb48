"""`python -m minires`."""

import sys


def main() -> int:
    """The command line in a process of its own."""
    try:  # loading takes a second, in which somebody may press Ctrl-C
        from minires.cli import main as run
        from minires.machine import keep_freed_memory

        keep_freed_memory()
        return run()
    except KeyboardInterrupt:
        print("minires: stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
