"""The layers: each owns its parameters and calls one op of `minires.ops`.

Weights are PyTorch's in name, shape and default of bias and momentum; their default law is He's (`init.HeNormal()`),
biases start at zero. `rng`: a seed or a numpy.random.Generator; None lets the operating system choose a seed.
"""

import math

import numpy as np

from minires import checks, ops
from minires.backend import Array, array_namespace
from minires.checks import Rng, check_groups, check_number, flag, pair, whole
from minires.init import HeNormal, Initializer, by_name
from minires.init.distributions import sample_groups
from minires.nn.layer import Layer, Parameter
from minires.ops.window import Pair, place_window


class _WeightAndBias(Layer):
    """What layers with a weight, and perhaps a bias, share on the way back."""

    def _add_grads(self, dx: Array, dweight: Array, dbias: Array | None) -> Array:
        self.weight.add_grad(dweight)
        if self.bias is not None:
            self.bias.add_grad(dbias)
        return dx


class Conv2d(_WeightAndBias):
    """Convolution of (N, in_channels, H, W); see `ops/conv.py`. weight (out, in, kh, kw), bias (out,) or None."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair | str = 0,
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        weight_init: Initializer = HeNormal(),
        rng: Rng | None = None,
    ) -> None:
        self.in_channels, self.out_channels = (whole("in_channels", in_channels), whole("out_channels", out_channels))
        self.kernel_size, self.stride = pair("kernel_size", kernel_size, 1), pair("stride", stride, 1)
        self.dilation, self.groups = (pair("dilation", dilation, 1), check_groups(groups, in_channels, out_channels))
        self.padding = checks.layer_padding(padding, self.kernel_size, self.dilation)
        shape = (out_channels, in_channels // groups, *self.kernel_size)
        weight = sample_groups(by_name(weight_init), shape, checks.generator(rng), groups=groups)
        self.weight = Parameter(weight, groups)
        self.bias = Parameter(np.zeros(out_channels, np.float32)) if flag("bias", bias) else None

    def _forward(self, x: Array) -> tuple[Array, tuple]:
        bias = None if self.bias is None else self.bias.value
        options = {"stride": self.stride, "padding": self.padding, "dilation": self.dilation, "groups": self.groups}
        return ops.conv2d_forward(x, self.weight.value, bias, **options)

    def _backward(self, dy: Array, cache: tuple) -> Array:
        return self._add_grads(*ops.conv2d_backward(dy, cache))

    def _output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        window = place_window(shape[2:], self.kernel_size, self.stride, self.padding, self.dilation)
        return shape[0], self.out_channels, *window.out


class Linear(_WeightAndBias):
    """y = x @ weight.T + bias of (N, in_features); weight (out, in), bias (out,) or None."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        weight_init: Initializer = HeNormal(),
        rng: Rng | None = None,
    ) -> None:
        self.in_features, self.out_features = (whole("in_features", in_features), whole("out_features", out_features))
        self.weight = Parameter(by_name(weight_init).sample((out_features, in_features), checks.generator(rng)))
        self.bias = Parameter(np.zeros(out_features, np.float32)) if flag("bias", bias) else None

    def _forward(self, x: Array) -> tuple[Array, tuple]:
        return ops.linear_forward(x, self.weight.value, None if self.bias is None else self.bias.value)

    def _backward(self, dy: Array, cache: tuple) -> Array:
        return self._add_grads(*ops.linear_backward(dy, cache))

    def _output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape[0], self.out_features


class BatchNorm2d(_WeightAndBias):
    """Batch normalization of (N, C, H, W) or (N, C); see `ops/batchnorm.py`. weight (gain) and bias (offset) (C,).

    In training the batch's own mean and variance are used, and the running ones follow:
    running = (1 - momentum) * running + momentum * batch, the variance being the unbiased one, as in PyTorch.
    In evaluation the running ones are used.
    """

    buffers = ("running_mean", "running_var")

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        self.num_features, self.eps = whole("num_features", num_features), check_number("eps", eps, 0)
        self.momentum = check_number("momentum", momentum, 0, most=1)
        self.weight = Parameter(np.ones(num_features, np.float32), gain=True)
        self.bias = Parameter(np.zeros(num_features, np.float32))
        self.reset_buffers()

    def reset_buffers(self) -> None:
        xp, like = array_namespace(self.weight.value), self.weight.value
        self.running_mean, self.running_var = xp.zeros_like(like), xp.ones_like(like)

    def _forward(self, x: Array) -> tuple[Array, tuple]:
        statistics = {} if self.training else {"mean": self.running_mean, "var": self.running_var}
        y, cache = ops.batchnorm_forward(x, self.weight.value, self.bias.value, eps=self.eps, **statistics)
        if self.training:
            m = x.size // self.num_features
            unbiased = cache.var * (m / (m - 1))
            self.running_mean = (1 - self.momentum) * self.running_mean + self.momentum * cache.mean
            self.running_var = (1 - self.momentum) * self.running_var + self.momentum * unbiased
        return y, cache

    def _backward(self, dy: Array, cache: tuple) -> Array:
        return self._add_grads(*ops.batchnorm_backward(dy, cache))


