"""`python -m minires`."""

import sys

from minires import machine

machine.prepare()  # before anything loads NumPy

from minires.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
