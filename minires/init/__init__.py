"""Initializers as small objects: how to sample, and what law the samples obey; and procedures on whole models."""

from minires.init.distributions import Initializer, VarianceScaling, fans
from minires.init.distributions import Constant, Normal, TruncatedNormal, Uniform, Zeros
from minires.init.distributions import LeCunNormal, LeCunUniform
from minires.init.distributions import GlorotNormal, GlorotUniform, XavierNormal, XavierUniform
from minires.init.distributions import HeNormal, HeUniform, KaimingNormal, KaimingUniform
from minires.init.matrices import DeltaOrthogonal, Dirac, Orthogonal
from minires.init.model import by_name, fixup, initialize, lsuv, zero_gamma
from minires.pretrained import LoadReport, from_pretrained
