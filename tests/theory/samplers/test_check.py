"""Planted errors in initializers: each is caught and named. Correct samplers pass, in any dtype and of any family."""

import math

import numpy as np
import pytest

from minires import init, nn
from minires.theory.samplers.check import check_initializer
from minires.theory.stats import ks_test

SHAPE = (64, 32, 3, 3)


def fan_in(s):
    return s[1] * math.prod(s[2:])


def fan_out(s):
    return s[0] * math.prod(s[2:])


def normal(variance):
    return lambda s, rng: rng.standard_normal(s) * math.sqrt(variance(s))


def uniform(bound):
    return lambda s, rng: rng.uniform(-bound(s), bound(s), s)


def truncated(variance):
    def sample(s, rng):
        z = rng.standard_normal(s)
        while (outside := np.abs(z) > 2).any():
            z[outside] = rng.standard_normal(outside.sum())
        return z * math.sqrt(variance(s))

    return sample


def qr_alone(s, rng):
    rows, columns = s[0], fan_in(s)
    q = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))[0]
    return (q if rows >= columns else q.T).reshape(s)


def taps_orthogonal(s, rng):
    taps = [init.Orthogonal().sample(s[:2], rng) for _ in range(math.prod(s[2:]))]
    return np.moveaxis(np.stack(taps), 0, -1).reshape(s)


def delta_off_center(s, rng):
    return np.roll(init.DeltaOrthogonal().sample(s, rng), 1, axis=-1)


HE, HE_U, XAVIER, ORTHOGONAL = init.HeNormal(), init.HeUniform(), init.XavierNormal(), init.Orthogonal()

