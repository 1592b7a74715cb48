"""One-layer laws against the engine's own passes: z-tests of totals and of every position, 72 geometry x law cases."""

import math

import numpy as np
import pytest

from minires import init, ops
from minires.theory import stats
from minires.theory.laws import activations, pooling
from minires.theory.laws.geometry import ConvGeometry
from tests.theory.reference import batchnorm, convolution
from tests.theory.reference import pooling as reference_pooling
from tests.theory.reference.statistics import laurent_massart, mean_z, wilson_hilferty

# image, kernel, stride, padding, dilation
GEOMETRIES = [
    ((7, 9), (3, 3), (1, 1), (1, 1), (1, 1)),
    ((8, 8), (3, 3), (2, 2), (1, 1), (1, 1)),
    ((9, 7), (3, 3), (3, 3), (1, 1), (1, 1)),
    ((11, 9), (3, 3), (1, 1), (2, 2), (2, 2)),
    ((9, 13), (7, 7), (1, 1), (3, 3), (1, 1)),
    ((12, 10), (7, 7), (2, 2), (3, 3), (1, 1)),
    ((8, 6), (1, 1), (2, 2), (0, 0), (1, 1)),
    ((10, 8), (5, 5), (3, 3), (2, 2), (1, 1)),
    ((9, 9), (3, 1), (1, 2), (1, 0), (1, 1)),
    ((8, 12), (2, 2), (2, 2), (0, 0), (1, 1)),
    ((10, 11), (1, 5), (1, 1), (0, 2), (1, 1)),
    ((13, 8), (3, 5), (2, 1), (0, 3), (2, 1)),
]
LAWS = [
    init.HeNormal(),
    init.HeUniform(),
    init.TruncatedNormal(0.3),
    init.XavierUniform(),
    init.LeCunNormal(),
    init.Orthogonal(),
]
N, C_IN, C_OUT, DRAWS = 2, 3, 4, 30


def arrays(setting, rng):
    """A fixed input with a mean and unequal pixels (the laws hold for any), and an upstream to match."""
    image = setting[0]
    x = rng.standard_normal((N, C_IN, *image)) * rng.uniform(0.5, 2, image) + 0.7
    geometry = ConvGeometry.of(*setting)
    dy = rng.standard_normal((N, C_OUT, *geometry.outputs)) * rng.uniform(0.5, 2, geometry.outputs)
    return x, dy, geometry


def passes(x, w, dy, setting):
    _, _, stride, padding, dilation = setting
    y, cache = ops.conv2d_forward(x, w, stride=stride, padding=padding, dilation=dilation)
    dx, dw, _ = ops.conv2d_backward(dy, cache)
    return y, dx, dw


def standard_scores(setting, law, rng):
    """z-scores of E y^2, E dx^2 (over W) and E dW^2 (over dy), each of the mean over DRAWS draws."""
    x, dy, geometry = arrays(setting, rng)
    shape = (C_OUT, C_IN, *setting[1])
    variance, kurtosis = law.variance(shape), law.kurtosis(shape)
    forward = convolution.conv_forward(x, variance, C_OUT, geometry, kurtosis)
    backward = convolution.conv_backward(dy, variance, C_IN, geometry, kurtosis)
    weight = convolution.conv_weight_gradient(x, 1.0, C_OUT, geometry)
    if isinstance(law, init.Orthogonal):
        rows = convolution.unfolded(x, geometry)
        if rows.shape[1] < C_OUT:  # orthogonal columns: the rows are no Haar frame
            forward = None
        else:
            forward = convolution.orthogonal_forward(rows, variance, C_OUT)
        backward = None
    seen = {"forward": [], "backward": [], "weight": []}
    for _ in range(DRAWS):
        w = law.sample(shape, rng, np.float64)
        y, dx, _ = passes(x, w, dy, setting)
        seen["forward"].append(np.mean(y**2))
        seen["backward"].append(np.mean(dx**2))
        _, _, dw = passes(x, w, rng.standard_normal(dy.shape), setting)
        seen["weight"].append(np.mean(dw**2))
    laws = {"forward": forward, "backward": backward, "weight": weight}
    return {k: np.array([moment.z(m) for m in seen[k]]) for k, moment in laws.items() if moment is not None}


