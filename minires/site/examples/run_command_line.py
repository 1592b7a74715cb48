"""The command line

Every command of `python -m minires` that needs no download works here as well. A program of your own does, too.
"""

from minires import cli

COMMAND = "train --epochs 1 --out run"  # @param {type: "string"}

exit_code = cli.main(COMMAND.split())
