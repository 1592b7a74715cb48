"""Convolution: kernels not flipped, windows put down in the wrong place, sums over the wrong axes."""

from __future__ import annotations

import numpy as np

from minires import ops
from minires.backend import Array
from minires.checks import pair
from minires.gradcheck.faults.base import Gradients, Saved, backward_fault, forward_fault, replaced, right_backward


def settings_of(options: dict) -> dict:
    """stride, padding, dilation as pairs."""
    defaults = {"stride": 1, "padding": 0, "dilation": 1}
    return {name: pair(name, options.get(name, value), 0) for name, value in defaults.items()}


def _places(dy: Array, weight: Array, s: dict) -> list[tuple[int, int, slice, slice]]:
    """For every output pixel (i, j): the rows and columns of the padded input under the kernel."""
    (sh, sw), (dh, dw), (kh, kw) = s["stride"], s["dilation"], weight.shape[2:]
    return [
        (i, j, slice(i * sh, i * sh + (kh - 1) * dh + 1, dh), slice(j * sw, j * sw + (kw - 1) * dw + 1, dw))
        for i in range(dy.shape[2])
        for j in range(dy.shape[3])
    ]


def dx_with(
    dy: Array, saved: Saved, *, overwrite: bool = False, shift: tuple[int, int] = (0, 0), **change: tuple
) -> Array:
    """dx, each output pixel sending its gradient back to its window; `change` overrides settings."""
    x, weight = saved.inputs[:2]
    s = settings_of(saved.options) | change
    n, c, h, w = x.shape
    canvas = np.zeros((n, c, 3 * h + 20, 3 * w + 20), x.dtype)
    for i, j, rows, columns in _places(dy, weight, s):
        sent = np.einsum("no,ocab->ncab", dy[:, :, i, j], weight)
        canvas[:, :, rows, columns] = sent if overwrite else canvas[:, :, rows, columns] + sent
    top, left = s["padding"][0] + shift[0], s["padding"][1] + shift[1]
    return canvas[:, :, top : top + h, left : left + w].copy()


def dweight_with(dy: Array, saved: Saved, **change: tuple) -> Array:
    """dweight, each output pixel meeting its window of x; `change` overrides settings."""
    x, weight = saved.inputs[:2]
    s = settings_of(saved.options) | change
    n, c, h, w = x.shape
    canvas = np.zeros((n, c, 3 * h + 20, 3 * w + 20), x.dtype)
    canvas[:, :, s["padding"][0] : s["padding"][0] + h, s["padding"][1] : s["padding"][1] + w] = x
    total = np.zeros_like(weight)
    for i, j, rows, columns in _places(dy, weight, s):
        total += np.einsum("no,ncab->ocab", dy[:, :, i, j], canvas[:, :, rows, columns])
    return total


# --- dx ------------------------------------------------------------------------------------------------------------