@pytest.fixture(scope="module")
def all_scores():
    rng = np.random.default_rng(40)
    return {(g, str(law)): standard_scores(setting, law, rng) for g, setting in enumerate(GEOMETRIES) for law in LAWS}


def test_totals_obey_their_laws_on_72_cases(all_scores):
    assert len(all_scores) == 72
    means = [z.mean() * math.sqrt(DRAWS) for case in all_scores.values() for z in case.values()]
    assert np.abs(means).max() < stats.z_threshold(len(means))
    assert stats.ks_test(means) > 1e-6  # distributed as they should be, not only small
    assert stats.ks_test(2 * np.array(means)) < 1e-6  # 200 scores show a standard deviation off by 2


def test_single_draws_vary_as_much_as_the_law_says(all_scores):
    by_kind = {}
    for case in all_scores.values():
        for kind, z in case.items():
            by_kind.setdefault(kind, []).append(z)
    for kind, z in by_kind.items():
        squares = np.concatenate(z) ** 2
        assert abs(mean_z(squares, 1.0)) < stats.z_threshold(3), kind


@pytest.mark.parametrize("wrong", ["padding ignored", "fans swapped", "stride ignored backward", "kurtosis ignored"])
def test_a_wrong_law_is_seen(wrong):
    """The same z-test with a law that has a usual mistake in it must fail, on a geometry where it matters."""
    rng = np.random.default_rng(41)
    setting = GEOMETRIES[5] if wrong != "kurtosis ignored" else ((6, 6), (1, 1), (1, 1), (0, 0), (1, 1))
    law = init.HeUniform()
    x, dy, geometry = arrays(setting, rng)
    shape = (C_OUT, C_IN, *setting[1])
    variance = law.variance(shape)
    forward = convolution.conv_forward(x, variance, C_OUT, geometry, law.kurtosis(shape))
    backward = convolution.conv_backward(dy, variance, C_IN, geometry, law.kurtosis(shape))
    mistaken = {
        "padding ignored": forward._replace(mean=forward.mean * geometry.taps / geometry.forward_counts.mean()),
        "fans swapped": forward._replace(mean=forward.mean * C_IN / C_OUT),
        "stride ignored backward": backward._replace(mean=backward.mean * 4),
        "kurtosis ignored": convolution.conv_forward(x[:1, :, :1, :1], variance, C_OUT, ConvGeometry.of((1, 1), 1)),
    }[wrong]
    if wrong == "kurtosis ignored":
        x, dy, setting = x[:1, :, :1, :1], dy[:1, :, :1, :1], ((1, 1), *setting[1:])
    draws = 3000 if wrong == "kurtosis ignored" else 300
    seen = []
    for _ in range(draws):
        y, dx, _ = passes(x, law.sample(shape, rng, np.float64), dy, setting)
        seen.append(mistaken.z(np.mean((dx if "backward" in wrong else y) ** 2)))
    if wrong == "kurtosis ignored":
        assert mean_z(np.array(seen) ** 2, 1.0) < -stats.z_threshold()
    else:
        assert abs(np.mean(seen)) * math.sqrt(draws) > stats.z_threshold()


