"""Residual blocks: y = after(shortcut(x) + scale * branch(x)), and their plain twins without the shortcut.

The gradient at the sum goes back both ways, and at x the two meet again: dx = dbranch + dshortcut. That sum is the
whole secret. Whatever happens to the gradient in the branch, the shortcut passes it on unchanged.

    BasicBlock    conv3x3 - BN - relu - conv3x3 - BN, + shortcut, relu           He et al. 2015, arXiv:1512.03385
    Bottleneck    conv1x1 - BN - relu - conv3x3 - BN - relu - conv1x1 - BN, + shortcut, relu           (the same)
    PreActBlock   BN - relu - conv3x3 - BN - relu - conv3x3, + shortcut          He et al. 2016, arXiv:1603.05027

Where a block changes the size, the shortcut is "A" (every stride-th pixel, new channels zero: no parameters) or "B"
(a 1x1 convolution with BatchNorm); elsewhere it is the identity. None leaves it out: the plain network.
"""

from collections.abc import Callable
from functools import partial

from minires.backend import Array, array_namespace
from minires.checks import check_arrays, check_number, check_shape, check_sum, choice, factory, flag, whole
from minires.nn.layer import Layer
from minires.nn.layers import BatchNorm2d, Conv2d, Identity, ReLU
from minires.nn.sequential import Sequential
from minires.ops.window import filled


class Subsample(Layer):
    """Shortcut option A: every stride-th pixel; the new channels are zeros, half before and half after the old."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        if out_channels < in_channels:
            raise ValueError(f'shortcut "A": out_channels is {out_channels}; expected at least {in_channels}')
        self.in_channels, self.out_channels = whole("in_channels", in_channels), out_channels
        self.stride = whole("stride", stride)
        first = (out_channels - in_channels) // 2
        self.kept = slice(first, first + in_channels)

    def _forward(self, x: Array) -> tuple[Array, tuple[int, ...]]:
        xp = check_arrays(x=x)
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(f"x has shape {x.shape}; expected (N, {self.in_channels}, H, W)")
        y = filled(xp, self._output_shape(x.shape), 0, x.dtype)
        y[:, self.kept] = x[:, :, :: self.stride, :: self.stride]
        return y, x.shape

    def _backward(self, dy: Array, cache: tuple[int, ...]) -> Array:
        check_shape("dy", dy, self._output_shape(cache), "the shape of the forward's output")
        dx = filled(array_namespace(dy), cache, 0, dy.dtype)
        dx[:, :, :: self.stride, :: self.stride] = dy[:, self.kept]
        return dx

    def _output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape[0], self.out_channels, *(-(-size // self.stride) for size in shape[2:])


def make_shortcut(kind: str | None, in_channels: int, out_channels: int, stride: int, batchnorm: bool) -> Layer | None:
    """The shortcut of a block: "A", "B" or None, see the module's text."""
    if choice("shortcut", kind, ("A", "B", None)) is None:
        return None
    if stride == 1 and in_channels == out_channels:
        return Identity()
    if kind == "A":
        return Subsample(in_channels, out_channels, stride)
    projection = Conv2d(in_channels, out_channels, 1, stride, bias=not batchnorm)
    return Sequential(projection, make_norm(out_channels, batchnorm))


def make_norm(channels: int, batchnorm: bool = True) -> Layer:
    return BatchNorm2d(channels) if flag("batchnorm", batchnorm) else Identity()


