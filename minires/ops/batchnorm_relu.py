"""BatchNorm, then perhaps a sum, then relu, in one pass over memory: y = relu(BatchNorm(x) + shortcut).

This is how nearly every BatchNorm of a residual network goes on. One op after the other, each of the three reads and
writes an array of the size of x; here a piece of BatchNorm's output is added to and cut off while it is still in the
processor's cache. The formulas are those of `batchnorm.py` and `activation.py`, the order of the operations on every
number is the same, and so are the bits of all results.

Backward. With g for the gradient at the relu's input, which is dy where y > 0 and else 0: BatchNorm's backward is
given g in place of dy, and at the sum g goes to both sides, so dshortcut = g.
"""

from __future__ import annotations

from typing import Any

from minires.backend import Array
from minires.checks import check_arrays, check_shape, check_upstream
from minires.ops.activation import gate, rectify
from minires.ops.batchnorm import BatchNormCache, batchnorm_backward, batchnorm_forward, check_channels
from minires.ops.channels import rows
from minires.ops.layout import channels_last_memory


def batchnorm_relu_forward(
    x: Array, weight: Array, bias: Array, shortcut: Array | None = None, **options: Any
) -> tuple[Array, tuple[BatchNormCache, Array]]:
    """x (N, C, H, W) or (N, C), shortcut like x or None -> y, caches of batchnorm and of relu; options as there."""
    xp = check_arrays({"shortcut": shortcut}, x=x)
    check_channels(x)
    if shortcut is not None:
        check_shape("shortcut", shortcut, x.shape, "the shape of x")
        added = rows(channels_last_memory(xp, shortcut))

    def finish(part: slice, y: Array) -> None:
        if shortcut is not None:
            y += added[part]
        rectify(xp, y, y)

    y, cache = batchnorm_forward(x, weight, bias, **options, finish=finish)
    return y, (cache, y)


def batchnorm_relu_backward(dy: Array, caches: tuple[BatchNormCache, Array]) -> tuple[Array, Array, Array, Array]:
    """dy like x -> dx, dweight (C,), dbias (C,), and dshortcut (whether there was a shortcut or not)."""
    cache, y = caches
    xp = check_upstream(dy, y.shape, y)
    dy = channels_last_memory(xp, dy)
    g = xp.empty_like(dy)
    dy_rows, y_rows, g_rows = rows(dy), rows(y), rows(g)
    gradients = batchnorm_backward(g, cache, start=lambda part: gate(xp, dy_rows[part], y_rows[part], g_rows[part]))
    return *gradients, g