@pytest.mark.parametrize("setting", GEOMETRIES, ids=str)
def test_every_position_obeys_its_law(setting):
    """Normal weights: y, dx, dW are normal given the rest, so sums of their squares are chi-square, exactly."""
    rng = np.random.default_rng(42)
    x, dy, geometry = arrays(setting, rng)
    shape, draws = (C_OUT, C_IN, *setting[1]), 60
    variance = init.HeNormal().variance(shape)
    sums = [0.0, 0.0, 0.0]
    for _ in range(draws):
        w = init.HeNormal().sample(shape, rng, np.float64)
        y, dx, _ = passes(x, w, dy, setting)
        _, _, dw = passes(x, w, 1.3 * rng.standard_normal(dy.shape), setting)
        sums = [s + np.sum(a**2, axis=axis) for s, a, axis in zip(sums, (y, dx, dw), (1, 1, 0), strict=True)]
    laws = (
        convolution.conv_forward_map(x, variance, geometry),
        convolution.conv_backward_map(dy, variance, geometry),
        convolution.conv_weight_map(x, 1.69, geometry),
    )
    freedoms = (draws * C_OUT, draws * C_IN, draws * C_OUT)
    checks = 12 * 500  # no geometry has more positions
    for total, law, freedom in zip(sums, laws, freedoms, strict=True):
        touched = law > 0
        np.testing.assert_array_equal(total[~touched], 0)  # pixels that no output reads get no gradient, exactly
        z = wilson_hilferty(total[touched] / law[touched], freedom)
        assert np.abs(z).max() < stats.z_threshold(checks)


def test_per_position_scores_are_distributed_as_they_should_be():
    """One position of each quantity from many independent draws of geometry and weights."""
    rng = np.random.default_rng(43)
    z = []
    for repeat in range(25):
        for setting in GEOMETRIES:
            x, _, geometry = arrays(setting, rng)
            shape = (40, C_IN, *setting[1])
            w = init.HeNormal().sample(shape, rng, np.float64)
            y, _ = ops.conv2d_forward(x, w, stride=setting[2], padding=setting[3], dilation=setting[4])
            law = convolution.conv_forward_map(x, init.HeNormal().variance(shape), geometry)
            i = repeat % law[0].size
            z.append(wilson_hilferty((y[0] ** 2).sum(axis=0).ravel()[i] / law[0].ravel()[i], 40))
    assert stats.ks_test(z) > 1e-6
    assert stats.ks_test(np.array(z) + 0.5) < 1e-6


def test_laurent_massart_band_holds_for_a_single_draw():
    rng = np.random.default_rng(44)
    x, _, geometry = arrays(GEOMETRIES[0], rng)
    rows = convolution.unfolded(x, geometry)
    eigenvalues = np.repeat(np.linalg.eigvalsh(rows.T @ rows).clip(0), C_OUT)
    variance = init.HeNormal().variance((C_OUT, C_IN, 3, 3))
    low, high = laurent_massart(variance * eigenvalues)
    for seed in range(200):
        w = init.HeNormal().sample((C_OUT, C_IN, 3, 3), seed, np.float64)
        total = np.sum(ops.conv2d_forward(x, w, padding=1)[0] ** 2)
        assert low < total < high


def test_linear_is_a_convolution_over_one_pixel():
    rng = np.random.default_rng(45)
    x, dy = rng.standard_normal((6, 20)) + 0.3, rng.standard_normal((6, 7))
    one = ConvGeometry.of((1, 1), 1)
    shape = (7, 20)
    variance = init.HeNormal().variance(shape)
    forward = convolution.conv_forward(x[..., None, None], variance, 7, one)
    backward = convolution.conv_backward(dy[..., None, None], variance, 20, one)
    scores = []
    for _ in range(200):
        w = init.HeNormal().sample(shape, rng, np.float64)
        y, cache = ops.linear_forward(x, w)
        dx, _, _ = ops.linear_backward(dy, cache)
        scores.append((forward.z(np.mean(y**2)), backward.z(np.mean(dx**2))))
    assert np.abs(np.mean(scores, axis=0)).max() * math.sqrt(200) < stats.z_threshold(2)