class LayerNorm(_WeightAndBias):
    """Layer normalization over the last axes, of size `normalized_shape`; see `ops/layernorm.py`."""

    def __init__(self, normalized_shape: int | tuple[int, ...], eps: float = 1e-5) -> None:
        shape = normalized_shape if isinstance(normalized_shape, tuple | list) else (normalized_shape,)
        self.normalized_shape = tuple(whole("normalized_shape", size) for size in shape)
        self.eps = check_number("eps", eps, 0)
        self.weight = Parameter(np.ones(self.normalized_shape, np.float32), gain=True)
        self.bias = Parameter(np.zeros(self.normalized_shape, np.float32))

    def _forward(self, x: Array) -> tuple[Array, tuple]:
        return ops.layernorm_forward(x, self.weight.value, self.bias.value, eps=self.eps)

    def _backward(self, dy: Array, cache: tuple) -> Array:
        return self._add_grads(*ops.layernorm_backward(dy, cache))


class GroupNorm(_WeightAndBias):
    """Group normalization of (N, num_channels, H, W) in `num_groups` groups of channels; see `ops/groupnorm.py`."""

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5) -> None:
        self.num_channels, self.eps = whole("num_channels", num_channels), check_number("eps", eps, 0)
        self.num_groups = check_groups(num_groups, num_channels, num_channels, "num_groups")
        self.weight = Parameter(np.ones(num_channels, np.float32), gain=True)
        self.bias = Parameter(np.zeros(num_channels, np.float32))

    def _forward(self, x: Array) -> tuple[Array, tuple]:
        return ops.groupnorm_forward(x, self.weight.value, self.bias.value, num_groups=self.num_groups, eps=self.eps)

    def _backward(self, dy: Array, cache: tuple) -> Array:
        return self._add_grads(*ops.groupnorm_backward(dy, cache))


class ReLU(Layer):
    """max(x, 0)."""

    def _forward(self, x: Array) -> tuple[Array, Array]:
        return ops.relu_forward(x)

    def _backward(self, dy: Array, cache: Array) -> Array:
        return ops.relu_backward(dy, cache)


class LeakyReLU(Layer):
    """x where x > 0, else slope * x."""

    def __init__(self, slope: float = 0.01) -> None:
        self.slope = check_number("slope", slope, 0)

    def _forward(self, x: Array) -> tuple[Array, tuple]:
        return ops.leaky_relu_forward(x, self.slope)

    def _backward(self, dy: Array, cache: tuple) -> Array:
        return ops.leaky_relu_backward(dy, cache)


class Tanh(Layer):
    """tanh(x)."""

    def _forward(self, x: Array) -> tuple[Array, Array]:
        return ops.tanh_forward(x)

    def _backward(self, dy: Array, cache: Array) -> Array:
        return ops.tanh_backward(dy, cache)


class Sigmoid(Layer):
    """1 / (1 + exp(-x))."""

    def _forward(self, x: Array) -> tuple[Array, Array]:
        return ops.sigmoid_forward(x)

    def _backward(self, dy: Array, cache: Array) -> Array:
        return ops.sigmoid_backward(dy, cache)


class _Pool(Layer):
    def __init__(
        self, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0, ceil_mode: bool = False
    ) -> None:
        self.kernel_size = pair("kernel_size", kernel_size, 1)
        self.stride = self.kernel_size if stride is None else pair("stride", stride, 1)
        self.padding, self.ceil_mode = pair("padding", padding, 0), flag("ceil_mode", ceil_mode)

    def _output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        window = place_window(shape[2:], self.kernel_size, self.stride, self.padding, ceil=self.ceil_mode)
        return *shape[:2], *window.out


