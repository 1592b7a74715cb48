"""Three ways to one gradient, for every initializer of the contract, on a plain and on a residual network.

The law (`predict`), the hand-written backward pass, and the derivative of the forward pass alone by the complex step:
Im f(x + ihD)/h with h = 1e-30 has no truncation and no cancellation, so the second and the third agree to rounding,
while the first and the second agree within what chance and the stated allowance permit.
"""

import numpy as np
import pytest

from minires import init, nn
from minires.theory import compare, measure, predict

INITIALIZERS = [
    init.Zeros(),
    init.Constant(0.1),
    init.Normal(0.1),
    init.Uniform(0.2),
    init.TruncatedNormal(0.1),
    init.VarianceScaling(1.5, "fan_avg", "truncated_normal"),
    init.LeCunNormal(),
    init.LeCunUniform(),
    init.XavierNormal(),
    init.XavierUniform(),
    init.HeNormal(),
    init.HeUniform(),
    init.HeNormal(mode="fan_out"),
    init.Orthogonal(2**0.5),
    init.DeltaOrthogonal(2**0.5),
    init.Dirac(),
]
SHAPE = (8, 3, 8, 6)


def plain():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 12, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(144, 144),
        nn.LeakyReLU(0.1),
        nn.Linear(144, 144),
    )


def residual():
    return nn.Sequential(
        nn.Conv2d(3, 12, 3, padding=1, bias=False),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.BasicBlock(12, 12, shortcut="B"),
        nn.BasicBlock(12, 16, 2, shortcut="B"),
        nn.Flatten(),
        nn.Linear(192, 192),
    )


def draw(net, law, seed):
    """The network in float64 with weights of the law; gains and biases that are not 1 and 0."""
    rng = np.random.default_rng(seed)
    init.initialize(net.astype(np.float64), law, init.Zeros(), rng)
    for parameter in net.parameters():
        if parameter.value.ndim == 1:
            parameter.value = parameter.value + 0.1 * rng.standard_normal(parameter.value.shape)
    return rng


def complex_step(net, x, dx, directions, v):
    """d<v, net(x)> along dx and along the directions of the parameters."""
    h = 1e-30
    net.astype(np.complex128)
    real = [p.value for p in net.parameters()]
    for parameter, value, direction in zip(net.parameters(), real, directions, strict=True):
        parameter.value = value + 1j * h * direction
    y = net.forward(x + 1j * h * dx)
    for parameter, value in zip(net.parameters(), real, strict=True):
        parameter.value = value
    net.astype(np.float64)
    return float(np.sum(v * y.imag)) / h


@pytest.mark.filterwarnings("ignore::numpy.exceptions.ComplexWarning")
@pytest.mark.parametrize("law", INITIALIZERS, ids=str)
@pytest.mark.parametrize("make", [plain, residual])
def test_backward_pass_is_the_derivative_of_the_forward_pass(make, law):
    net = make()
    rng = draw(net, law, 90)
    x = rng.standard_normal(SHAPE)
    v = rng.standard_normal(net.forward(x).shape)
    net.zero_grad()
    net.forward(x)
    gx = net.backward(v)
    grads = [p.grad for p in net.parameters()]
    for _ in range(2):
        dx = rng.standard_normal(SHAPE)
        directions = [rng.standard_normal(g.shape) for g in grads]
        terms = [gx * dx, *(g * d for g, d in zip(grads, directions, strict=True))]
        analytic, size = sum(float(t.sum()) for t in terms), sum(float(np.abs(t).sum()) for t in terms)
        assert abs(complex_step(net, x, dx, directions, v) - analytic) <= 1e-12 * size


@pytest.mark.parametrize("law", INITIALIZERS, ids=str)
@pytest.mark.parametrize("make", [plain, residual])
def test_backward_pass_obeys_the_law(make, law):
    """Second moments of forward signal, gradients and weight gradients, every row."""
    predicted = predict(make(), SHAPE, weight=law)
    report = compare(predicted, measure(make(), SHAPE, seeds=24, weight=law, rng=91))
    assert report.ok, report.verdict
    fixed = isinstance(law, init.Dirac) or (isinstance(law, init.Constant) and law.c)
    assert bool(report.unlawful) == bool(fixed)  # weights that are not random have no law, and say so
    if not fixed:
        judged = {c.quantity for c in report.comparisons}
        assert judged == {"forward", "batch_variance", "gradient_in", "gradient_out", "weight_gradient"}


@pytest.mark.filterwarnings("ignore::numpy.exceptions.ComplexWarning")
def test_the_pair_of_tests_can_fail():
    """A backward that forgets the ReLU's gate disagrees with the law and with the complex step."""

    class Ungated(nn.ReLU):
        _forward = nn.ReLU._forward

        def _backward(self, dy, cache):
            return dy

    net = plain()
    setattr(net, "3", Ungated())
    report = compare(predict(net, SHAPE), measure(net, SHAPE, seeds=24))
    assert report.first_departure == "3"
    rng = draw(net, init.HeNormal(), 92)
    x, dx = rng.standard_normal(SHAPE), rng.standard_normal(SHAPE)
    v = rng.standard_normal(net.forward(x).shape)
    net.forward(x)
    gx = net.backward(v)
    zero = [np.zeros_like(p.value) for p in net.parameters()]
    derivative = complex_step(net, x, dx, zero, v)
    assert abs(derivative - float((gx * dx).sum())) > 1e-3 * float(np.abs(gx * dx).sum())
