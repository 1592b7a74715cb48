"""Group normalization (Wu, He 2018, arXiv:1803.08494): between LayerNorm and a normalization of single channels.

The C channels of a sample fall into G groups. Mean and variance are taken over the m = C/G * H * W values of a group,
sample by sample, so the batch plays no part. Gain and offset belong to the channel, as in BatchNorm:

    xhat = (x - mean of the group) * inv of the group      y[:, c] = weight[c] * xhat[:, c] + bias[c]

G = 1 normalizes a whole sample, G = C each channel of it by itself ("instance normalization"). Forward and backward are
those of `layernorm.py` with the axes of a group in place of the features. Sums for the gradients of gain and offset run
over samples and pixels.
"""

from minires.backend import Array
from minires.checks import cache_of, check_arrays, check_axes, check_groups, check_number, check_shape, check_upstream
from minires.ops.layernorm import LayerNormCache, normalize, normalize_backward
from minires.ops.window import channels_last_memory


def groupnorm_forward(
    x: Array, weight: Array, bias: Array, *, num_groups: int, eps: float = 1e-5
) -> tuple[Array, LayerNormCache]:
    """x (N, C, H, W), weight (gain) and bias (offset) (C,), num_groups G, a divisor of C -> y like x, cache.

    Raises TypeError for dtypes, ValueError for shapes, for G that does not divide C, and for eps < 0.
    """
    xp = check_arrays(x=x, weight=weight, bias=bias)
    check_axes("x", x, "N, C, H, W")
    for name, array in {"weight": weight, "bias": bias}.items():
        check_shape(name, array, x.shape[1:2], f"since x has {x.shape[1]} channels")
    groups = check_groups(num_groups, x.shape[1], x.shape[1], "num_groups")
    by_group = x.reshape(len(x), groups, -1, *x.shape[2:])
    xhat, inv = normalize(xp, by_group, 3, check_number("eps", eps, 0))
    y = xhat.reshape(x.shape) * weight[:, None, None] + bias[:, None, None]
    return channels_last_memory(xp, y), LayerNormCache(xhat, weight, inv)


def groupnorm_backward(dy: Array, cache: LayerNormCache) -> tuple[Array, Array, Array]:
    """dy like x -> dx like x, dweight (C,), dbias (C,)."""
    xhat, weight, inv = cache_of(cache, LayerNormCache)
    n, groups, size, h, w = xhat.shape
    xp = check_upstream(dy, (n, groups * size, h, w), xhat)
    dweight, dbias = (dy * xhat.reshape(dy.shape)).sum(axis=(0, 2, 3)), dy.sum(axis=(0, 2, 3))
    dx = normalize_backward((dy * weight[:, None, None]).reshape(xhat.shape), xhat, inv, 3)
    return channels_last_memory(xp, dx.reshape(dy.shape)), dweight, dbias
