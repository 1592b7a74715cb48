"""One table of calls for every op: odd sizes, every option, no zeros. Several tests read it (gradients, other devices).

`Case.inputs()` gives the arrays of the call, float64 (labels are int64), the same ones each time.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from minires import ops


@dataclass(frozen=True)
class Case:
    """`forward(*inputs) -> (y, cache)` and `backward(dy, cache)` -> the gradient of every float input, in order."""

    name: str
    forward: Callable
    backward: Callable
    draw: Callable[[np.random.Generator], tuple[np.ndarray, ...]]
    differentiable: int = 1
    """How many of the inputs have a gradient: the first ones."""

    def inputs(self) -> tuple[np.ndarray, ...]:
        return self.draw(np.random.default_rng(zlib.crc32(self.name.encode())))

    def gradients(self, dy: Any, cache: Any) -> tuple[Any, ...]:
        """What `backward` returns, always as a tuple."""
        result = self.backward(dy, cache)
        return result if isinstance(result, tuple) else (result,)


def _normal(*shapes):
    return lambda rng: tuple(rng.standard_normal(shape) for shape in shapes)


def _conv(name, x_shape, weight_shape, bias=True, **options):
    shapes = (x_shape, weight_shape) + (((weight_shape[0],),) if bias else ())
    return Case(
        f"conv2d {name}", partial(ops.conv2d_forward, **options), ops.conv2d_backward, _normal(*shapes), len(shapes)
    )


def _batchnorm(name, shape, **options):
    def draw(rng):
        channels = shape[1]
        x = 2.0 + 1.5 * rng.standard_normal(shape)
        return x, 1 + 0.5 * rng.standard_normal(channels), rng.standard_normal(channels)

    return Case(f"batchnorm {name}", partial(ops.batchnorm_forward, **options), ops.batchnorm_backward, draw, 3)


def _frozen_batchnorm(name, shape):
    """Inference: the statistics are given, as inputs that have no gradient."""

    def draw(rng):
        channels = shape[1]
        weight, bias, mean = rng.standard_normal((3, channels))
        return rng.standard_normal(shape), 1 + 0.5 * weight, bias, mean, rng.uniform(0.3, 3.0, channels)

    def forward(x, weight, bias, mean, var):
        return ops.batchnorm_forward(x, weight, bias, mean=mean, var=var)

    return Case(f"batchnorm {name}", forward, ops.batchnorm_backward, draw, 3)


def _layernorm(name, shape, axes, **options):
    def draw(rng):
        x = 2.0 + 1.5 * rng.standard_normal(shape)
        return x, 1 + 0.5 * rng.standard_normal(shape[-axes:]), rng.standard_normal(shape[-axes:])

    return Case(f"layernorm {name}", partial(ops.layernorm_forward, **options), ops.layernorm_backward, draw, 3)


def _groupnorm(name, shape, groups, **options):
    def draw(rng):
        x = 2.0 + 1.5 * rng.standard_normal(shape)
        return x, 1 + 0.5 * rng.standard_normal(shape[1]), rng.standard_normal(shape[1])

    forward = partial(ops.groupnorm_forward, num_groups=groups, **options)
    return Case(f"groupnorm {name}", forward, ops.groupnorm_backward, draw, 3)


def _activation(name, shape=(4, 3, 5, 6), label="", **options):
    forward, backward = getattr(ops, f"{name}_forward"), getattr(ops, f"{name}_backward")
    return Case(f"{name}{label}", partial(forward, **options), backward, _normal(shape))


def _pool(kind, name, shape, kernel_size, **options):
    forward, backward = getattr(ops, f"{kind}_pool2d_forward"), getattr(ops, f"{kind}_pool2d_backward")
    return Case(f"{kind}_pool2d {name}", partial(forward, kernel_size=kernel_size, **options), backward, _normal(shape))


def _dropout(p):
    def forward(x):
        return ops.dropout_forward(x, p, rng=np.random.default_rng(7))

    return Case(f"dropout {p}", forward, ops.dropout_backward, _normal((5, 3, 4, 5)))


def _cross_entropy(batch, classes, scale):
    def draw(rng):
        return scale * rng.standard_normal((batch, classes)), rng.integers(0, classes, batch)

    return Case(
        f"softmax_cross_entropy {batch}x{classes}",
        ops.softmax_cross_entropy_forward,
        ops.softmax_cross_entropy_backward,
        draw,
    )


CASES = [
    _conv("3x3", (4, 3, 5, 6), (4, 3, 3, 3), padding=1),
    _conv("3x3 no bias", (4, 3, 5, 6), (4, 3, 3, 3), bias=False, padding=1),
    _conv("1x1", (4, 5, 3, 4), (3, 5, 1, 1)),
    _conv("1x1 stride 2", (4, 3, 5, 6), (4, 3, 1, 1), stride=2),
    _conv("stride that does not divide", (4, 2, 8, 7), (3, 2, 3, 3), stride=(2, 3), padding=1),
    _conv("dilation", (4, 2, 8, 9), (3, 2, 3, 2), dilation=(2, 3), padding=(1, 2)),
    _conv("kernel 2x3, all unequal", (5, 3, 7, 6), (2, 3, 2, 3), stride=(3, 2), padding=(2, 1), dilation=(1, 2)),
    _conv("kernel 1x4, stride beyond the kernel", (4, 2, 5, 9), (3, 2, 1, 4), stride=(2, 5)),
    _conv("kernel as large as the padded input", (4, 3, 4, 3), (2, 3, 6, 5), padding=1),
    _conv("padding beyond the kernel", (4, 1, 3, 2), (2, 1, 2, 2), padding=3, stride=2),
    _conv("even kernel", (4, 2, 6, 5), (3, 2, 4, 2), padding=1),
    _conv("two groups", (4, 4, 5, 6), (6, 2, 3, 3), padding=1, groups=2, stride=(2, 1)),
    _conv("depthwise", (4, 3, 5, 6), (6, 1, 3, 2), groups=3),
    _conv("same padding", (4, 2, 5, 6), (3, 2, 3, 5), padding="same", dilation=(2, 1)),
    _conv("same padding, even kernel", (4, 2, 5, 6), (3, 2, 2, 4), padding="same"),
    Case("linear", ops.linear_forward, ops.linear_backward, _normal((5, 7), (4, 7), (4,)), 3),
    Case("linear no bias", ops.linear_forward, ops.linear_backward, _normal((5, 7), (4, 7)), 2),
    _batchnorm("4-d", (4, 3, 5, 2)),
    _batchnorm("4-d, large eps", (4, 3, 3, 2), eps=0.3),
    _batchnorm("2-d", (6, 5)),
    _frozen_batchnorm("4-d frozen", (4, 3, 3, 5)),
    _frozen_batchnorm("2-d frozen", (5, 4)),
    _activation("relu"),
    _activation("leaky_relu"),
    _activation("leaky_relu", label=" slope 0.2, 2-d", shape=(5, 7), slope=0.2),
    _activation("tanh"),
    _activation("sigmoid"),
    _pool("max", "2", (4, 3, 6, 4), 2),
    _pool("max", "3 stride 2 padding 1", (4, 2, 7, 6), 3, stride=2, padding=1),
    _pool("max", "2x3 overlapping, unequal", (4, 2, 6, 7), (2, 3), stride=(1, 2), padding=(1, 0)),
    _pool("max", "stride beyond the window", (4, 2, 7, 8), 2, stride=3),
    _pool("avg", "2", (4, 3, 6, 4), 2),
    _pool("avg", "3 stride 2 padding 1", (4, 2, 7, 6), 3, stride=2, padding=1),
    _pool("avg", "2x3 overlapping, unequal", (4, 2, 6, 7), (2, 3), stride=(1, 2), padding=(1, 0)),
    _pool("avg", "stride beyond the window", (4, 2, 7, 8), 2, stride=3),
    _pool("max", "ceil", (4, 2, 6, 8), 3, stride=2, ceil_mode=True),
    _pool("avg", "ceil", (4, 2, 6, 8), (3, 2), stride=(2, 3), padding=1, ceil_mode=True),
    _pool("avg", "of pixels alone", (4, 2, 5, 6), 3, stride=2, padding=1, count_include_pad=False),
    _layernorm("2-d", (5, 7), 1),
    _layernorm("3-d, large eps", (4, 3, 5), 1, eps=0.3),
    _layernorm("3-d, two axes", (4, 3, 5), 2),
    _layernorm("4-d", (4, 3, 5, 6), 3),
    _groupnorm("one group", (4, 3, 5, 2), 1),
    _groupnorm("two groups, large eps", (4, 6, 3, 4), 2, eps=0.3),
    _groupnorm("as many as channels", (4, 3, 5, 6), 3),
    Case("softmax", ops.softmax_forward, ops.softmax_backward, _normal((5, 7))),
    Case("global_avg_pool2d", ops.global_avg_pool2d_forward, ops.global_avg_pool2d_backward, _normal((4, 3, 5, 6))),
    _dropout(0.3),
    _dropout(0.0),
    _cross_entropy(6, 4, 3.0),
    _cross_entropy(4, 11, 0.1),
    Case("mse", ops.mse_forward, ops.mse_backward, _normal((5, 3), (5, 3))),
    Case("mse 4-d", ops.mse_forward, ops.mse_backward, _normal((4, 2, 3, 5), (4, 2, 3, 5))),
]
