"""Convolution: settings that change places between forward and backward."""

from __future__ import annotations

from minires.backend import Array
from minires.gradcheck.faults.base import Gradients, Saved, backward_fault, replaced, right_backward
from minires.gradcheck.faults.conv import dweight_with, dx_with, settings_of


@backward_fault(
    "conv2d:dx-stride-dilation-swapped",
    "dx exchanges stride and dilation: windows move by the stride, the taps of one window stand dilation pixels apart.",
    "Which of the two is the distance between neighboring windows, and which between neighboring taps?",
    stride=2,
    dilation=1,
)
def _(dy: Array, saved: Saved) -> Gradients:
    s = settings_of(saved.options)
    wrong = dx_with(dy, saved, stride=s["dilation"], dilation=s["stride"])
    return replaced(right_backward(dy, saved), 0, wrong)


@backward_fault(
    "conv2d:dweight-stride-dilation-swapped",
    "dweight exchanges stride and dilation: windows move by the stride, the taps of one window stand dilation apart.",
    "Which pixel of x did tap (0, 1) meet for output pixel (0, 0)? And tap (0, 0) for output pixel (0, 1)?",
    stride=2,
    dilation=1,
)
def _(dy: Array, saved: Saved) -> Gradients:
    s = settings_of(saved.options)
    wrong = dweight_with(dy, saved, stride=s["dilation"], dilation=s["stride"])
    return replaced(right_backward(dy, saved), 1, wrong)
