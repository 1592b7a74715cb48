"""The catalogue of typical faults: what goes wrong when people write a backward pass by hand.

Each is executable, so a failing gradient can be held against all faults of its op, run on the same inputs; the one
that gives the same gradient is the diagnosis. `CATALOGUE` lists them by name, `faults_of(op)` by op.
"""

from minires.gradcheck.faults import (  # fills it
    activation,
    batchnorm,
    block,
    conv,
    conv_settings,
    linear,
    loss,
    pooling,
)
from minires.gradcheck.faults.base import CATALOGUE, Fault, faults_of

__all__ = ["CATALOGUE", "Fault", "faults_of"]
_FILES = (activation, batchnorm, block, conv, conv_settings, linear, loss, pooling)
