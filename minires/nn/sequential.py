"""One layer after the other; and three of them that go through memory together.

Nearly all of a residual network is a convolution, a BatchNorm and a relu, perhaps with a sum before the relu. Layer by
layer these are eight loops over the batch, forward and backward, each of which reads and writes whole arrays. Here a
piece of an array is handed on while it is in the processor's cache, which leaves four:

    forward     convolution, moments of its output | BatchNorm, sum, relu (and the next convolution)
    backward    relu, BatchNorm's sums | BatchNorm's dx, convolution (and the sum at the block's input)

and one at inference (`model.infer`), since there the moments are known. The ops are the layers' own and so are the bits
of all results. As soon as somebody looks at one of the layers, or replaces one of their functions, they are called one
by one; as they are in evaluation with a way back.
"""

from __future__ import annotations

from collections.abc import Iterable

from minires import ops
from minires.backend import Array
from minires.checks import check_arrays, check_axes, check_shape, check_upstream
from minires.nn.layer import Layer
from minires.nn.layers import BatchNorm2d, Conv2d, ReLU
from minires.ops.activation import gate, rectify
from minires.ops.batchnorm import begin_backward, begin_forward, scale_and_offset
from minires.ops.channels import Moments, repeated, rows
from minires.ops.layout import Fill, Finish, channels_last_memory, filled, nothing


class ConvNormReLU:
    """A Conv2d, the BatchNorm2d behind it and the ReLU behind that: y = relu(BatchNorm(conv(x)) + shortcut).

    No layer: it has nothing of its own, and each of the three keeps the cache that it keeps by itself.
    """

    def __init__(self, conv: Conv2d, norm: BatchNorm2d, relu: ReLU) -> None:
        self.layers = self.conv, self.norm, self.relu = conv, norm, relu

    def forward(self, x: Array, fill: Fill = nothing, shortcut: Array | None = None) -> tuple[Array, Fill]:
        """x, its fill if it has yet to be written, and what is added before the relu if anything is -> y, its fill."""
        xp = check_arrays({"shortcut": shortcut}, x=x)
        check_axes("x", x, "N, C, H, W")
        conv, norm, weight, bias = self.conv, self.norm, self.norm.weight.value, self.norm.bias.value
        if shortcut is not None:
            check_shape("shortcut", shortcut, conv._output_shape(x.shape), "the shape of what it is added to")

        def add_and_rectify(part: slice, y: Array) -> None:
            if shortcut is not None:
                y += shortcut[part]
            rectify(xp, y, y)

        def normalize_add_and_rectify(part: slice, z: Array) -> None:
            z_rows = rows(z)
            z_rows *= repeated(scale, z_rows)
            z_rows += repeated(offset, z_rows)
            add_and_rectify(part, z)

        if norm.training:
            moments = Moments(xp, len(x), norm.num_features, x.dtype)
            z, conv_cache = conv._forward(x, fill=fill, finish=moments.take)
            y, fill, cache = begin_forward(z, weight, bias, norm.eps, moments=moments, finish=add_and_rectify)
            norm._follow(cache)
            caches = conv_cache, cache, y
        else:  # nobody will need z any more: y takes its place
            scale, offset = scale_and_offset(xp, weight, bias, norm.running_mean, norm.running_var, norm.eps)
            y, _ = conv._forward(x, fill=fill, finish=normalize_add_and_rectify)
            caches, fill = (None, None, None), nothing
        for layer, its_cache in zip(self.layers, caches, strict=True):
            layer._keep(its_cache, y)
        return y, fill

    def backward(self, dy: Array, finish: Finish = nothing, summed: bool = False) -> Array:
        """dy -> dx, after finish(part, dx[part]); if `summed`, `dshortcut` then is the gradient of what was added."""
        conv_cache, cache, y = (layer._kept() for layer in self.layers)
        xp = check_upstream(dy, y.shape, y)
        dy = channels_last_memory(xp, dy)
        g = xp.empty_like(dy)
        dz = xp.empty_like(dy) if summed else g
        fill, dweight, dbias = begin_backward(dz, g, cache, lambda part: gate(xp, dy[part], y[part], g[part]))
        dx = self.conv._backward(dz, conv_cache, fill=fill, finish=finish)
        self.norm.weight.add_grad(dweight)
        self.norm.bias.add_grad(dbias)
        self.dshortcut = g if summed else None
        for layer in self.layers:
            layer._cache = None
        return dx