@pytest.mark.parametrize("slope", [0.0, 0.2])
def test_leaky_relu_halves_second_moments_exactly_at_width_three(slope):
    """[EX] at any width: three inputs, two filters, uniform weights, over 20,000 networks."""
    rng = np.random.default_rng(46)
    x = np.array([[1.0, -2.0, 0.5], [0.3, 1.1, -0.7]])
    w = init.HeUniform().sample((20000, 3), rng, np.float64)  # filters of independent networks
    z = x @ w.T
    y, cache = ops.leaky_relu_forward(z, slope)
    dx = ops.leaky_relu_backward(np.ones_like(z), cache)
    law = (1 + slope**2) / 2
    expected = law * init.HeUniform().variance((2, 3)) * np.sum(x**2, axis=1)
    for sample in range(2):
        assert abs(mean_z(y[sample] ** 2, expected[sample])) < stats.z_threshold(4)
        assert abs(mean_z(dx[sample] ** 2, law)) < stats.z_threshold(4)


TABLE = {  # at q = 1: E phi, E phi^2, E phi'^2, E phi^4/(E phi^2)^2 - 1
    "linear": (activations.LINEAR, 0, 1, 1, 2),
    "relu": (activations.RELU, 0.398942, 0.5, 0.5, 5),
    "leaky": (activations.leaky_relu(0.2), 0.319154, 0.52, 0.52, 4.5562),
    "tanh": (activations.TANH, 0, 0.394294, 0.464403, 0.6273),
    "sigmoid": (activations.SIGMOID, 0.5, 0.293379, 0.044836, 0.5289),
}


@pytest.mark.parametrize("name", TABLE)
def test_activation_moments_against_published_values(name):
    activation, mean, second, slope2, fourth = TABLE[name]
    found = activations.activation_moments(activation, 1.0)
    assert float(found.mean) == pytest.approx(mean, abs=6e-7)
    assert float(found.second) == pytest.approx(second, abs=6e-7)
    assert float(found.slope2) == pytest.approx(slope2, abs=6e-7)
    assert float(found.fourth / found.second**2) - 1 == pytest.approx(fourth, abs=6e-5)


@pytest.mark.parametrize("q", [1e-6, 0.3, 5.0, 400.0])
@pytest.mark.parametrize("activation", [activations.TANH, activations.SIGMOID], ids=lambda a: a.name)
def test_quadrature_against_a_fine_riemann_sum(activation, q):
    z = np.linspace(-12, 12, 1_000_001)
    density = np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
    found = activations.activation_moments(activation, q)
    value, slope = activation.value(math.sqrt(q) * z), activation.derivative(math.sqrt(q) * z)
    assert float(found.second) == pytest.approx(np.trapezoid(value**2 * density, z), rel=1e-9)
    assert float(found.slope2) == pytest.approx(np.trapezoid(slope**2 * density, z), rel=1e-6)


@pytest.mark.parametrize(
    "kind",
    [activations.RELU, activations.leaky_relu(0.3), activations.TANH, activations.SIGMOID],
    ids=lambda kind: kind.name,
)
def test_activation_kernel_against_two_dimensional_quadrature(kind):
    q, c = np.array([0.8, 2.0]), 0.6
    covariance = np.array([[0.8 * 0.5, c], [c, 2.0 * 0.9]])
    found = activations.activation_kernel(kind, np.sqrt(q), covariance, terms=60)
    z = np.linspace(-8, 8, 1601)
    weight = np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi) * (z[1] - z[0])
    for i, j in ((0, 0), (0, 1), (1, 1)):
        corr = covariance[i, j] / math.sqrt(q[i] * q[j])
        u = math.sqrt(q[i]) * z
        v = math.sqrt(q[j]) * (corr * z[:, None] + math.sqrt(1 - corr**2) * z)
        expected = weight @ (kind.value(u)[:, None] * kind.value(v)) @ weight
        assert found[i, j] == pytest.approx(expected, rel=2e-5)


