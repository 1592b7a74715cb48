"""BatchNorm over the whole batch, of which each rank has a share.

The formulas are those of `ops/batchnorm.py`. What is summed over the batch there is summed over all ranks here. With
m values of a channel in the whole batch,

    forward      mean = sum of x / m      var = sum of (x - mean)^2 / m             two sums, one after the other
    backward     dx = weight * inv * (dy - dbias/m - xhat * dweight/m)              dbias and dweight of all ranks

Both sums of the backward pass travel together. The gradients of weight and bias stay those of this rank's images: they
are summed later, with all the other gradients.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minires import ops
from minires.backend import Array, array_namespace
from minires.nn import BatchNorm2d, Layer
from minires.ops.batchnorm import BatchNormCache, as_images, by_channel
from minires.threads import Group


class SyncBatchNorm2d(BatchNorm2d):
    """A BatchNorm2d whose statistics are those of the images of all ranks of `group`. All of them have to run it."""

    group: Group

    def _forward(self, x: Array) -> tuple[Array, Any]:
        if not self.training:
            return super()._forward(x)
        values = by_channel(array_namespace(x), x)
        m, total = self._sum(values)
        mean = total / m
        squares = self._sum((values - mean) ** 2)[1]
        mean, var, unbiased = (each.astype(x.dtype) for each in (mean, squares / m, squares / (m - 1)))
        y, cache = ops.batchnorm_forward(x, self.weight.value, self.bias.value, eps=self.eps, mean=mean, var=var)
        self.running_mean = (1 - self.momentum) * self.running_mean + self.momentum * mean
        self.running_var = (1 - self.momentum) * self.running_var + self.momentum * unbiased
        return y, (cache, m)

    def _backward(self, dy: Array, cache: Any) -> Array:
        if isinstance(cache, BatchNormCache):  # the forward pass was one of evaluation
            return super()._backward(dy, cache)
        cache, m = cache
        dx, dweight, dbias = ops.batchnorm_backward(dy, cache)  # dx along the direct path; the sums of this rank
        both = array_namespace(dy).concatenate([dbias, dweight])[None]
        dbias_of_all, dweight_of_all = self.group.sum(both.astype(_wide(dy))).reshape(2, -1) / m
        through_statistics = (dbias_of_all + cache.xhat * dweight_of_all) * (cache.weight * cache.inv)
        dx = dx - as_images(through_statistics.astype(dy.dtype), cache.x_shape)
        return self._add_grads(dx, dweight, dbias)

    def _sum(self, values: Array) -> tuple[Array, Array]:
        """(n, pixels, C) -> the number of values in a channel of all ranks, and their sum (C,)."""
        xp, sums = array_namespace(values), values.sum(axis=1, dtype=_wide(values))
        count = xp.full((len(values), 1), values.shape[1], sums.dtype)
        total = self.group.sum(xp.concatenate([count, sums], axis=1))
        return total[0], total[1:]


def _wide(values: Array) -> Any:
    """Sums over a batch are taken in float64 (complex numbers in complex128)."""
    return np.result_type(values.dtype, np.float64)


def synchronize_batchnorm(model: Layer, group: Group) -> Layer:
    """The model with each BatchNorm2d replaced, in place, by one over the whole group, which has the same arrays.

    (A model that is itself a BatchNorm2d comes back as another object.) Raises ValueError for a class of the user's own
    that inherits from BatchNorm2d.
    """
    for path, layer in model.named_layers():
        if isinstance(layer, BatchNorm2d) and type(layer) not in (BatchNorm2d, SyncBatchNorm2d):
            raise ValueError(f"{path} is a {type(layer).__name__}, whose sums may be others; expected a BatchNorm2d")

    def replaced(value: Any) -> Any:
        if type(value) in (BatchNorm2d, SyncBatchNorm2d):
            new = SyncBatchNorm2d.__new__(SyncBatchNorm2d)
            vars(new).update(vars(value), group=group)
            return new
        if isinstance(value, Layer):
            vars(value).update({name: replaced(child) for name, child in vars(value).items()})
        elif isinstance(value, list | tuple):
            return type(value)(map(replaced, value))
        elif isinstance(value, dict):
            return {name: replaced(child) for name, child in value.items()}
        return value

    return replaced(model)