class MaxPool2d(_Pool):
    """The largest value of each window. ceil_mode: see `ops/pooling.py`."""

    def _forward(self, x: Array) -> tuple[Array, tuple]:
        options = {"stride": self.stride, "padding": self.padding, "ceil_mode": self.ceil_mode}
        return ops.max_pool2d_forward(x, self.kernel_size, **options)

    def _backward(self, dy: Array, cache: tuple) -> Array:
        return ops.max_pool2d_backward(dy, cache)


class AvgPool2d(_Pool):
    """The mean of each window. count_include_pad: whether the zeros of the padding count."""

    def __init__(
        self,
        kernel_size: Pair,
        stride: Pair | None = None,
        padding: Pair = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode)
        self.count_include_pad = flag("count_include_pad", count_include_pad)

    def _forward(self, x: Array) -> tuple[Array, tuple]:
        options = {"stride": self.stride, "padding": self.padding, "ceil_mode": self.ceil_mode}
        return ops.avg_pool2d_forward(x, self.kernel_size, **options, count_include_pad=self.count_include_pad)

    def _backward(self, dy: Array, cache: tuple) -> Array:
        return ops.avg_pool2d_backward(dy, cache)


class GlobalAvgPool2d(Layer):
    """(N, C, H, W) -> (N, C): the mean of each channel."""

    def _forward(self, x: Array) -> tuple[Array, tuple]:
        return ops.global_avg_pool2d_forward(x)

    def _backward(self, dy: Array, cache: tuple) -> Array:
        return ops.global_avg_pool2d_backward(dy, cache)

    def _output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return checks.image_size(shape)[:2]


class Dropout(Layer):
    """In training each number is dropped with probability p and the others are divided by 1 - p."""

    def __init__(self, p: float = 0.5, rng: Rng = 0) -> None:
        self.p, self.rng = check_number("p", p, 0, below=1), checks.generator(rng)

    def _forward(self, x: Array) -> tuple[Array, Array | None]:
        return ops.dropout_forward(x, self.p, rng=self.rng) if self.training else (x, None)

    def _backward(self, dy: Array, cache: Array | None) -> Array:
        return dy if cache is None else ops.dropout_backward(dy, cache)


class Flatten(Layer):
    """(N, ...) -> (N, features), in the order of the shape (C, H, W)."""

    def _forward(self, x: Array) -> tuple[Array, tuple[int, ...]]:
        checks.check_arrays(x=x)
        checks.check_batch_shape("x has shape", x.shape)
        return x.reshape(self._output_shape(x.shape)), x.shape

    def _backward(self, dy: Array, cache: tuple[int, ...]) -> Array:
        checks.check_shape("dy", dy, self._output_shape(cache), "the shape of the forward's output")
        return dy.reshape(cache)

    def _output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        n, *rest = checks.check_batch_shape("shape is", shape)
        return n, math.prod(rest)


class Identity(Layer):
    """x: where a layer may stand, and none is wanted."""

    def _forward(self, x: Array) -> tuple[Array, None]:
        return x, None

    def _backward(self, dy: Array, cache: None) -> Array:
        return dy


class _Loss:
    """A loss keeps the cache of its forward, and uses it up in backward."""

    _cache: tuple | None = None

    def _use_up(self) -> tuple:
        if self._cache is None:
            raise ValueError(f"{type(self).__name__}.backward: expected one forward(...) before each backward()")
        cache, self._cache = self._cache, None
        return cache


class SoftmaxCrossEntropy(_Loss):
    """The mean of -log softmax(logits)[label]. It starts the way back: `model.backward(loss.backward())`."""

    def forward(self, logits: Array, labels: Array) -> Array:
        """logits (N, K), labels (N,) -> loss, an array without axes."""
        loss, self._cache = ops.softmax_cross_entropy_forward(logits, labels)
        return loss

    def backward(self, dy: float = 1.0) -> Array:
        """-> dlogits (N, K). ValueError without a forward pass before it."""
        return ops.softmax_cross_entropy_backward(dy, self._use_up())


class MeanSquaredError(_Loss):
    """The mean of (prediction - target)^2."""

    def forward(self, prediction: Array, target: Array) -> Array:
        """prediction and target of one shape -> loss, an array without axes."""
        loss, self._cache = ops.mse_forward(prediction, target)
        return loss

    def backward(self, dy: float = 1.0) -> Array:
        """-> dprediction. ValueError without a forward pass before it."""
        return ops.mse_backward(dy, self._use_up())