Step = Layer | ConvNormReLU
TOGETHER = [Conv2d, BatchNorm2d, ReLU]


def joined(layers: Iterable[Layer]) -> list[Step]:
    """The layers in turn, those that can go together as one step."""
    steps: list[Step] = []
    for layer in layers:
        steps.append(layer)
        if [type(step) for step in steps[-3:]] == TOGETHER and can_join(*steps[-3:]):
            steps[-3:] = [ConvNormReLU(*steps[-3:])]
    return steps


def can_join(conv: Conv2d, norm: BatchNorm2d, relu: ReLU) -> bool:
    """Whether the three fit, are in training or at inference, where nothing is kept, and nobody watches them.

    Those that do not fit are left to say so themselves.
    """
    weight, arrays = conv.weight.value, (norm.weight.value, norm.bias.value, norm.running_mean, norm.running_var)
    like = type(weight), weight.dtype, weight.shape[:1]
    fit = all((type(array), array.dtype, array.shape) == like for array in arrays)
    return fit and (norm.training or not norm._remembers) and not watched(conv, norm, relu)


PASSES = ("forward", "backward", "_forward", "_backward")
OWN = {kind: [getattr(kind, name) for name in PASSES] for kind in TOGETHER}
OPS = {f"{op}_{way}": getattr(ops, f"{op}_{way}") for op in ("conv2d", "batchnorm", "relu") for way in PASSES[:2]}


def watched(*layers: Layer) -> bool:
    """Whether a layer has an observer, or a pass that was put in place of its own, in it, in its class or in `ops`."""
    return any(getattr(ops, name) is not op for name, op in OPS.items()) or any(
        layer._observer
        or not vars(layer).keys().isdisjoint(PASSES)
        or [getattr(type(layer), name) for name in PASSES] != OWN[type(layer)]
        for layer in layers
    )


def forward_through(steps: Iterable[Step], x: Array) -> tuple[Array, Fill]:
    """x -> y, and the fill that has yet to write it, if the last step left any."""
    fill = nothing
    for step in steps:
        if isinstance(step, ConvNormReLU):
            x, fill = step.forward(x, fill)
        else:
            x, fill = step.forward(filled(x, fill)), nothing
    return x, fill


class Sequential(Layer):
    """One layer after the other. Its children are named "0", "1", ...

    A Conv2d, a BatchNorm2d and a ReLU behind each other go through memory together, with the same bits. To have every
    layer called by itself, with a debugger say, run the passes within `with model.observe(lambda *what: None):`.
    """

    def __init__(self, *layers: Layer) -> None:
        for i, layer in enumerate(layers):
            if not isinstance(layer, Layer):
                raise TypeError(f"layer {i} is {layer!r}; expected a Layer, as in Sequential(Linear(64, 10), ReLU())")
            self.add(str(i), layer)

    def add(self, name: str, layer: Layer) -> None:
        """Appends a layer, under a name of its own."""
        setattr(self, name, layer)

    @property
    def layers(self) -> list[Layer]:
        """The layers in the order of the forward pass."""
        return [layer for _, layer in self.children()]

    def _forward(self, x: Array) -> tuple[Array, None]:
        return filled(*forward_through(joined(self.layers), x)), None

    def _backward(self, dy: Array, cache: None) -> Array:
        for layer in reversed(joined(self.layers)):
            dy = layer.backward(dy)
        return dy

    def _output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        for layer in self.layers:
            shape = layer.output_shape(shape)
        return shape

    def __repr__(self) -> str:
        return f"Sequential of {len(self.layers)} layers"
