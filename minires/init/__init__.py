"""Initializers as small objects: how to sample, and what law the samples obey; and procedures on whole models."""

from minires.init.distributions import (
    Constant,
    GlorotNormal,
    GlorotUniform,
    HeNormal,
    HeUniform,
    Initializer,
    KaimingNormal,
    KaimingUniform,
    LeCunNormal,
    LeCunUniform,
    Normal,
    TruncatedNormal,
    Uniform,
    VarianceScaling,
    XavierNormal,
    XavierUniform,
    Zeros,
    fans,
)
from minires.init.matrices import DeltaOrthogonal, Dirac, Orthogonal
from minires.init.model import by_name, fixup, initialize, lsuv, zero_gamma
from minires.pretrained import LoadReport, from_pretrained