class ResidualBlock(Layer):
    """What the blocks share. A subclass names its layers: `branch` in their order, `after_sum` or None."""

    branch: tuple[str, ...]
    after_sum: str | None
    expansion = 1
    """How many times `channels` the block puts out."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int = 1,
        *,
        shortcut: str | None = "A",
        batchnorm: bool = True,
        activation: Callable[[], Layer] = ReLU,
        branch_scale: float = 1.0,
    ) -> None:
        conv, norm = partial(Conv2d, bias=not flag("batchnorm", batchnorm)), partial(make_norm, batchnorm=batchnorm)
        self._make_branch(in_channels, channels, stride, conv, norm, factory("activation", activation, "nn.ReLU"))
        self.shortcut = make_shortcut(shortcut, in_channels, self.expansion * channels, stride, batchnorm)
        if self.after_sum is not None:
            setattr(self, self.after_sum, activation())
        self.branch_scale = check_number("branch_scale", branch_scale, float("-inf"))

    def _make_branch(self, i: int, o: int, stride: int, conv: Callable, norm: Callable, activation: Callable) -> None:
        """Sets the layers named in `branch`, from i to o channels (a bottleneck: to expansion * o)."""
        raise NotImplementedError

    def _forward(self, x: Array) -> tuple[Array, None]:
        y = x
        for name in self.branch:
            y = getattr(self, name).forward(y)
        if self.branch_scale != 1:
            y = y * self.branch_scale
        if self.shortcut is not None:
            shortcut = self.shortcut.forward(x)
            check_shape("shortcut", shortcut, y.shape, "the shape of the branch's output")
            y = y + shortcut
        if self.after_sum is not None:
            y = getattr(self, self.after_sum).forward(y)
        return y, None

    def _backward(self, dy: Array, cache: None) -> Array:
        if self.after_sum is not None:
            dy = getattr(self, self.after_sum).backward(dy)
        dx = dy * self.branch_scale if self.branch_scale != 1 else dy
        for name in reversed(self.branch):
            dx = getattr(self, name).backward(dx)
        if self.shortcut is not None:
            dx = dx + self.shortcut.backward(dy)
        return dx

    def _output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        out = shape
        for name in self.branch:
            out = getattr(self, name).output_shape(out)
        if self.shortcut is not None:
            check_sum(out, self.shortcut.output_shape(shape))
        return out if self.after_sum is None else getattr(self, self.after_sum).output_shape(out)

    def branch_convolutions(self) -> list[Conv2d]:
        """The convolutions of the branch, in their order."""
        return [layer for name in self.branch if isinstance(layer := getattr(self, name), Conv2d)]

    def last_norm(self) -> BatchNorm2d | None:
        """The last BatchNorm of the branch, if it has any: with a gain of 0 there the branch puts out nothing."""
        norms = [layer for name in self.branch if isinstance(layer := getattr(self, name), BatchNorm2d)]
        return norms[-1] if norms else None


class BasicBlock(ResidualBlock):
    """Two 3x3 convolutions; the relu comes after the sum. (N, in, H, W) -> (N, channels, H/stride, W/stride)."""

    branch = ("conv1", "bn1", "relu1", "conv2", "bn2")
    after_sum = "relu2"

    def _make_branch(self, i: int, o: int, stride: int, conv: Callable, norm: Callable, activation: Callable) -> None:
        self.conv1, self.bn1, self.relu1 = conv(i, o, 3, stride, 1), norm(o), activation()
        self.conv2, self.bn2 = conv(o, o, 3, 1, 1), norm(o)


class Bottleneck(ResidualBlock):
    """1x1 to `channels`, 3x3, 1x1 to four times as many. (N, in, H, W) -> (N, 4 * channels, H/stride, W/stride)."""

    branch = ("conv1", "bn1", "relu1", "conv2", "bn2", "relu2", "conv3", "bn3")
    after_sum = "relu3"
    expansion = 4

    def _make_branch(self, i: int, o: int, stride: int, conv: Callable, norm: Callable, activation: Callable) -> None:
        self.conv1, self.bn1, self.relu1 = conv(i, o, 1), norm(o), activation()
        self.conv2, self.bn2, self.relu2 = conv(o, o, 3, stride, 1), norm(o), activation()
        self.conv3, self.bn3 = conv(o, 4 * o, 1), norm(4 * o)


class PreActBlock(ResidualBlock):
    """BatchNorm and relu come before the convolutions, and nothing after the sum: the shortcut is never gated."""

    branch = ("bn1", "relu1", "conv1", "bn2", "relu2", "conv2")
    after_sum = None

    def _make_branch(self, i: int, o: int, stride: int, conv: Callable, norm: Callable, activation: Callable) -> None:
        self.bn1, self.relu1, self.conv1 = norm(i), activation(), conv(i, o, 3, stride, 1)
        self.bn2, self.relu2, self.conv2 = norm(o), activation(), conv(o, o, 3, 1, 1)
