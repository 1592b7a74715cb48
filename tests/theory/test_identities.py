"""[ID] laws: equal in every draw, up to 16 eps of the summed magnitudes of their terms. No statistics here."""

import numpy as np
import pytest

from minires import init, nn, ops
from minires.theory.measure import mean_square

DTYPES = [np.float32, np.float64]


def agree(a_terms, b_terms, dtype):
    """Two sums of products agree to 16 eps of the summed magnitudes of the products."""
    magnitude = sum(float(np.abs(t).sum(dtype=float)) for t in (*a_terms, *b_terms))
    a, b = (sum(float(t.sum(dtype=float)) for t in terms) for terms in (a_terms, b_terms))
    return abs(a - b) <= 16 * float(np.finfo(dtype).eps) * magnitude


def homogeneous_net(bias, seed):
    """Conv, (leaky) ReLU, pooling, stride: everything that commutes with multiplication by a positive number."""
    net = nn.Sequential(
        nn.Conv2d(3, 5, 3, padding=1, bias=bias),
        nn.LeakyReLU(0.2),
        nn.MaxPool2d(2),
        nn.Conv2d(5, 6, 3, stride=2, padding=1, bias=bias),
        nn.ReLU(),
        nn.AvgPool2d(2, stride=1),
        nn.Conv2d(6, 4, 1, bias=bias),
        nn.ReLU(),
        nn.GlobalAvgPool2d(),
        nn.Linear(4, 5, bias=bias),
    )
    init.initialize(net, init.HeNormal(), init.Normal(0.3), rng=seed)
    return net


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_euler_flow_is_conserved_through_a_homogeneous_network(seed, bias, dtype):
    """<W, dW> of a layer is <z - b, dz>; it and <b, db> of the next layer add up to <W, dW> of the next."""
    net = homogeneous_net(bias, seed).astype(dtype)
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((4, 3, 11, 9)).astype(dtype)
    labels = rng.integers(0, 5, 4)
    loss = nn.SoftmaxCrossEntropy()
    flows = {}

    def note(layer, path, direction, before, after):
        if direction == "backward" and hasattr(layer, "weight"):
            flows[path] = before

    with net.observe(note):
        logits = net.forward(x)
        loss.forward(logits, labels)
        dlogits = loss.backward()
        net.backward(dlogits)
    layers = [layer for _, layer in net.children() if hasattr(layer, "weight")]
    weight_terms = [layer.weight.value * layer.weight.grad for layer in layers]
    for number, terms in enumerate(weight_terms):
        after = weight_terms[number + 1] if number + 1 < len(layers) else logits * dlogits
        if bias:
            shift = layers[number].bias.value * layers[number].bias.grad
            assert agree([terms, shift], [after], dtype)
        else:
            assert agree([terms], [after], dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(4))
def test_residual_stream_conserves_the_flow(seed, dtype):
    """Blocks without BatchNorm or bias: <h, dL/dh> is the same at every block's input and output."""
    blocks = [nn.BasicBlock(6, 6, shortcut="A", batchnorm=False, branch_scale=0.5) for _ in range(4)]
    net = nn.Sequential(*blocks)
    init.initialize(net, init.HeUniform(), init.Zeros(), rng=seed)
    net.astype(dtype)
    rng = np.random.default_rng(seed)
    h = {}

    def note(layer, path, direction, before, after):
        if direction == "forward":
            h[path] = before
        elif isinstance(layer, nn.BasicBlock):
            h[path] = h[path] * after

    with net.observe(note):
        y = net.forward(rng.standard_normal((3, 6, 7, 5)).astype(dtype))
        dy = rng.standard_normal(y.shape).astype(dtype)
        net.backward(dy)
    for path in "0123":
        assert agree([h[path]], [y * dy], dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation"),
    [(3, 1, 1, 1), (3, 2, 1, 1), (7, 3, 3, 1), (3, 1, 2, 2), ((1, 5), 2, (0, 3), 1)],
)
def test_convolution_and_its_backward_are_adjoint(kernel, stride, padding, dilation, dtype):
    """<conv(x), v> = <x, conv^T v> = <W, dW(x, v)>."""
    rng = np.random.default_rng(60)
    kh, kw = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    x = rng.standard_normal((2, 3, 11, 13)).astype(dtype)
    w = rng.standard_normal((4, 3, kh, kw)).astype(dtype)
    y, cache = ops.conv2d_forward(x, w, stride=stride, padding=padding, dilation=dilation)
    v = rng.standard_normal(y.shape).astype(dtype)
    dx, dw, _ = ops.conv2d_backward(v, cache)
    assert agree([y * v], [x * dx], dtype)
    assert agree([y * v], [w * dw], dtype)
    assert not agree([y * v], [1.001 * x * dx], np.float64)  # the test can fail