# name: (sampler, the law it should obey, the verdict)
PLANTED = {
    "fans swapped": (normal(lambda s: 2 / fan_out(s)), HE, "fans swapped: 2 times too small"),
    "channels forgotten": (
        normal(lambda s: 2 / math.prod(s[2:])),
        HE,
        "channels forgotten, only the kernel's area was counted: 32 times too large",
    ),
    "kernel forgotten": (
        normal(lambda s: 2 / s[1]),
        HE,
        "kernel area forgotten, only the channels were counted: 9 times too large",
    ),
    "gain not squared": (
        normal(lambda s: math.sqrt(2) / fan_in(s)),
        HE,
        "gain used once instead of squared: 1.41 times too small",
    ),
    "1/fan for 2/fan": (
        normal(lambda s: 1 / fan_in(s)),
        HE,
        "gain forgotten, 1/fan instead of 2/fan: 2 times too small",
    ),
    "gain squared twice": (normal(lambda s: 4 / fan_in(s)), HE, "gain squared twice: 2 times too large"),
    "truncation uncorrected": (
        truncated(lambda s: 2 / fan_in(s)),
        init.VarianceScaling(2.0, "fan_in", "truncated_normal"),
        "variance 0.774 of the law: truncation not corrected",
    ),
    "truncated where normal was meant": (
        truncated(lambda s: 2 / fan_in(s)),
        HE,
        "variance 0.774 of the law: truncation not corrected",
    ),
    "square root missing": (
        normal(lambda s: (2 / fan_in(s)) ** 2),
        HE,
        "square root missing, the variance was used as the standard deviation: 144 times too small",
    ),
    "square root twice": (normal(lambda s: (2 / fan_in(s)) ** 0.5), HE, "square root taken twice: 12 times too large"),
    "bound lacks sqrt 3": (
        uniform(lambda s: math.sqrt(2 / fan_in(s))),
        HE_U,
        "uniform bound lacks its sqrt(3): 3 times too small",
    ),
    "bound times sqrt 3": (
        uniform(lambda s: math.sqrt(18 / fan_in(s))),
        HE_U,
        "uniform bound sqrt(3) times too large: 3 times too large",
    ),
    "uniform for normal": (uniform(lambda s: math.sqrt(6 / fan_in(s))), HE, "uniform where normal was meant"),
    "normal for uniform": (normal(lambda s: 2 / fan_in(s)), HE_U, "normal where uniform was meant"),
    "fan_out with stride": (
        normal(lambda s: 2 * 4 / fan_out(s)),
        init.HeNormal(mode="fan_out"),
        "fan divided by the square of a stride of 2: 4 times too large",
    ),
    "groups of 4, and no stride anywhere": (
        normal(lambda s: 2 / (4 * fan_in(s))),
        HE,
        "fan multiplied by a number of groups, 4: a filter sees its group alone: 4 times too small",
    ),
    "sum of fans": (
        normal(lambda s: 1 / (fan_in(s) + fan_out(s))),
        XAVIER,
        "sum of the fans where their mean was meant: 2 times too small",
    ),
    "fan_in for the mean": (
        normal(lambda s: 1 / fan_in(s)),
        XAVIER,
        "fan_in where the mean of both fans was meant: 1.5 times too large",
    ),
    "torch default": (
        uniform(lambda s: 1 / math.sqrt(fan_in(s))),
        HE_U,
        "PyTorch's default, kaiming_uniform with a = sqrt(5): 6 times too small",
    ),
    "keras layout": (
        normal(lambda s: 2 / (math.prod(s[:-1]))),
        HE,
        "shape read as (kh, kw, in, out), Keras's order: 21.3 times too small",
    ),
    "constant deviation": (normal(lambda s: 1e-4), HE, "fan ignored: standard deviation 0.01 whatever the shape: 69"),
    "unknown factor": (
        normal(lambda s: 2.9 / fan_in(s)),
        HE,
        "a factor that no known mistake explains: 1.45 times too large",
    ),
    "one-sided": (
        lambda s, rng: rng.random(s) * math.sqrt(6 / fan_in(s)),
        HE_U,
        "standard deviations off 0: not centered, one-sided: every weight has the same sign",
    ),
    "shifted": (lambda s, rng: HE.sample(s, rng) + 0.002, HE, "standard deviations off 0: not centered"),
    "seeded inside": (lambda s, rng: HE.sample(s, 0), HE, "ignores its generator: every draw is the same"),
    "copied filters": (
        lambda s, rng: np.broadcast_to(HE.sample((1, *s[1:]), rng), s),
        HE,
        "all filters are copies of one another",
    ),
    "paired signs": (
        lambda s, rng: np.concatenate([w := HE.sample((s[0] // 2, *s[1:]), rng), -w]),
        HE,
        "entries are not independent: their sums do not have the variance of independent terms",
    ),
    "orthogonal for normal": (
        lambda s, rng: init.Orthogonal(math.sqrt(2)).sample(s, rng),
        HE,
        "orthogonal where independent weights were meant",
    ),
    "Q's sign": (
        qr_alone,
        ORTHOGONAL,
        "Q's sign not fixed: not uniform over rotations, multiply Q by the sign of R's diagonal",
    ),
    "normal for orthogonal": (
        normal(lambda s: 1 / max(s[0], fan_in(s))),
        ORTHOGONAL,
        "independent normal weights where orthogonal ones were meant",
    ),
    "orthogonal gain": (
        lambda s, rng: init.Orthogonal(math.sqrt(2)).sample(s, rng),
        ORTHOGONAL,
        "orthogonal, with another gain: 2 times too large",
    ),
    "taps orthogonal": (taps_orthogonal, ORTHOGONAL, "each kernel tap orthogonal on its own, not the whole filter"),
    "off center": (delta_off_center, init.DeltaOrthogonal(), "weights away from the kernel's center"),
    "not quite dirac": (
        lambda s, rng: init.Dirac().sample(s, rng) * 1.5,
        init.Dirac(),
        "0.174 % of the entries are not those of Dirac",
    ),
    "all the same": (lambda s, rng: np.full(s, 0.1), HE, "constant 0.1: every weight is the same"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_planted_error_is_caught_and_named(name):
    sampler, law, verdict = PLANTED[name]
    report = check_initializer(sampler, SHAPE, law)
    assert not report.ok
    assert verdict in report.verdict
    assert str(report).startswith(report.verdict)


def test_a_law_that_counts_the_stride_sees_a_sampler_that_does_not():
    law = init.HeNormal(mode="fan_out")
    assert check_initializer(law.sample, SHAPE, law, stride=2).verdict == "stride ignored: 4 times too small"
    counted = normal(lambda s: 2 * 4 / fan_out(s))
    assert check_initializer(counted, SHAPE, law, stride=2).ok
    assert check_initializer(HE.sample, SHAPE, HE, stride=2).ok  # fan_in has no stride in it


GOOD = [
    init.Zeros(),
    init.Constant(0.1),
    init.Normal(0.01),
    init.Uniform(0.1),
    init.TruncatedNormal(0.02),
    init.LeCunNormal(),
    init.LeCunUniform(),
    XAVIER,
    init.XavierUniform(gain=5 / 3),
    HE,
    HE_U,
    init.HeNormal(slope=0.2, mode="fan_out"),
    init.VarianceScaling(1.0, "fan_avg", "truncated_normal"),
    ORTHOGONAL,
    init.Orthogonal(math.sqrt(2)),
    init.DeltaOrthogonal(),
    init.Dirac(),
]


@pytest.mark.parametrize("law", GOOD, ids=str)
@pytest.mark.parametrize("shape", [(64, 32), (64, 32, 3, 3)], ids=["linear", "conv"])
def test_minires_own_initializers_obey(law, shape):
    report = check_initializer(law.sample, shape, law)
    assert report.ok, str(report)
    assert report.verdict.startswith(f"obeys {type(law).__name__}")


def test_fans_of_a_square_shape_are_told_apart_by_other_shapes():
    report = check_initializer(normal(lambda s: 2 / fan_out(s)), (48, 48), HE)
    assert report.verdict == "fans swapped: 6 times too small (at shape 42x7)"


def test_a_sampler_that_knows_one_shape_only_is_checked_on_that():
    def only(s, rng):
        if s != (40, 90):
            raise ValueError("not mine")
        return HE.sample(s, rng)

    assert check_initializer(only, (40, 90), HE).ok
    swapped = check_initializer(lambda s, rng: only(s, rng) * math.sqrt(90 / 40), (40, 90), HE)
    assert swapped.verdict == "fans swapped: 2.25 times too large"


def test_wrong_shape_and_nan_are_refused():
    with pytest.raises(ValueError, match=r"asked for shape \(4, 5\), the sampler gave \(5, 4\)"):
        check_initializer(lambda s, rng: HE.sample(s[::-1], rng), (4, 5), HE)
    with pytest.raises(ValueError, match="not all finite"):
        check_initializer(lambda s, rng: HE.sample(s, rng) * np.inf, (4, 5), HE)


def test_z_scores_of_correct_samplers_are_distributed_as_z_scores():
    z = []
    for seed in range(10):
        for law in (HE, HE_U, init.LeCunNormal()):
            checks = check_initializer(law.sample, (50, 60), law, rng=seed).checks
            z += [check.z for check in checks if check.name in ("mean", "mean square")]
    assert ks_test(z) > 1e-6
    assert ks_test(2 * np.array(z)) < 1e-6


def normal(variance):
    return lambda shape, rng: rng.normal(0, math.sqrt(variance(shape)), shape)


def area(shape):
    return math.prod(shape[2:])


CONV = (64, 32, 3, 3)

SLIPS = {
    "kernel area forgotten in fan_out": (init.XavierNormal(), lambda s: 2 / (s[1] * area(s) + s[0]), CONV),
    "kernel area forgotten in fan_in": (init.XavierNormal(), lambda s: 2 / (s[1] + s[0] * area(s)), CONV),
    "bracket misplaced, the root of the gain": (init.HeNormal(), lambda s: 2 / (s[1] * area(s)) ** 2, CONV),
    "bracket misplaced, sqrt(2/fan_in + fan_out)": (init.XavierNormal(), lambda s: 2 / s[1] + s[0], (64, 32)),
    "fan_in of a depthwise convolution counts all channels": (
        init.HeNormal(),
        lambda s: 2 / (s[0] * area(s)),
        (32, 1, 3, 3),
    ),
    "fan multiplied by a number of groups, 8": (init.HeNormal(), lambda s: 2 / (8 * s[1] * area(s)), CONV),
}


@pytest.mark.parametrize("sentence", SLIPS)
def test_slips_in_one_fan_in_a_bracket_or_with_groups_are_named(sentence):
    law, variance, shape = SLIPS[sentence]
    report = check_initializer(normal(variance), shape, law)
    assert not report.ok
    assert report.verdict.startswith(sentence), report.verdict
    right = check_initializer(normal(law.variance), shape, law)
    assert right.ok, right.verdict


def from_qr(shape, rng, draw, fixed):
    rows, columns = shape[0], math.prod(shape[1:])
    q, r = np.linalg.qr(draw(rng, (max(rows, columns), min(rows, columns))))
    q = q * np.sign(np.diag(r)) if fixed else q
    return (q if rows >= columns else q.T).reshape(shape)


@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize("shape", [(64, 32), (32, 64)])
def test_qr_of_uniform_numbers_is_not_called_a_missing_sign(shape, fixed):
    def sampler(shape, rng):
        return from_qr(shape, rng, lambda rng, size: rng.random(size), fixed)

    verdict = check_initializer(sampler, shape, init.Orthogonal()).verdict
    assert "mean that is not 0" in verdict and "sign not fixed" not in verdict


def test_qr_of_normal_numbers_needs_its_sign():
    def sampler(shape, rng):
        return from_qr(shape, rng, lambda rng, size: rng.standard_normal(size), False)

    assert "sign not fixed" in check_initializer(sampler, (64, 32), init.Orthogonal()).verdict


def test_orthogonal_over_the_wrong_axes():
    def sampler(shape, rng):
        flat = (shape[0] * shape[1], area(shape))
        return from_qr(flat, rng, lambda rng, size: rng.standard_normal(size), True).reshape(shape)

    assert "orthogonal over the wrong axes" in check_initializer(sampler, (8, 4, 3, 3), init.Orthogonal()).verdict


def test_a_sampler_for_one_shape_is_said_to_be_right_for_it():
    sd = math.sqrt(init.HeNormal().variance(CONV))
    verdict = check_initializer(lambda shape, rng: rng.normal(0, sd, shape), CONV, init.HeNormal()).verdict
    assert verdict.startswith("fan ignored") and verdict.endswith(f"right for {'x'.join(map(str, CONV))} itself")


@pytest.mark.parametrize("sampler", [lambda shape: np.zeros(shape), nn.Linear(2, 2)])
def test_a_sampler_is_a_function_of_shape_and_generator(sampler):
    with pytest.raises(TypeError, match=r"expected a function sampler\(shape, rng\)"):
        check_initializer(sampler, (8, 8), init.HeNormal())
