"""The tangent kernel's diagonal: exact for fully connected ReLU networks, close for the others."""

from __future__ import annotations

import math

import numpy as np
import pytest

from minires import comparison, init, nn
from minires.theory import predict, tangent_kernel
from minires.theory.stats import z_threshold

NETWORKS, WIDTH = 100_000, 4


def relu(z):
    return np.maximum(z, 0)


def check(samples, law):
    """A mean of independent values against its expectation, one false alarm in a million for all checks here."""
    error = samples.std(ddof=1) / math.sqrt(len(samples))
    assert abs(samples.mean() - law) <= z_threshold(8) * error, (samples.mean() / law, error / law)


@pytest.mark.parametrize("uniform", [False, True])
def test_a_fully_connected_relu_network_at_width_four(uniform):
    """100,000 networks: T_l = E f^2/s^2 for each of three layers; of f^2 itself the forward law says E f^2."""
    rng = np.random.default_rng(11)
    model = nn.Sequential(
        *(nn.Linear(3, WIDTH, bias=False), nn.ReLU(), nn.Linear(WIDTH, WIDTH, bias=False), nn.ReLU()),
        nn.Linear(WIDTH, 1, bias=False),
    )
    law = init.HeUniform() if uniform else init.HeNormal()
    x = np.array([[0.3, -1.1, 0.7]])
    kernel = tangent_kernel(model, predict(model, x, weight=law), law)

    w1, w2, w3 = (law.sample((NETWORKS * m, n), rng, np.float64).reshape(NETWORKS, m, n) for m, n in SHAPES)
    z1 = w1 @ x[0]
    z2 = np.einsum("nij,nj->ni", w2, relu(z1))
    g2 = w3[:, 0] * (z2 > 0)
    g1 = np.einsum("nij,ni->nj", w2, g2) * (z1 > 0)
    square = {name: (v**2).sum(axis=-1) for name, v in (("a2", relu(z2)), ("g2", g2), ("a1", relu(z1)), ("g1", g1))}
    found = [square["g1"] * (x**2).sum(), square["g2"] * square["a1"], square["a2"]]
    for layer, measured in zip(kernel.layers, found, strict=True):
        check(measured, layer.kernel)


SHAPES = ((WIDTH, 3), (WIDTH, WIDTH), (1, WIDTH))


def test_a_branch_has_its_share_of_the_outputs_square():
    """h + W2 relu(W1 h) under a linear head: the kernels of W2 and W1 are E <w, branch>^2 / s^2, exactly."""
    rng = np.random.default_rng(12)
    n = WIDTH
    h = np.array([0.5, -0.2, 1.0, 0.8])
    first, second, head = (rng.normal(0, math.sqrt(2 / n), (NETWORKS, n, n)) for _ in range(3))
    w = head[:, 0]
    z = first @ h
    branch = np.einsum("nij,nj->ni", second, relu(z))
    q_skip, q_branch = (h**2).mean(), 2 * (h**2).mean()  # He and He: 2 * (1/2) * 2 = 2
    outputs = (2 / n) * n * (q_skip + q_branch)  # E f^2
    law = outputs / (2 / n) * q_branch / (q_branch + q_skip)
    check((w**2).sum(axis=1) * (relu(z) ** 2).sum(axis=1), law)
    check(((np.einsum("nij,ni->nj", second, w) * (z > 0)) ** 2).sum(axis=1) * (h**2).sum(), law)
    check(np.einsum("ni,ni->n", w, h + branch) ** 2, outputs)


def measured_kernel(model, x, draws=4):
    """{path of a layer with weights: |dW|^2 / (N K)} under unit upstreams."""
    rng, found = np.random.default_rng(0), {}
    model.train()
    for _ in range(draws):
        y = model.forward(x)
        model.zero_grad()
        model.backward(rng.standard_normal(y.shape).astype(y.dtype))
        for parameter in (p for p in model.parameters() if p.value.ndim > 1):
            energy, path = (
                np.square(parameter.grad, dtype=float).sum() / y.size / draws,
                parameter.name[: -len(".weight")],
            )
            found[path] = found.get(path, 0.0) + energy
    return found


@pytest.mark.parametrize("network", comparison.NETWORKS)
@pytest.mark.parametrize("law", [init.HeNormal(), init.Uniform(0.05)], ids=["he", "uniform"])
def test_networks_on_digits(network, law):
    """With BatchNorm within 1.5 of what one network has. Without, log T varies by 1.3 between networks (plain): four
    standard deviations are a factor of 100."""
    x = comparison.halves()[1].x_train[:64]
    model = comparison.build(comparison.Case(network, "", law))
    init.initialize(model, law, rng=3)
    kernel = tangent_kernel(model, predict(model, x.shape, weight=None))
    found = measured_kernel(model, x)
    ratio = sum(found[layer.path] for layer in kernel.layers) / sum(layer.kernel for layer in kernel.layers)
    assert kernel.normalized == ("BatchNorm" in network)
    assert 1 / 1.5 < ratio < 1.5 if kernel.normalized else 0.01 < ratio < 100
    norm = math.sqrt(sum(float(np.square(p.value).sum()) for p in model.parameters() if p.value.ndim > 1))
    assert math.sqrt(sum(layer.norm**2 for layer in kernel.layers)) == pytest.approx(norm, rel=1e-5)


def test_no_law_no_kernel():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
    shape = (8, 1, 8, 8)
    assert tangent_kernel(model, predict(model, shape, weight=init.Dirac()), init.Dirac()) is None
    assert tangent_kernel(nn.Sequential(nn.ReLU()), predict(nn.Sequential(nn.ReLU()), shape)) is None


def test_zero_weights_have_a_kernel_of_zero():
    model = nn.resnet(8, width=4, in_channels=1)
    init.initialize(model, init.Zeros())
    kernel = tangent_kernel(model, predict(model, (8, 1, 8, 8), weight=None))
    assert all(layer.kernel == 0 for layer in kernel.layers) and kernel.typical_change == 0


def test_a_model_that_is_itself_a_block():
    """The same T_l as in a chain of this one block; on a map too large for the weight gradient's law."""
    block, shape = nn.BasicBlock(4, 4, batchnorm=False), (2, 4, 64, 64)
    alone, chain = (tangent_kernel(model, predict(model, shape)) for model in (block, nn.Sequential(block)))
    assert [layer.kernel for layer in alone.layers] == [layer.kernel for layer in chain.layers]
