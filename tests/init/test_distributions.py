"""Every initializer's sample against its law, and the laws against their published formulas."""

import math

import numpy as np
import pytest

from minires import init
from tests.init.laws import assert_z
from tests.refusals import refused

SHAPE = (96, 64, 3, 2)  # not square, so that fan_in and fan_out, rows and columns cannot be exchanged unseen
FAN_IN, FAN_OUT = 64 * 6, 96 * 6
NORMAL, UNIFORM = 3.0, 1.8
TRUNCATED_VARIANCE, TRUNCATED = 0.7737413, 2.3655367  # of a standard normal cut at 2; laws, section 1

LAWS = [  # initializer, variance, kurtosis, bound in standard deviations
    (init.Normal(0.01), 1e-4, NORMAL, math.inf),
    (init.Uniform(0.05), 0.05**2 / 3, UNIFORM, math.sqrt(3)),
    (init.TruncatedNormal(0.02), 4e-4, TRUNCATED, 2 / math.sqrt(TRUNCATED_VARIANCE)),
    (init.LeCunNormal(), 1 / FAN_IN, NORMAL, math.inf),
    (init.LeCunUniform(), 1 / FAN_IN, UNIFORM, math.sqrt(3)),
    (init.XavierNormal(), 2 / (FAN_IN + FAN_OUT), NORMAL, math.inf),
    (init.XavierUniform(gain=5 / 3), 25 / 9 * 2 / (FAN_IN + FAN_OUT), UNIFORM, math.sqrt(3)),
    (init.HeNormal(), 2 / FAN_IN, NORMAL, math.inf),
    (init.HeNormal(mode="fan_out"), 2 / FAN_OUT, NORMAL, math.inf),
    (init.HeUniform(slope=0.2), 2 / 1.04 / FAN_IN, UNIFORM, math.sqrt(3)),
    (init.HeUniform(slope=math.sqrt(5)), 1 / (3 * FAN_IN), UNIFORM, math.sqrt(3)),  # PyTorch's default
    (init.VarianceScaling(3.0, "fan_avg", "normal"), 6 / (FAN_IN + FAN_OUT), NORMAL, math.inf),
    (init.VarianceScaling(1.5, "fan_out", "uniform"), 1.5 / FAN_OUT, UNIFORM, math.sqrt(3)),
    (init.VarianceScaling(2.0, "fan_in", "truncated_normal"), 2 / FAN_IN, TRUNCATED, 2 / math.sqrt(TRUNCATED_VARIANCE)),
]
CHECKS = 3 * len(LAWS)
every_law = pytest.mark.parametrize(
    ("initializer", "variance", "kurtosis", "bound"), LAWS, ids=[str(law[0]) for law in LAWS]
)


def eighth_moment(kurtosis):
    """E w^8 / variance^4, which says how far a sample's fourth moment may stray."""
    if kurtosis == NORMAL:
        return 105.0
    if kurtosis == UNIFORM:
        return 9.0
    z = np.linspace(-2, 2, 400_001)
    density = np.exp(-(z**2) / 2)
    return float(np.sum(z**8 * density) / np.sum(density) / TRUNCATED_VARIANCE**4)


@every_law
def test_stated_law(initializer, variance, kurtosis, bound):
    assert initializer.variance(SHAPE) == pytest.approx(variance, rel=1e-12)
    assert initializer.kurtosis(SHAPE) == pytest.approx(kurtosis, rel=1e-6)


@every_law
def test_samples_obey_the_law(initializer, variance, kurtosis, bound):
    """Mean, mean square and mean fourth power, each by its exact standard error; and the bound, exactly."""
    weights = initializer.sample(SHAPE, 1, np.float64)
    z, n = weights / math.sqrt(variance), weights.size
    assert_z(z.mean() * math.sqrt(n), CHECKS)
    assert_z(((z**2).mean() - 1) / math.sqrt((kurtosis - 1) / n), CHECKS)
    assert_z(((z**4).mean() - kurtosis) / math.sqrt((eighth_moment(kurtosis) - kurtosis**2) / n), CHECKS)
    assert np.abs(z).max() <= bound * (1 + 1e-7)


