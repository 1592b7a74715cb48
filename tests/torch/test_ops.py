"""Every op against PyTorch: forward and all gradients, on 200 random configurations an op and dtype."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
F = torch.nn.functional

from minires import ops  # noqa: E402
from tests.ops.geometry import convolutions, poolings  # noqa: E402
from tests.torch.compare import assert_op_equals_torch  # noqa: E402

both_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])
many = settings(max_examples=200)
seeds = st.integers(0, 2**32 - 1)


def normal(rng, dtype, *shapes):
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


@both_dtypes
@many
@given(convolutions(), st.booleans(), seeds)
def test_conv2d(dtype, convolution, bias, seed):
    x_shape, weight_shape, options = convolution
    rng = np.random.default_rng(seed)
    inputs = normal(rng, dtype, x_shape, weight_shape, *([weight_shape[:1]] if bias else []))
    assert_op_equals_torch(
        lambda *arrays: ops.conv2d_forward(*arrays, **options),
        ops.conv2d_backward,
        lambda *tensors: F.conv2d(*tensors, **options),
        inputs,
        rng,
    )


@both_dtypes
@many
@given(convolutions(), seeds)
def test_im2col_and_col2im(dtype, convolution, seed):
    """Columns: PyTorch's unfold; col2im is fold."""
    x_shape, weight_shape, options = convolution
    rng = np.random.default_rng(seed)
    (x,) = normal(rng, dtype, x_shape)
    kernel = weight_shape[2:]
    cols = ops.im2col(x, kernel, **options)
    unfolded = F.unfold(torch.tensor(x), kernel, **options)  # (N, C kh kw, L)
    assert np.array_equal(cols, unfolded.numpy())

    cols = rng.standard_normal(cols.shape).astype(dtype)
    folded = F.fold(torch.tensor(cols), x_shape[2:], kernel, **options).numpy()
    got = ops.col2im(cols, x_shape, kernel, **options)
    assert got.dtype == dtype and got.shape == x_shape
    np.testing.assert_allclose(got, folded, rtol=0, atol={"float32": 1e-4, "float64": 1e-10}[dtype])


@both_dtypes
@many
@given(*[st.integers(1, 9)] * 3, st.booleans(), seeds)
def test_linear(dtype, batch, inputs, outputs, bias, seed):
    rng = np.random.default_rng(seed)
    arrays = normal(rng, dtype, (batch, inputs), (outputs, inputs), *([(outputs,)] if bias else []))
    assert_op_equals_torch(ops.linear_forward, ops.linear_backward, F.linear, arrays, rng)


