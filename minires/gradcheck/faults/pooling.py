"""Pooling: who won the window, who shares, and windows that overlap."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from minires import ops
from minires.backend import Array
from minires.checks import pair
from minires.gradcheck.faults.base import Gradients, Saved, backward_fault, forward_fault

Place = tuple[int, int, slice, slice]


def _settings(options: dict) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    kernel = pair("kernel_size", options["kernel_size"], 1)
    stride = options.get("stride")
    return (
        kernel,
        kernel if stride is None else pair("stride", stride, 1),
        pair("padding", options.get("padding", 0), 0),
    )


def _places(dy: Array, kernel: tuple[int, int], stride: tuple[int, int]) -> Iterator[Place]:
    """For every output pixel (i, j): the rows and columns of its window in the padded input."""
    for i in range(dy.shape[2]):
        for j in range(dy.shape[3]):
            top, left = i * stride[0], j * stride[1]
            yield i, j, slice(top, top + kernel[0]), slice(left, left + kernel[1])


def _spread(
    dy: Array,
    saved: Saved,
    share: Callable[[Array], Array],
    *,
    overwrite: bool = False,
    change: dict | None = None,
    crop: bool = True,
) -> Gradients:
    """dx, with share(window) (N, C, kh, kw) saying which part of dy each pixel of a window gets."""
    x = saved.inputs[0]
    settings = dict(zip(("kernel", "stride", "padding"), _settings(saved.options), strict=True)) | (change or {})
    (ph, pw), (n, c, h, w) = settings["padding"], x.shape
    outside = -np.inf if saved.op == "max_pool2d" else 0.0
    padded = np.full((n, c, 3 * h + 20, 3 * w + 20), outside)
    padded[:, :, ph : ph + h, pw : pw + w] = x
    canvas = np.zeros_like(padded)
    for i, j, rows, columns in _places(dy, settings["kernel"], settings["stride"]):
        sent = dy[:, :, i, j, None, None] * share(padded[:, :, rows, columns])
        canvas[:, :, rows, columns] = sent if overwrite else canvas[:, :, rows, columns] + sent
    top, left = (ph, pw) if crop else (0, 0)
    return (canvas[:, :, top : top + h, left : left + w].copy(),)


def _winner(window: Array) -> Array:
    """1 for the first largest pixel of each window."""
    n, c, kh, kw = window.shape
    return np.eye(kh * kw)[window.reshape(n, c, -1).argmax(axis=2)].reshape(window.shape)


def _evenly(window: Array) -> Array:
    return np.full(window.shape, 1 / (window.shape[2] * window.shape[3]))


# --- max -----------------------------------------------------------------------------------------------------------


@backward_fault(
    "max_pool2d:to-all",
    "every pixel of a window gets dy; only the largest one moved the output.",
    "If a pixel that is not the largest grows a little, does y change?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    return _spread(dy, saved, np.ones_like)


@backward_fault(
    "max_pool2d:shared-evenly",
    "dy is shared among all pixels of a window, as an average pooling does.",
    "If a pixel that is not the largest grows a little, does y change?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    return _spread(dy, saved, _evenly)


@backward_fault(
    "max_pool2d:ties-to-all",
    "where several pixels are equally large, each gets all of dy: the gradient grows. One of them has to get it.",
    "Try a window of equal pixels. Do the dx of the window add up to dy?",
    rule="ties",
)
def _(dy: Array, saved: Saved) -> Gradients:
    return _spread(dy, saved, lambda window: (window == window.max(axis=(2, 3), keepdims=True)).astype(float))


@backward_fault(
    "max_pool2d:ties-shared",
    "where several pixels are equally large, dy is shared among them; here the first of them gets all of it.",
    "Try a window of equal pixels. Which of them does argmax name?",
    rule="ties",
)
def _(dy: Array, saved: Saved) -> Gradients:
    def share(window: Array) -> Array:
        largest = window == window.max(axis=(2, 3), keepdims=True)
        return largest / largest.sum(axis=(2, 3), keepdims=True)

    return _spread(dy, saved, share)


@backward_fault("max_pool2d:smallest-wins", "dy goes to the smallest pixel of the window.", "argmax or argmin?")
def _(dy: Array, saved: Saved) -> Gradients:
    return _spread(dy, saved, lambda window: _winner(np.where(np.isinf(window), window, -window)))


@backward_fault(
    "max_pool2d:overlaps-overwritten",
    "where windows overlap, a pixel keeps the last window's gradient instead of adding up all of them.",
    "A pixel that is the largest of two windows gets gradient from how many?",
    overlap=True,
)
def _(dy: Array, saved: Saved) -> Gradients:
    return _spread(dy, saved, _winner, overwrite=True)


@backward_fault(
    "max_pool2d:stride-ignored",
    "backward takes the kernel's size as the stride.",
    "Where does the second window start, with this stride?",
    overlap=True,
)
def _(dy: Array, saved: Saved) -> Gradients:
    return _spread(dy, saved, _winner, change={"stride": _settings(saved.options)[0]})


@backward_fault(
    "max_pool2d:padding-not-cropped",
    "dx is cut from the corner of the padded gradient; the padding's rows and columns have to go first.",
    "In the padded input, where does pixel (0, 0) of x sit?",
    padding=1,
)
def _(dy: Array, saved: Saved) -> Gradients:
    return _spread(dy, saved, _winner, crop=False)


@backward_fault(
    "max_pool2d:always-first-pixel",
    "dy always goes to the first pixel of the window, whoever won.",
    "What does the cache have to remember about each window?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    return _spread(dy, saved, lambda window: _winner(np.zeros_like(window)))


@forward_fault(
    "max_pool2d:forward-zero-padding",
    "forward pads with zeros, which beat negative pixels; padding of a max-pool counts as minus infinity.",
    "What is the maximum of a corner window whose pixels are all negative?",
    padding=1,
    negative=True,
)
def _(x: Array, **options: object) -> Array:
    (ph, pw) = pair("padding", options["padding"], 0)
    padded = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    return ops.max_pool2d_forward(padded, **(options | {"padding": 0}))[0]


# --- average -------------------------------------------------------------------------------------------------------


@backward_fault(
    "avg_pool2d:count-forgotten",
    "dx is not divided by the number of pixels in a window.",
    "If one pixel of a window grows by 1, by how much does y grow?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    return _spread(dy, saved, np.ones_like)


@backward_fault(
    "avg_pool2d:count-squared",
    "dx is divided by the number of pixels twice.",
    "How often does 1 / (kh * kw) occur in forward?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    return _spread(dy, saved, lambda window: _evenly(window) ** 2)


@backward_fault(
    "avg_pool2d:overlaps-overwritten",
    "where windows overlap, a pixel keeps the last window's gradient instead of adding up all of them.",
    "A pixel that lies in four windows gets gradient from how many?",
    overlap=True,
)
def _(dy: Array, saved: Saved) -> Gradients:
    return _spread(dy, saved, _evenly, overwrite=True)


@backward_fault(
    "avg_pool2d:stride-ignored",
    "backward takes the kernel's size as the stride.",
    "Where does the second window start, with this stride?",
    overlap=True,
)
def _(dy: Array, saved: Saved) -> Gradients:
    return _spread(dy, saved, _evenly, change={"stride": _settings(saved.options)[0]})


@backward_fault(
    "avg_pool2d:padding-not-cropped",
    "dx is cut from the corner of the padded gradient; the padding's rows and columns have to go first.",
    "In the padded input, where does pixel (0, 0) of x sit?",
    padding=1,
)
def _(dy: Array, saved: Saved) -> Gradients:
    return _spread(dy, saved, _evenly, crop=False)


@forward_fault(
    "avg_pool2d:forward-padding-not-counted",
    "forward divides border windows by the number of pixels inside the image; here padding counts.",
    "By which number is the corner's window divided?",
    padding=1,
)
def _(x: Array, **options: object) -> Array:
    inside, _ = ops.avg_pool2d_forward(np.ones_like(x), **options)
    return ops.avg_pool2d_forward(x, **options)[0] / inside


@backward_fault(
    "global_avg_pool2d:count-forgotten",
    "dx is not divided by the number of pixels.",
    "If one pixel grows by 1, by how much does the mean grow?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    return (np.broadcast_to(dy[:, :, None, None], saved.inputs[0].shape).copy(),)


@backward_fault(
    "global_avg_pool2d:height-squared",
    "dx is divided by H * H; the image has H * W pixels.",
    "Try an image that is not square.",
)
def _(dy: Array, saved: Saved) -> Gradients:
    height = saved.inputs[0].shape[2]
    return (np.broadcast_to(dy[:, :, None, None] / height**2, saved.inputs[0].shape).copy(),)


@backward_fault(
    "global_avg_pool2d:one-pixel-only",
    "only one pixel of each image gets gradient; all of them went into the mean.",
    "Which pixels does the mean depend on?",
)
def _(dy: Array, saved: Saved) -> Gradients:
    dx = np.zeros_like(saved.inputs[0])
    dx[:, :, 0, 0] = dy
    return (dx,)


@backward_fault(
    "global_avg_pool2d:not-broadcast",
    "dx has the shape (N, C, 1, 1), which would fit by luck of broadcasting; it has to have the shape of x.",
    "Compare dx.shape with x.shape.",
)
def _(dy: Array, saved: Saved) -> Gradients:
    _, _, h, w = saved.inputs[0].shape
    return (dy[:, :, None, None] / (h * w),)


@forward_fault(
    "global_avg_pool2d:forward-over-channels",
    "forward averages over channels and rows; the pixels are the last two axes.",
    "Which axes of (N, C, H, W) are left in y?",
    channels_are_columns=True,
)
def _(x: Array) -> Array:
    return x.mean(axis=(1, 2))