@pytest.mark.parametrize("eps", [1e-5, 0.5])
def test_batchnorm_backward_energy_is_a_chi_square(eps):
    rng = np.random.default_rng(47)
    n, draws, gain = 12, 3000, 1.7
    x = rng.standard_normal((n, 1)) * 0.8 + 2
    v = float(x.var())
    law = batchnorm.batchnorm_backward(v, n, eps=eps, weight=gain, upstream=0.49)
    z = []
    for _ in range(draws):
        _, cache = ops.batchnorm_forward(x, np.array([gain]), np.array([0.3]), eps=eps)
        dx, _, _ = ops.batchnorm_backward(0.7 * rng.standard_normal((n, 1)), cache)
        z.append(law.z(float(np.mean(dx**2))))
    z = np.array(z)
    assert abs(z.mean()) * math.sqrt(draws) < stats.z_threshold(4)
    assert abs(mean_z(z**2, 1.0)) < stats.z_threshold(4)
    wrong = law._replace(mean=law.mean * n / (n - 2))  # the two directions that BN cuts, forgotten
    assert abs(np.mean([wrong.z(law.mean)])) * math.sqrt(draws) > stats.z_threshold(4)


def test_weights_before_a_batchnorm_see_the_centered_input():
    rng = np.random.default_rng(48)
    n, fan, filters, eps, draws = 10, 4, 3, 0.4, 4000
    x = np.abs(rng.standard_normal((n, fan)))
    w = init.HeNormal().sample((filters, fan), rng, np.float64)
    gain = np.array([1.0, 0.5, 2.0])
    squares = []
    for _ in range(draws):
        z, linear = ops.linear_forward(x, w)
        _, cache = ops.batchnorm_forward(z, gain, np.zeros(filters), eps=eps)
        dz, _, _ = ops.batchnorm_backward(rng.standard_normal((n, filters)), cache)
        squares.append(ops.linear_backward(dz, linear)[1] ** 2)
    law = batchnorm.batchnorm_weight_map(x, w, eps=eps, gain=gain)
    z = [mean_z(s, m) for s, m in zip(np.reshape(squares, (draws, -1)).T, law.ravel(), strict=True)]
    assert np.abs(z).max() < stats.z_threshold(12)
    uncentered = gain[:, None] ** 2 / (np.var(x @ w.T, axis=0) + eps)[:, None] * np.sum(x**2, axis=0)
    z = [mean_z(s, m) for s, m in zip(np.reshape(squares, (draws, -1)).T, uncentered.ravel(), strict=True)]
    assert np.abs(z).min() > stats.z_threshold(12)


def test_batch_variance_behind_a_convolution_is_exact_for_any_input():
    rng = np.random.default_rng(49)
    setting = GEOMETRIES[1]
    x, _, geometry = arrays(setting, rng)
    shape = (C_OUT, C_IN, 3, 3)
    law = convolution.batch_variance(x, init.HeUniform().variance(shape), geometry)
    seen = []
    for _ in range(400):
        y, _ = ops.conv2d_forward(x, init.HeUniform().sample(shape, rng, np.float64), stride=2, padding=1)
        seen.append(y.var(axis=(0, 2, 3)).mean())
    assert abs(mean_z(seen, law)) < stats.z_threshold()


@pytest.mark.parametrize(
    ("n", "first", "second", "rectified_first", "rectified_second"),
    [
        (4, 1.029375, 1.551329, 1.045756, 1.543785),
        (6, 1.267206, 2.021739, 1.270073, 2.020789),
        (9, 1.485013, 2.562617, 1.485261, 2.562559),
    ],
)
def test_moments_of_a_maximum(n, first, second, rectified_first, rectified_second):
    assert reference_pooling.max_moment(n, 1) == pytest.approx(first, abs=6e-7)
    assert reference_pooling.max_moment(n, 2) == pytest.approx(second, abs=6e-7)
    assert reference_pooling.rectified_max_moment(n, 1) == pytest.approx(rectified_first, abs=6e-6)
    assert reference_pooling.rectified_max_moment(n, 2) == pytest.approx(rectified_second, abs=6e-7)
    assert reference_pooling.max_moment(4, 2) == pytest.approx(1 + math.sqrt(3) / math.pi, rel=1e-12)


