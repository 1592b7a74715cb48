"""Gradients of a residual network from its real forward pass: a law for any input, photographs included [MF-fwd].

The law of `padded_networks` needs white noise. Images are not white: patches differ in energy, neighbors agree, and
stem features live in few dimensions, which moves gradients by some 10 % and from batch to batch. What stays exact is
the step through one layer, given what its forward pass did (gates, batch variances, normalized values):

    ReLU          energy times the gate
    convolution   energy by squared weights, e_in = conv^T(e_out; W*W): other products of weights average out
    BatchNorm     dx = gain/sqrt(v + eps) (dy - mean dy - x^ mean(dy x^)): a channel's energy S loses cut/(m S)

W*W instead of Var W matters: a filter that happens to be large has a large v as well. One part of a gradient
is not random: what came down the skip path alone, a known signed d (the upstream times the gates). It is often
common to all samples, and then BN's two projections cut all of it, not one part in m. So e and d go down
together, per block from the top:

    e, d <- e 1{h' > 0}, d 1{h' > 0}
    bn(e, d): r = e - d^2;  cut = sum r + sum r x^2 + (sum d)^2 + (sum d x^)^2
              returns e (1 - cut/(m sum e)) gain^2/(v + eps)
    ea = conv2^T(bn2(e, d)) 1{a > 0};   branch = conv1^T(bn1(ea, 0))
    identity: e <- e + branch    A: subsampled back, d too    B: e <- branch + conv_s^T(bn_s(e, d)), d <- 0

Predicted |dL/dh_l|^2 = sum e. No constant is fitted; any input, padding, shortcut, upstream. It takes the time
of one backward pass.
Bias about 0.3/C for independent upstreams and a few per mil; standard deviation of one network about 0.65/C,
with a real loss 1/C + 0.01, C the stem's width.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from minires import nn, ops
from minires.nn.layer import Layer
from minires.nn.residual import BasicBlock, Subsample


class Energy(NamedTuple):
    """|dL/dh|^2 in total at one stream: h_0 (the first block's input, path "stem") or a block's output."""

    path: str
    predicted: float
    measured: float

    @property
    def ratio(self) -> float:
        """measured / predicted."""
        return self.measured / self.predicted


def coherence(dlogits: np.ndarray) -> float:
    """f = |sum_n delta_n|^2 / (N sum_n |delta_n|^2): share of the upstream that all N samples have in common.

    1/N for independent samples, 1 if they are all alike; 0 for a small head and balanced labels.
    """
    d = np.asarray(dlogits, dtype=float).reshape(len(dlogits), -1)
    return float(np.sum(d.sum(axis=0) ** 2) / (len(d) * np.sum(d**2)))


def gradient_energies(
    model: Layer, x: np.ndarray, upstream: np.ndarray | None = None, labels: np.ndarray | None = None
) -> list[Energy]:
    """Predicted and measured energies at every stream of a network of BasicBlocks, from the stem up.

    upstream: dL/d(last block's output), e.g. independent normals.  labels (N,): use softmax cross-entropy
    through the head instead.  One of the two.  Leaves the model's gradients with this backward pass added.
    ValueError for a model without BasicBlocks, or with blocks that have no law here.
    """
    if (upstream is None) == (labels is None):
        raise ValueError("give either upstream, a gradient at the last block's output, or labels")
    blocks = [(path, layer) for path, layer in model.named_layers() if isinstance(layer, BasicBlock)]
    _check(blocks)
    was_training = model.training
    model.train()
    try:
        seen = _forward(model, x)
        top = seen.run_backward(blocks, upstream, labels)
    finally:
        model.train() if was_training else model.eval()
    predicted = _propagate(blocks, seen.outputs, seen.inputs, top)
    names = ["stem", *(path for path, _ in blocks)]
    measured = [seen.gradients[blocks[0][0]][1], *(seen.gradients[path][0] for path, _ in blocks)]
    return [Energy(*row) for row in zip(names, predicted, measured, strict=True)]


def _check(blocks: list[tuple[str, BasicBlock]]) -> None:
    if not blocks:
        raise ValueError("the forward-conditional law is for networks of BasicBlocks; this model has none")
    for path, block in blocks:
        parts = (block.bn1, block.bn2), (block.relu1, block.relu2)
        if not all(isinstance(bn, nn.BatchNorm2d) for bn in parts[0]):
            raise ValueError(f"{path}: the forward-conditional law needs BatchNorm in the branch")
        if not all(isinstance(relu, nn.ReLU) for relu in parts[1]):
            raise ValueError(f"{path}: the forward-conditional law needs ReLU gates")


class _Seen:
    """What one forward pass put through every layer, and the energies that the backward pass found."""

    def __init__(self, model: Layer) -> None:
        self.model = model
        self.inputs: dict[str, np.ndarray] = {}
        self.outputs: dict[str, np.ndarray] = {}
        self.gradients: dict[str, tuple[float, float]] = {}  # |dy|^2, |dx|^2
        self.top: np.ndarray | None = None

    def observe(self, layer: Layer, path: str, direction: str, before: np.ndarray, after: np.ndarray) -> None:
        if direction == "forward":
            self.inputs[path], self.outputs[path] = before, after
        else:
            self.gradients[path] = (_energy(before), _energy(after))

    def run_backward(
        self, blocks: list[tuple[str, BasicBlock]], upstream: np.ndarray | None, labels: np.ndarray | None
    ) -> np.ndarray:
        """The real backward pass; returns the gradient at the last block's output."""
        last = blocks[-1][0]
        if upstream is not None:
            gradient = upstream
            with self.model.observe(self.observe):
                for _, block in reversed(blocks):
                    gradient = block.backward(gradient)
            return upstream
        loss = nn.SoftmaxCrossEntropy()
        loss.forward(self.outputs[""], labels)
        arrived = {}

        def keep(layer: Layer, path: str, direction: str, before: np.ndarray, after: np.ndarray) -> None:
            self.observe(layer, path, direction, before, after)
            if path == last:
                arrived["gradient"] = before

        with self.model.observe(keep):
            self.model.backward(loss.backward())
        return arrived["gradient"]


def _forward(model: Layer, x: np.ndarray) -> _Seen:
    seen = _Seen(model)
    with model.observe(seen.observe):
        model.forward(x)
    return seen


def _energy(g: np.ndarray) -> float:
    return float(np.sum(np.square(g, dtype=float)))


def _propagate(
    blocks: list[tuple[str, BasicBlock]], outputs: dict[str, np.ndarray], inputs: dict[str, np.ndarray], top: np.ndarray
) -> list[float]:
    """Predicted |dL/dh_l|^2, from the stem up; see the module's text."""
    d = np.asarray(top, dtype=float)
    e = d**2
    totals = [float(e.sum())]
    for path, block in reversed(blocks):
        gate = outputs[path] > 0
        e, d = e * gate, d * gate
        scale = block.branch_scale
        ez = _through_batchnorm(e * scale**2, d * scale, block.bn2, outputs[f"{path}.conv2"])
        ea = _through_conv(ez, block.conv2, outputs[f"{path}.relu1"]) * (outputs[f"{path}.relu1"] > 0)
        eb = _through_batchnorm(ea, np.zeros_like(ea), block.bn1, outputs[f"{path}.conv1"])
        branch = _through_conv(eb, block.conv1, inputs[path])
        e, d = _through_shortcut(e, d, block, path, outputs, inputs)
        e = e + branch
        totals.append(float(e.sum()))
    return totals[::-1]


def _through_shortcut(
    e: np.ndarray,
    d: np.ndarray,
    block: BasicBlock,
    path: str,
    outputs: dict[str, np.ndarray],
    inputs: dict[str, np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    shortcut, x = block.shortcut, inputs[path]
    if shortcut is None:
        return np.zeros(x.shape), np.zeros(x.shape)
    if isinstance(shortcut, nn.Identity):
        return e, d
    if isinstance(shortcut, Subsample):
        return _scattered(e, shortcut, x.shape), _scattered(d, shortcut, x.shape)
    conv, norm = (layer for _, layer in shortcut.children())
    e = _through_batchnorm(e, d, norm, outputs[f"{path}.shortcut.0"])
    return _through_conv(e, conv, x), np.zeros(x.shape)


def _scattered(values: np.ndarray, shortcut: Subsample, shape: tuple[int, ...]) -> np.ndarray:
    result = np.zeros(shape)
    first = (shortcut.out_channels - shortcut.in_channels) // 2
    kept = slice(first, first + shortcut.in_channels)
    result[:, :, :: shortcut.stride, :: shortcut.stride] = values[:, kept]
    return result


def _through_conv(e: np.ndarray, conv: nn.Conv2d, x: np.ndarray) -> np.ndarray:
    """Energy at a convolution's input: its backward pass with squared weights."""
    squared = np.square(conv.weight.value, dtype=float)
    settings = {"stride": conv.stride, "padding": conv.padding, "dilation": conv.dilation}
    _, cache = ops.conv2d_forward(np.zeros(x.shape), squared, **settings)
    return ops.conv2d_backward(e, cache)[0]


def _through_batchnorm(e: np.ndarray, d: np.ndarray, norm: nn.BatchNorm2d, z: np.ndarray) -> np.ndarray:
    """Energy at BatchNorm's input z, whose batch statistics decide; d: the signed part of the gradient."""
    axes = (0, 2, 3)
    z = np.asarray(z, dtype=float)
    v = z.var(axis=axes, keepdims=True)
    normalized = (z - z.mean(axis=axes, keepdims=True)) / np.sqrt(v + norm.eps)
    rest = e - d**2
    cut = (rest * (1 + normalized**2)).sum(axis=axes, keepdims=True)
    cut += d.sum(axis=axes, keepdims=True) ** 2 + (d * normalized).sum(axis=axes, keepdims=True) ** 2
    total = e.sum(axis=axes, keepdims=True)
    m = z.size // z.shape[1]
    left = 1 - cut / (m * np.where(total > 0, total, 1))
    gain = np.square(norm.weight.value, dtype=float)[None, :, None, None]
    return e * left * gain / (v + norm.eps)