@pytest.mark.parametrize(
    "wrong",
    [
        init.HeNormal(mode="fan_out").sample(SHAPE, 1, np.float64),  # fans exchanged
        np.random.default_rng(1).uniform(-1, 1, SHAPE) * math.sqrt(6 / FAN_IN),  # uniform where normal is meant
        init.HeNormal().sample(SHAPE, 1, np.float64) * 1.04,  # 8 % more variance: relsd 0.74 % x (5.5 + 3)
    ],
)
def test_the_check_sees_wrong_samples(wrong):
    with pytest.raises(AssertionError):
        test_samples_obey_the_law(_Fixed(wrong), 2 / FAN_IN, NORMAL, math.inf)


def test_a_truncated_normal_without_correction_is_seen():
    rng = np.random.default_rng(1)
    z = rng.standard_normal(2 * math.prod(SHAPE))
    z = z[np.abs(z) <= 2][: math.prod(SHAPE)]
    with pytest.raises(AssertionError):
        test_samples_obey_the_law(_Fixed(0.02 * z), 4e-4, TRUNCATED, 3.0)


class _Fixed:
    def __init__(self, weights):
        self.weights = weights

    def sample(self, shape, rng, dtype):
        return self.weights


def test_he_and_kaiming_xavier_and_glorot_are_the_same_objects():
    assert init.KaimingNormal is init.HeNormal and init.KaimingUniform is init.HeUniform
    assert init.GlorotNormal is init.XavierNormal and init.GlorotUniform is init.XavierUniform


def test_constants():
    assert np.array_equal(init.Constant(0.3).sample((2, 3), 0, np.float64), np.full((2, 3), 0.3))
    assert not init.Zeros().sample((4,), 0).any()
    assert init.Zeros().variance((2, 3)) == init.Constant(0.3).variance((2, 3)) == 0


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((5, 7), (7, 5)), ((4, 3, 3, 3), (27, 36)), ((4, 3, 2, 5), (30, 40)), ((1, 1, 1, 1), (1, 1))],
)
def test_fans(shape, expected):
    assert init.fans(shape) == expected


@pytest.mark.parametrize("initializer", [law[0] for law in LAWS] + [init.Constant(0.1), init.Orthogonal()], ids=str)
def test_same_seed_same_numbers(initializer):
    """A seed is its generator; and the dtype rounds the same numbers, it does not draw others."""
    shape = (5, 4, 3, 3)
    first = initializer.sample(shape, 3, np.float64)
    assert first.tobytes() == initializer.sample(shape, np.random.default_rng(3), np.float64).tobytes()
    rounded = initializer.sample(shape, 3, np.float32)
    assert rounded.dtype == np.float32 and np.array_equal(rounded, first.astype(np.float32))
    assert rounded.flags.c_contiguous and rounded.flags.writeable


def test_a_generator_goes_on():
    rng = np.random.default_rng(0)
    first, second = init.HeNormal().sample((3, 4), rng), init.HeNormal().sample((3, 4), rng)
    assert not np.array_equal(first, second)


def test_wrong_input_is_refused():
    with refused(ValueError, "shape", "(3,)"):
        init.fans((3,))
    with refused(ValueError, "shape", "(3,)"):
        init.HeNormal().sample((3,), 0)
    with refused(ValueError, "shape", "(0, 4)"):
        init.HeNormal().variance((0, 4))
    with refused(TypeError, "rng", "'seed'"):
        init.HeNormal().sample((3, 4), "seed")
    with refused(ValueError, "mode", "'fan_sideways'"):
        init.VarianceScaling(1.0, "fan_sideways")
    with refused(ValueError, "mode", "'out'"):
        init.HeNormal(mode="out").sample((3, 4), 0)
    with refused(ValueError, "distribution", "'cauchy'"):
        init.VarianceScaling(distribution="cauchy")
    with refused(ValueError, "scale", "-1"):
        init.VarianceScaling(-1.0)
    with refused(ValueError, "std", "-0.1"):
        init.Normal(-0.1)
    with refused(ValueError, "std", "-0.1"):
        init.TruncatedNormal(-0.1)
    with refused(ValueError, "bound", "-0.1"):
        init.Uniform(-0.1)
    with refused(ValueError, "rng", "-1"):
        init.HeNormal().sample((3, 4), -1)