def batchnorm_pass(eps, dtype, seed):
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((6, 4, 5, 3)) * [[[0.1]], [[1]], [[3]], [[0.5]]] + 2).astype(dtype)
    gain, shift = rng.uniform(0.5, 2, 4).astype(dtype), rng.standard_normal(4).astype(dtype)
    y, cache = ops.batchnorm_forward(x, gain, shift, eps=eps)
    dy = rng.standard_normal(x.shape).astype(dtype)
    return x, gain, shift, y, cache, dy, *ops.batchnorm_backward(dy, cache)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("eps", [1e-5, 0.3])
@pytest.mark.parametrize("seed", range(4))
def test_batchnorm_identities(seed, eps, dtype):
    x, gain, shift, y, cache, dy, dx, dgain, _ = batchnorm_pass(eps, dtype, seed)
    axes, m, unit = (0, 2, 3), x.size // x.shape[1], 16 * float(np.finfo(dtype).eps)
    v, mean = np.asarray(cache.var, float), np.asarray(cache.mean, float)
    inv = 1 / np.sqrt(v + eps)
    xhat = (x - mean[:, None, None]) * inv[:, None, None]
    magnitude = np.abs(y).sum(axis=axes, dtype=float) + m * np.abs(shift)
    assert np.all(np.abs(y.sum(axis=axes, dtype=float) - m * shift) <= unit * magnitude)
    r = v / (v + eps)
    variance = np.square(y - shift[:, None, None], dtype=float).mean(axis=axes)
    scale = (np.abs(gain) * inv) ** 2 * (np.square(x, dtype=float).mean(axis=axes) + mean**2)
    assert np.all(np.abs(variance - gain**2 * r) <= unit * scale)
    # the gradient is projected: its sum vanishes, its sum against xhat does but for eps
    terms = np.abs(gain * inv) * (
        np.abs(dy).sum(axis=axes, dtype=float) * 2 + np.abs(xhat).sum(axis=axes) * np.abs(dgain) / m
    )
    assert np.all(np.abs(dx.sum(axis=axes, dtype=float)) <= unit * terms)
    left = (dx * xhat).sum(axis=axes, dtype=float)
    right = gain * eps * (v + eps) ** -1.5 * dgain
    along = np.abs(gain * inv) * (np.abs(dy * xhat).sum(axis=axes, dtype=float) * 2 + np.abs(xhat).sum(axis=axes))
    assert np.all(np.abs(left - right) <= unit * along)


@pytest.mark.parametrize("eps", [1e-5, 0.3])
def test_euler_with_batchnorm_per_channel(eps):
    """<W_o, dL/dW_o> = eps/(v_o + eps) gain_o dL/dgain_o; and a bias before BatchNorm has no gradient."""
    rng = np.random.default_rng(61)
    conv, norm = nn.Conv2d(3, 5, 3, stride=2, padding=1, rng=1), nn.BatchNorm2d(5, eps=eps)
    net = nn.Sequential(conv, norm, nn.Tanh()).astype(np.float64)
    norm.weight.value = rng.uniform(0.5, 2, 5)
    norm.bias.value = rng.standard_normal(5)
    kept = {}
    with net.observe(lambda layer, path, direction, a, b: kept.setdefault((path, direction), (a, b))):
        y = net.forward(rng.standard_normal((6, 3, 9, 8)))
        net.backward(rng.standard_normal(y.shape))
    z, dz = kept["0", "forward"][1], kept["0", "backward"][0]
    left = (conv.weight.value * conv.weight.grad).sum(axis=(1, 2, 3))
    right = eps / (z.var(axis=(0, 2, 3)) + eps) * norm.weight.value * norm.weight.grad
    eps64 = float(np.finfo(float).eps)
    magnitude = np.abs(z * dz).sum(axis=(0, 2, 3)) + np.abs(conv.weight.value * conv.weight.grad).sum(axis=(1, 2, 3))
    assert np.all(np.abs(left - right) <= 16 * eps64 * magnitude)
    assert np.all(np.abs(conv.bias.grad) <= 16 * eps64 * np.abs(dz).sum(axis=(0, 2, 3)))
    if eps == 0.3:  # both sides are of order one there, so the identity is no 0 = 0
        assert np.abs(right).min() > 1e-3 * magnitude.max()


