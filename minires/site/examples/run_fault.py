"""Plant a mistake and see it named

The catalogue holds the typical mistakes of a backward pass. Plant one; the check does not know which. All names:
cli.main(["gradcheck", "--list"])
"""

from minires import cli

FAULT = "batchnorm:dx-mean-path-missing"  # @param {type: "string"}

exit_code = cli.main(["gradcheck", "--fault", FAULT])
