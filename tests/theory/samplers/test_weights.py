"""Every sample obeys its initializer's sampling law, z-scores are distributed as z-scores, wrong laws are seen."""

import math

import numpy as np
import pytest

from minires import init
from minires.theory import stats
from minires.theory.samplers import weights
from minires.theory.samplers.orthogonal import haar_checks

SHAPES = [(64, 48), (30, 200), (24, 10, 3, 3), (10, 24, 3, 3), (40, 3, 7, 7), (6, 50, 1, 5)]
LAWS = [
    init.Normal(0.01),
    init.Uniform(0.3),
    init.TruncatedNormal(0.02),
    init.LeCunNormal(),
    init.LeCunUniform(),
    init.XavierNormal(),
    init.XavierUniform(gain=5 / 3),
    init.HeNormal(),
    init.HeNormal(slope=0.2, mode="fan_out"),
    init.HeUniform(),
    init.HeUniform(slope=math.sqrt(5)),
    init.VarianceScaling(2.0, "fan_in", "truncated_normal"),
]


def mean_z(w, law, shape):
    return float(w.mean(dtype=float)) * math.sqrt(w.size / law.variance(shape))


def kurtosis_z(w, law, shape):
    return weights.kurtosis_z(w, weights.family(law, shape))


STATISTICS = [mean_z, weights.second_moment_z, kurtosis_z]


def z_scores(draws=12):
    """One z-score per statistic, law, shape and draw, each from a fresh matrix."""
    rng = np.random.default_rng(20)
    scores = {statistic.__name__: [] for statistic in STATISTICS}
    for law in LAWS:
        for shape in SHAPES:
            for _ in range(draws):
                w = law.sample(shape, rng, np.float64)
                for statistic in STATISTICS:
                    scores[statistic.__name__].append(statistic(w, law, shape))
    return scores


def test_sampling_laws_hold_and_their_z_scores_are_normal():
    scores = z_scores()
    checks = sum(map(len, scores.values()))
    for name, z in scores.items():
        z = np.array(z)
        if name != "kurtosis_z":  # a fourth moment of 300 normals is skewed: its tails are not a normal's
            assert np.abs(z).max() < stats.z_threshold(checks), name
        mean_square = float(np.mean(z**2))
        assert abs(z.mean()) * math.sqrt(z.size) < stats.z_threshold(6), name
        assert abs(mean_square - 1) < 0.15, name  # chi-square with 864 degrees: sd 0.048
    assert stats.ks_test(scores["mean_z"]) > 1e-6


def test_second_moment_of_a_large_sample_is_distributed_as_the_law_says():
    rng = np.random.default_rng(21)
    z = []
    for law in LAWS:
        for shape in ((200, 200), (60, 40, 3, 3)):
            for _ in range(8):
                z.append(weights.second_moment_z(law.sample(shape, rng, np.float64), law, shape))
    assert stats.ks_test(z) > 1e-6
    assert np.abs(z).max() < stats.z_threshold(len(z))


@pytest.mark.parametrize("law", LAWS, ids=str)
def test_bound_is_kept_exactly_and_nearly_reached(law):
    shape = (300, 200)
    w = law.sample(shape, np.random.default_rng(22), np.float64)
    limit = weights.family(law, shape).bound * math.sqrt(law.variance(shape))
    assert np.abs(w).max() <= limit
    assert math.isinf(limit) or np.abs(w).max() > 0.995 * limit