@st.composite
def batchnorm_shapes(draw):
    """(N, C) or (N, C, H, W) with at least 8 values a channel, so that float32 is well conditioned."""
    channels = draw(st.integers(1, 5))
    if draw(st.booleans()):
        return (draw(st.integers(8, 20)), channels)
    height, width = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    return (draw(st.integers(max(2, -(-8 // (height * width))), 12)), channels, height, width)


@both_dtypes
@many
@given(batchnorm_shapes(), st.sampled_from([1e-5, 1e-3, 0.5]), seeds)
def test_batchnorm_in_training(dtype, shape, eps, seed):
    rng = np.random.default_rng(seed)
    x, weight, bias = normal(rng, dtype, shape, shape[1], shape[1])
    assert_op_equals_torch(
        lambda *arrays: ops.batchnorm_forward(*arrays, eps=eps),
        ops.batchnorm_backward,
        lambda x, weight, bias: F.batch_norm(x, None, None, weight, bias, training=True, eps=eps),
        [2 * x + 1, weight, bias],
        rng,
    )


@both_dtypes
@many
@given(batchnorm_shapes(), st.sampled_from([1e-5, 1e-3, 0.5]), seeds)
def test_batchnorm_at_inference(dtype, shape, eps, seed):
    rng = np.random.default_rng(seed)
    x, weight, bias, mean = normal(rng, dtype, shape, shape[1], shape[1], shape[1])
    var = rng.uniform(0.2, 3.0, shape[1]).astype(dtype)
    assert_op_equals_torch(
        lambda *arrays: ops.batchnorm_forward(*arrays, eps=eps, mean=mean, var=var),
        ops.batchnorm_backward,
        lambda x, weight, bias: F.batch_norm(
            x, torch.tensor(mean), torch.tensor(var), weight, bias, training=False, eps=eps
        ),
        [x, weight, bias],
        rng,
    )


@st.composite
def grouped_convolutions(draw):
    """(x shape, weight shape, options) with 1 to 4 groups; half of them with padding "same"."""
    groups, inputs, outputs = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    kernel, dilation = draw(st.tuples(st.integers(1, 4), st.integers(1, 4))), draw(st.integers(1, 2))
    same = draw(st.booleans())
    padding = "same" if same else draw(st.integers(0, 2))
    stride = 1 if same else draw(st.integers(1, 3))
    size = [dilation * (k - 1) + 1 + draw(st.integers(0, 4)) for k in kernel]
    x_shape = (draw(st.integers(1, 3)), groups * inputs, *size)
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return x_shape, (groups * outputs, inputs, *kernel), options


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@both_dtypes
@many
@given(grouped_convolutions(), seeds)
def test_conv2d_in_groups_and_with_same_padding(dtype, convolution, seed):
    x_shape, weight_shape, options = convolution
    rng = np.random.default_rng(seed)
    assert_op_equals_torch(
        lambda *arrays: ops.conv2d_forward(*arrays, **options),
        ops.conv2d_backward,
        lambda *tensors: F.conv2d(*tensors, **options),
        normal(rng, dtype, x_shape, weight_shape, weight_shape[:1]),
        rng,
    )


@both_dtypes
@many
@given(st.lists(st.integers(2, 6), min_size=2, max_size=4), st.integers(1, 3), st.sampled_from([1e-5, 0.5]), seeds)
def test_layernorm(dtype, shape, axes, eps, seed):
    """With few features and a small eps, dx is the small rest of large terms: float32 has no digits of it."""
    eps = 0.5 if dtype == "float32" else eps
    rng, axes = np.random.default_rng(seed), min(axes, len(shape) - 1)
    assert_op_equals_torch(
        lambda *arrays: ops.layernorm_forward(*arrays, eps=eps),
        ops.layernorm_backward,
        lambda x, weight, bias: F.layer_norm(x, weight.shape, weight, bias, eps),
        normal(rng, dtype, shape, shape[-axes:], shape[-axes:]),
        rng,
    )


@both_dtypes
@many
@given(st.integers(1, 4), st.integers(1, 3), st.tuples(*[st.integers(2, 5)] * 3), st.sampled_from([1e-5, 0.5]), seeds)
def test_groupnorm(dtype, groups, each, sizes, eps, seed):
    eps = 0.5 if dtype == "float32" else eps  # as above
    rng, (n, h, w), channels = np.random.default_rng(seed), sizes, groups * each
    assert_op_equals_torch(
        lambda *arrays: ops.groupnorm_forward(*arrays, num_groups=groups, eps=eps),
        ops.groupnorm_backward,
        lambda x, weight, bias: F.group_norm(x, groups, weight, bias, eps),
        normal(rng, dtype, (n, channels, h, w), (channels,), (channels,)),
        rng,
    )


@both_dtypes
@many
@given(st.tuples(st.integers(1, 6), st.integers(1, 9)), st.sampled_from([1.0, 100.0]), seeds)
def test_softmax(dtype, shape, scale, seed):
    rng = np.random.default_rng(seed)
    x = [scale * array for array in normal(rng, dtype, shape)]
    assert_op_equals_torch(ops.softmax_forward, ops.softmax_backward, lambda x: F.softmax(x, 1), x, rng)


@both_dtypes
@many
@given(poolings(), st.booleans(), seeds)
def test_pools_with_ceil_mode_and_counts_without_padding(dtype, pooling, include, seed):
    x_shape, kernel, options = pooling
    rng = np.random.default_rng(seed)
    options = {**options, "ceil_mode": True}
    x = normal(rng, dtype, x_shape)
    assert_op_equals_torch(
        lambda x: ops.max_pool2d_forward(x, kernel, **options),
        ops.max_pool2d_backward,
        lambda x: F.max_pool2d(x, kernel, **options),
        x,
        rng,
    )
    options["count_include_pad"] = include
    assert_op_equals_torch(
        lambda x: ops.avg_pool2d_forward(x, kernel, **options),
        ops.avg_pool2d_backward,
        lambda x: F.avg_pool2d(x, kernel, **options),
        x,
        rng,
    )


shapes = st.lists(st.integers(1, 6), min_size=1, max_size=4).map(tuple)


@both_dtypes
@many
@given(shapes, st.sampled_from(["relu", "tanh", "sigmoid"]), st.sampled_from([1.0, 30.0]), seeds)
def test_activations(dtype, shape, name, scale, seed):
    rng = np.random.default_rng(seed)
    (x,) = normal(rng, dtype, shape)
    forward, backward = getattr(ops, f"{name}_forward"), getattr(ops, f"{name}_backward")
    assert_op_equals_torch(forward, backward, getattr(torch, name), [scale * x], rng)


@both_dtypes
@many
@given(shapes, st.floats(0, 0.9), seeds)
def test_leaky_relu(dtype, shape, slope, seed):
    rng = np.random.default_rng(seed)
    assert_op_equals_torch(
        lambda x: ops.leaky_relu_forward(x, slope),
        ops.leaky_relu_backward,
        lambda x: F.leaky_relu(x, slope),
        normal(rng, dtype, shape),
        rng,
    )


@both_dtypes
@many
@given(poolings(), seeds)
def test_max_pool2d(dtype, pooling, seed):
    x_shape, kernel, options = pooling
    rng = np.random.default_rng(seed)
    assert_op_equals_torch(
        lambda x: ops.max_pool2d_forward(x, kernel, **options),
        ops.max_pool2d_backward,
        lambda x: F.max_pool2d(x, kernel, **options),
        normal(rng, dtype, x_shape),
        rng,
    )


@many
@given(poolings(), seeds)
def test_max_pool2d_with_ties(pooling, seed):
    """Few distinct values: the first maximum of a window gets the gradient, in PyTorch as here."""
    x_shape, kernel, options = pooling
    rng = np.random.default_rng(seed)
    assert_op_equals_torch(
        lambda x: ops.max_pool2d_forward(x, kernel, **options),
        ops.max_pool2d_backward,
        lambda x: F.max_pool2d(x, kernel, **options),
        [rng.integers(-1, 2, x_shape).astype("float64")],
        rng,
    )


@both_dtypes
@many
@given(poolings(), seeds)
def test_avg_pool2d(dtype, pooling, seed):
    x_shape, kernel, options = pooling
    rng = np.random.default_rng(seed)
    assert_op_equals_torch(
        lambda x: ops.avg_pool2d_forward(x, kernel, **options),
        ops.avg_pool2d_backward,
        lambda x: F.avg_pool2d(x, kernel, **options),
        normal(rng, dtype, x_shape),
        rng,
    )


@both_dtypes
@many
@given(st.tuples(*[st.integers(1, 6)] * 4), seeds)
def test_global_avg_pool2d(dtype, shape, seed):
    rng = np.random.default_rng(seed)
    assert_op_equals_torch(
        ops.global_avg_pool2d_forward,
        ops.global_avg_pool2d_backward,
        lambda x: x.mean((2, 3)),
        normal(rng, dtype, shape),
        rng,
    )


@both_dtypes
@many
@given(shapes, st.floats(0, 0.95), seeds)
def test_dropout_keeps_and_scales_as_pytorch_does(dtype, shape, p, seed):
    """The draws differ by nature; given the mask that minires drew, PyTorch's formula is x * mask / (1 - p)."""
    rng = np.random.default_rng(seed)
    (x,) = normal(rng, dtype, shape)
    mask = torch.tensor(ops.dropout_forward(np.ones_like(x), p, rng=np.random.default_rng(seed))[0] != 0)
    assert_op_equals_torch(
        lambda x: ops.dropout_forward(x, p, rng=np.random.default_rng(seed)),
        ops.dropout_backward,
        lambda x: x * mask / (1 - p),
        [x],
        rng,
    )


@both_dtypes
@many
@given(st.integers(1, 9), st.integers(1, 12), st.sampled_from([0.1, 3.0, 1e4]), seeds)
def test_softmax_cross_entropy(dtype, batch, classes, scale, seed):
    rng = np.random.default_rng(seed)
    (logits,) = normal(rng, dtype, (batch, classes))
    assert_op_equals_torch(
        ops.softmax_cross_entropy_forward,
        ops.softmax_cross_entropy_backward,
        F.cross_entropy,
        [np.asarray(scale * logits, dtype)],
        rng,
        constants=[rng.integers(0, classes, batch)],
    )


@both_dtypes
@many
@given(shapes, seeds)
def test_mse(dtype, shape, seed):
    rng = np.random.default_rng(seed)
    prediction, target = normal(rng, dtype, shape, shape)
    assert_op_equals_torch(
        lambda x: ops.mse_forward(x, target),
        ops.mse_backward,
        lambda x: F.mse_loss(x, torch.tensor(target)),
        [prediction],
        rng,
    )