@backward_fault(
    "conv2d:dx-kernel-not-flipped",
    "dx uses the kernel as it is; going back, every output pixel meets the kernel turned by 180 degrees.",
    "Which tap of the kernel connected input pixel (0, 0) with output pixel (0, 0)? And with (0, 1)?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    x, weight = saved.inputs[:2]
    _, cache = ops.conv2d_forward(x, weight[:, :, ::-1, ::-1], **saved.options)
    return replaced(right_backward(dy, saved), 0, ops.conv2d_backward(dy, cache)[0])


@backward_fault(
    "conv2d:dx-channels-not-swapped",
    "dx sums over the kernel's input channels where it should sum over its output channels.",
    "Write down the axes of dx and of weight. Over which axis of weight does dy have to be summed?",
    square=True,
)
def _(dy: Array, saved: Saved) -> Gradients:
    x, weight = saved.inputs[:2]
    _, cache = ops.conv2d_forward(x, weight.swapaxes(0, 1), **saved.options)
    return replaced(right_backward(dy, saved), 0, ops.conv2d_backward(dy, cache)[0])


@backward_fault(
    "conv2d:dx-stride-ignored",
    "dx puts the windows down one pixel apart although forward moved them by the stride.",
    "Where did output pixel (1, 1) look in the input, with this stride?",
    stride=2,
)
def _(dy: Array, saved: Saved) -> Gradients:
    return replaced(right_backward(dy, saved), 0, dx_with(dy, saved, stride=(1, 1)))


@backward_fault(
    "conv2d:dx-stride-axes-swapped",
    "dx uses the vertical stride for columns and the horizontal one for rows.",
    "Try stride=(2, 1): which axis does the first number belong to?",
    stride=(2, 1),
)
def _(dy: Array, saved: Saved) -> Gradients:
    return replaced(right_backward(dy, saved), 0, dx_with(dy, saved, stride=settings_of(saved.options)["stride"][::-1]))


@backward_fault(
    "conv2d:dx-padding-not-cropped",
    "dx is cut from the corner of the padded gradient; the padding's rows and columns have to go first.",
    "In the padded input, where does pixel (0, 0) of x sit?",
    padding=1,
)
def _(dy: Array, saved: Saved) -> Gradients:
    top, left = settings_of(saved.options)["padding"]
    return replaced(right_backward(dy, saved), 0, dx_with(dy, saved, shift=(-top, -left)))


@backward_fault(
    "conv2d:dx-off-by-one",
    "dx sits one pixel too far up and to the left.",
    "Follow one number: the gradient of output pixel (0, 0) alone. Which input pixels may it reach?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    return replaced(right_backward(dy, saved), 0, dx_with(dy, saved, shift=(1, 1)))


@backward_fault(
    "conv2d:dx-dilation-ignored",
    "dx uses a dense kernel although forward spread its taps by the dilation.",
    "How far apart are two neighboring taps in the input, with this dilation?",
    dilation=2,
)
def _(dy: Array, saved: Saved) -> Gradients:
    return replaced(right_backward(dy, saved), 0, dx_with(dy, saved, dilation=(1, 1)))


@backward_fault(
    "conv2d:dx-overlaps-overwritten",
    "Where windows overlap, dx keeps the last window's share instead of adding up all of them.",
    "A pixel that took part in four windows gets gradient from how many of them?",
    stride=1,
)
def _(dy: Array, saved: Saved) -> Gradients:
    return replaced(right_backward(dy, saved), 0, dx_with(dy, saved, overwrite=True))


@backward_fault(
    "conv2d:dx-first-output-channel-only",
    "dx counts one output channel only; every output channel reads every input channel.",
    "How many of the filters looked at input channel 0?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    only = np.zeros_like(dy)
    only[:, 0] = dy[:, 0]
    return replaced(right_backward(dy, saved), 0, dx_with(only, saved))


@backward_fault(
    "conv2d:dx-sign",
    "dx has the wrong sign.",
    "If x grows a little where weight and dy are positive, does the loss grow or fall?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    gradients = right_backward(dy, saved)
    return replaced(gradients, 0, -gradients[0])


# --- dweight and dbias ---------------------------------------------------------------------------------------------


@backward_fault(
    "conv2d:dweight-stride-ignored",
    "dweight reads x one pixel apart although forward moved the windows by the stride.",
    "Which pixels of x did tap (0, 0) of the kernel see, with this stride?",
    stride=2,
)
def _(dy: Array, saved: Saved) -> Gradients:
    return replaced(right_backward(dy, saved), 1, dweight_with(dy, saved, stride=(1, 1)))


@backward_fault(
    "conv2d:dweight-padding-ignored",
    "dweight reads x without its padding, so every window is off by the padding.",
    "Does backward see the same padded input as forward did?",
    padding=1,
)
def _(dy: Array, saved: Saved) -> Gradients:
    return replaced(right_backward(dy, saved), 1, dweight_with(dy, saved, padding=(0, 0)))


@backward_fault(
    "conv2d:dweight-dilation-ignored",
    "dweight reads neighboring pixels although forward spread the taps by the dilation.",
    "Which pixel of x does tap (0, 1) meet in the first window, with this dilation?",
    dilation=2,
)
def _(dy: Array, saved: Saved) -> Gradients:
    return replaced(right_backward(dy, saved), 1, dweight_with(dy, saved, dilation=(1, 1)))


@backward_fault(
    "conv2d:dweight-flipped",
    "dweight comes out turned by 180 degrees.",
    "Only dx needs the kernel turned around. Does dweight?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    gradients = right_backward(dy, saved)
    return replaced(gradients, 1, gradients[1][:, :, ::-1, ::-1].copy())


@backward_fault(
    "conv2d:dweight-kernel-axes-swapped",
    "dweight has the kernel's rows and columns exchanged.",
    "Try a kernel of 3 x 1: which axis of dweight has length 3?",
    square_kernel=True,
)
def _(dy: Array, saved: Saved) -> Gradients:
    gradients = right_backward(dy, saved)
    return replaced(gradients, 1, gradients[1].swapaxes(2, 3).copy())


@backward_fault(
    "conv2d:dweight-channels-swapped",
    "dweight has input and output channels exchanged.",
    "weight is (out, in, kh, kw). In which order do your indices stand?",
    square=True,
)
def _(dy: Array, saved: Saved) -> Gradients:
    gradients = right_backward(dy, saved)
    return replaced(gradients, 1, gradients[1].swapaxes(0, 1).copy())


@backward_fault(
    "conv2d:dweight-batch-mean",
    "dweight is divided by the batch size; dy carries that factor already.",
    "Who divides by N: the loss, or every layer below it?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    gradients = right_backward(dy, saved)
    return replaced(gradients, 1, gradients[1] / len(dy))


@backward_fault(
    "conv2d:dweight-last-sample-only",
    "dweight holds the last sample's share: each sample overwrites the one before.",
    "Inside your loop over the batch, is there = where += is meant?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    last = np.zeros_like(dy)
    last[-1] = dy[-1]
    return replaced(right_backward(dy, saved), 1, dweight_with(last, saved))


@backward_fault(
    "conv2d:dbias-pixel-mean",
    "dbias is averaged over the pixels; the bias was added to every pixel, so their gradients add up.",
    "How often is one bias used in one image?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    return replaced(right_backward(dy, saved), 2, dy.mean(axis=(2, 3)).sum(axis=0))


@backward_fault(
    "conv2d:dbias-first-sample-only",
    "dbias counts the first sample only.",
    "Which axes of dy does the bias not have? All of them have to be summed.",
)
def _(dy: Array, saved: Saved) -> Gradients:
    return replaced(right_backward(dy, saved), 2, dy[0].sum(axis=(1, 2)))


@backward_fault(
    "conv2d:dbias-wrong-axes",
    "dbias is summed over the channels and kept for each sample; it goes unnoticed where N = out_channels.",
    "Choose a batch size that differs from the number of channels. What shape has dbias now?",
    batch_is_out=True,
)
def _(dy: Array, saved: Saved) -> Gradients:
    return replaced(right_backward(dy, saved), 2, dy.sum(axis=(1, 2, 3)))


@backward_fault(
    "conv2d:dbias-keeps-axes",
    "dbias has the shape (1, out, 1, 1): added to the bias it works by luck, added to its gradient it does not.",
    "Compare dbias.shape with bias.shape.",
)
def _(dy: Array, saved: Saved) -> Gradients:
    return replaced(right_backward(dy, saved), 2, dy.sum(axis=(0, 2, 3), keepdims=True))


# --- forward -------------------------------------------------------------------------------------------------------


@forward_fault(
    "conv2d:forward-kernel-flipped",
    "forward turns the kernel around: the convolution of mathematics. Deep learning's does not.",
    "Put a single 1 into the kernel, off its center. Where does the picture move?",
)
def _(x: Array, weight: Array, bias: Array | None = None, **options: object) -> Array:
    return ops.conv2d_forward(x, weight[:, :, ::-1, ::-1], bias, **options)[0]


@forward_fault("conv2d:forward-bias-forgotten", "forward never adds the bias.", "Set weight to 0. What should y be?")
def _(x: Array, weight: Array, bias: Array | None = None, **options: object) -> Array:
    return ops.conv2d_forward(x, weight, **options)[0]


@forward_fault(
    "conv2d:forward-padding-ignored",
    "forward does not pad, so y is smaller than it should be.",
    "Compare y.shape with (H + 2 * padding - dilation * (k - 1) - 1) // stride + 1.",
    padding=1,
    stride=1,
)
def _(x: Array, weight: Array, bias: Array | None = None, **options: object) -> Array:
    return ops.conv2d_forward(x, weight, bias, **(options | {"padding": 0}))[0]


@forward_fault(
    "conv2d:forward-padding-one-side",
    "forward puts all the padding before the image and none behind it.",
    "How many zeros are there to the left of the first pixel, how many to the right of the last?",
    padding=1,
)
def _(x: Array, weight: Array, bias: Array | None = None, **options: object) -> Array:
    (top, left) = pair("padding", options["padding"], 0)
    moved = np.pad(x, ((0, 0), (0, 0), (2 * top, 0), (2 * left, 0)))
    return ops.conv2d_forward(moved, weight, bias, **(options | {"padding": 0}))[0]


@forward_fault(
    "conv2d:forward-float32",
    "forward computes in float32 although its input is float64: no finite difference can see through that.",
    "Look for astype, np.float32 and for arrays made without dtype=x.dtype.",
)
def _(x: Array, weight: Array, bias: Array | None = None, **options: object) -> Array:
    single = [None if a is None else a.astype(np.float32) for a in (x, weight, bias)]
    return ops.conv2d_forward(*single, **options)[0].astype(x.dtype)