@pytest.mark.parametrize(
    ("a", "v", "kurtosis"), [(1, 0.291125, 1.940920), (2, 0.7737413, 2.3655367), (3, 0.9733369, 2.828886)]
)
def test_truncated_family_against_numerical_integration_and_published_figures(a, v, kurtosis):
    family = weights.truncated(a)
    z = np.linspace(-a, a, 200001)
    density = np.exp(-0.5 * z * z)
    moments = [np.trapezoid(z**k * density, z) / np.trapezoid(density, z) for k in (2, 4, 6, 8)]
    assert moments[0] == pytest.approx(v, abs=1e-6)
    assert family.m4 == pytest.approx(kurtosis, abs=1e-6)
    expected = [m / moments[0] ** (k / 2) for m, k in zip(moments[1:], (4, 6, 8), strict=True)]
    assert (family.m4, family.m6, family.m8) == pytest.approx(expected, rel=1e-8)
    assert family.bound == pytest.approx(a / math.sqrt(v), rel=1e-6)


@pytest.mark.parametrize("family", weights.FAMILIES, ids=lambda f: f.name)
def test_density_integrates_to_one_with_its_own_moments(family):
    x = np.linspace(-8, 8, 400001)
    p = family.density(x, sd=0.7)
    assert np.trapezoid(p, x) == pytest.approx(1, abs=2e-5)  # the uniform's steps fall between two nodes
    assert np.trapezoid(p * x**2, x) == pytest.approx(0.49, rel=5e-5)
    assert np.trapezoid(p * x**4, x) == pytest.approx(family.m4 * 0.49**2, rel=1e-4)


@pytest.mark.parametrize("shape", [(12, 30), (30, 12), (8, 8), (16, 4, 3, 3), (64, 4, 3, 3)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_orthogonality_is_an_identity_of_every_draw(shape, dtype):
    for seed in range(5):
        w = init.Orthogonal(math.sqrt(2)).sample(shape, seed, dtype)
        assert weights.orthogonality(w, math.sqrt(2)).ok
        assert not weights.orthogonality(w, 1.0).ok
        n = max(shape[0], init.fans(shape)[0])
        assert weights.mean_square(w) * n / 2 == pytest.approx(1, abs=20 * float(np.finfo(dtype).eps))
    assert not weights.orthogonality(init.HeNormal().sample(shape, 0, dtype), math.sqrt(2)).ok


def without_sign_fix(n, rng):
    return np.linalg.qr(rng.standard_normal((n, n)))[0]


def test_haar_corner_has_its_moments_and_qr_alone_does_not():
    rng = np.random.default_rng(23)
    law = init.Orthogonal()
    corner = [law.sample((8, 8), rng, np.float64)[0, 0] for _ in range(4000)]
    assert all(check.ok for check in haar_checks(np.array(corner), 8, (8, 8)))
    wrong = [without_sign_fix(8, rng)[0, 0] for _ in range(400)]
    assert max(wrong) <= 0  # LAPACK's Householder vectors see to that
    assert haar_checks(np.array(wrong), 8, (8, 8))[0].z < -stats.z_threshold(2)


def test_a_delta_orthogonal_convolution_keeps_every_pixels_norm_and_dirac_every_bit():
    from minires.ops import conv2d_backward, conv2d_forward

    rng = np.random.default_rng(24)
    x = rng.standard_normal((2, 5, 6, 7))
    w = init.DeltaOrthogonal(math.sqrt(2)).sample((8, 5, 3, 3), rng, np.float64)
    y, cache = conv2d_forward(x, w, padding=1)
    eps = np.finfo(float).eps
    before, after = 2 * (x**2).sum(axis=1), (y**2).sum(axis=1)
    assert np.abs(after - before).max() <= 16 * eps * before.max()
    dx, _, _ = conv2d_backward(y, cache)
    assert np.abs(dx - 2 * x).max() <= 16 * eps * np.abs(2 * x).max() * 5
    identity = init.Dirac().sample((5, 5, 3, 3), rng, np.float64)
    assert np.array_equal(conv2d_forward(x, identity, padding=1)[0], x)


def test_an_unknown_kurtosis_is_refused():
    class Odd(init.Normal):
        def kurtosis(self, shape):
            return 2.5

    with pytest.raises(ValueError, match=r"no family with kurtosis 2\.5"):
        weights.family(Odd(), (3, 3))
