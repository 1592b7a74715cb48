"""Every gradient of minires, checked here and now

Every operation, layer and block, and whole networks through the loss, held against numerical derivatives.
"""

from minires import cli

exit_code = cli.main(["gradcheck"])