def test_maximum_of_variables_that_share_a_part():
    rng = np.random.default_rng(50)
    shared, own = rng.standard_normal((200000, 1)), rng.standard_normal((200000, 4))
    for common in (0.0, 0.35):
        m = (math.sqrt(common) * shared + math.sqrt(1 - common) * own).max(axis=1)
        for rectified in (False, True):
            sample = np.maximum(m, 0) if rectified else m
            moments = pooling.shared_max_moments(4, common, rectified=rectified)
            assert abs(mean_z(sample, moments[0])) < stats.z_threshold(8)
            assert abs(mean_z(sample**2, moments[1])) < stats.z_threshold(8)


def test_pooling_backward_maps():
    geometry = ConvGeometry.of((8, 8), 3, stride=2, padding=1)
    law = reference_pooling.max_pool_backward_map(geometry)
    np.testing.assert_allclose(law[0, :4], [0.25, 0.416667, 0.166667, 0.333333], atol=1e-6)
    np.testing.assert_allclose([law[1, 1], law[2, 2], law[3, 3]], [0.694444, 0.111111, 0.444444], atol=1e-6)
    assert law.sum() == pytest.approx(16)  # every output sends its gradient to one pixel
    rng = np.random.default_rng(51)
    total, draws = np.zeros((8, 8)), 400
    for _ in range(draws):
        _, cache = ops.max_pool2d_forward(rng.standard_normal((1, 20, 8, 8)), 3, stride=2, padding=1)
        total += (ops.max_pool2d_backward(rng.standard_normal((1, 20, 4, 4)), cache) ** 2).sum(axis=(0, 1))
    # dx^2 has a mean of `law` and, being dy^2 of a winner or of several, a variance below 3 law + 3 law^2
    z = (total / (20 * draws) - law) / np.sqrt((3 * law + 3 * law**2) / (20 * draws))
    assert np.abs(z).max() < stats.z_threshold(64)
    average = reference_pooling.avg_pool_backward_map(geometry)
    _, cache = ops.avg_pool2d_forward(np.zeros((1, 1, 8, 8)), 3, stride=2, padding=1)
    each = [ops.avg_pool2d_backward(np.eye(16)[i].reshape(1, 1, 4, 4), cache) ** 2 for i in range(16)]
    np.testing.assert_allclose(average, sum(each)[0, 0], rtol=1e-12)


@pytest.mark.parametrize(("p", "ratio"), [(0.5, 2.4669), (0.2, 1.3667)])
def test_dropout_law(p, ratio):
    assert reference_pooling.dropout_variance_ratio(p) == pytest.approx(ratio, abs=6e-5)
    rng = np.random.default_rng(52)
    x, dy = rng.standard_normal(40000) + 0.4, rng.standard_normal(40000)
    y, cache = ops.dropout_forward(x[None], p, rng=rng)
    dx = ops.dropout_backward(dy[None], cache)
    factor = 1 / (1 - p)
    assert abs(mean_z((y**2 - factor * x**2).ravel(), 0.0)) < stats.z_threshold(2)
    assert abs(mean_z((dx**2 - factor * dy**2).ravel(), 0.0)) < stats.z_threshold(2)


def test_reshaped_orthogonal_convolution_has_its_own_fluctuation():
    """Variance of the forward mean square over Haar weights; the law for independent entries is far off."""
    rng = np.random.default_rng(53)
    rows = rng.standard_normal((30, 6)) @ np.diag([3, 2, 1, 1, 0.5, 0.2])
    law = convolution.orthogonal_forward(rows, 1 / 6, 4)
    seen = np.array([np.mean((rows @ init.Orthogonal().sample((4, 6), rng, np.float64).T) ** 2) for _ in range(4000)])
    z = (seen - law.mean) / (law.mean * math.sqrt(law.relative_variance))
    assert abs(z.mean()) * math.sqrt(len(z)) < stats.z_threshold(3)
    assert abs(mean_z(z**2, 1.0)) < stats.z_threshold(3)
    independent = convolution.quadratic_form(rows, 1 / 6, 4, 120)
    shrunk = z**2 * law.relative_variance / independent.relative_variance
    assert mean_z(shrunk, 1.0) < -stats.z_threshold(3)