def test_scale_of_the_weights_before_batchnorm_only_moves_eps():
    """BN_eps(c W) = BN_{eps/c^2}(W), and the gradient at c W, times c, is that at W."""
    rng = np.random.default_rng(62)
    x, upstream, c = rng.standard_normal((5, 4)), rng.standard_normal((5, 3)), 3.7
    grads, outputs = [], []
    for scale in (1.0, c):
        net = nn.Sequential(nn.Linear(4, 3, bias=False, rng=5), nn.BatchNorm2d(3, eps=0.2 * scale**2)).astype(
            np.float64
        )
        net.layers[0].weight.value = net.layers[0].weight.value * scale
        outputs.append(net.forward(x))
        net.backward(upstream)
        grads.append(net.layers[0].weight.grad * scale)
    assert np.abs(outputs[0] - outputs[1]).max() <= 16 * 2.3e-16 * 10
    assert np.abs(grads[0] - grads[1]).max() <= 16 * 2.3e-16 * np.abs(x).sum() * np.abs(upstream).max()


def test_lsuv_needs_one_division_for_a_linear_layer():
    net = nn.Sequential(nn.Linear(30, 20, bias=False, rng=2)).astype(np.float64)
    x = np.random.default_rng(63).standard_normal((50, 30)) * 3
    init.lsuv(net, x, passes=1)
    assert np.var(net.forward(x)) == pytest.approx(1, abs=1e-14)


def test_pooling_keeps_or_divides_the_gradients_energy():
    rng = np.random.default_rng(64)
    x, dy = rng.standard_normal((3, 4, 8, 6)), rng.standard_normal((3, 4, 4, 3))
    _, cache = ops.max_pool2d_forward(x, 2)
    assert np.sum(ops.max_pool2d_backward(dy, cache) ** 2) == pytest.approx(np.sum(dy**2), rel=1e-14)
    _, cache = ops.avg_pool2d_forward(x, 2)
    assert np.sum(ops.avg_pool2d_backward(dy, cache) ** 2) == pytest.approx(np.sum(dy**2) / 4, rel=1e-14)
    _, cache = ops.global_avg_pool2d_forward(x)
    upstream = rng.standard_normal((3, 4))
    spread = ops.global_avg_pool2d_backward(upstream, cache)
    assert np.sum(spread**2) == pytest.approx(np.sum(upstream**2) / 48, rel=1e-14)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.Sigmoid])
def test_constant_weights_leave_all_units_alike(activation):
    """Symmetry: the rows of dW1 are copies, the columns of dW2 too; zeros let nothing but the last bias learn."""
    rng = np.random.default_rng(65)
    net = nn.Sequential(nn.Linear(5, 4), activation(), nn.Linear(4, 3)).astype(np.float64)
    x, labels = rng.standard_normal((8, 5)), rng.integers(0, 3, 8)
    for law in (init.Constant(0.3), init.Zeros()):
        init.initialize(net, law)
        net.zero_grad()
        loss = nn.SoftmaxCrossEntropy()
        value = loss.forward(net.forward(x), labels)
        net.backward(loss.backward())
        first, second = net.layers[0].weight.grad, net.layers[2].weight.grad
        assert np.array_equal(first, np.tile(first[0], (4, 1)))
        assert np.array_equal(second, np.tile(second[:, :1], (1, 4)))
        if isinstance(law, init.Zeros):
            assert float(value) == pytest.approx(np.log(3), rel=1e-15)
            assert mean_square(first) == 0
            if activation is not nn.Sigmoid:  # sigmoid(0) = 1/2 lets the head learn, alike for all units
                assert mean_square(second) == 0
            assert mean_square(net.layers[2].bias.grad) > 0
