"""Convolution: as loops, then as one product of matrices."""

import numpy as np

from minires.course.checks import CallCheck, backward_checks, forward_checks
from minires.course.declaration import Assignment, Part
from minires.ops import col2im, im2col

SHAPES = {"3 x 3": ((2, 2, 4, 5), 3, 1, 0, 1), "stride 2, padding 1": ((3, 2, 5, 6), 3, 2, 1, 1)}
HIDDEN = {"other sizes": (None, (2, 3), 1, 0, 1), "pairs and dilation": (None, (3, 2), (1, 2), (1, 0), 2)}


def _window(rng: np.random.Generator, case: tuple) -> tuple:
    shape, kernel, stride, padding, dilation = case
    shape = shape or (int(rng.integers(2, 4)), int(rng.integers(2, 4)), *(int(s) for s in rng.permutation([6, 7])))
    return shape, kernel, {"stride": stride, "padding": padding, "dilation": dilation}


def _im2col(title: str, case: tuple, hidden: bool) -> CallCheck:
    def arguments(rng: np.random.Generator) -> tuple:
        shape, kernel, options = _window(rng, case)
        return (rng.standard_normal(shape), kernel), options

    return CallCheck(title, "im2col", im2col, arguments, hidden)


def _col2im(title: str, case: tuple, hidden: bool) -> CallCheck:
    def arguments(rng: np.random.Generator) -> tuple:
        shape, kernel, options = _window(rng, case)
        cols = im2col(np.zeros(shape), kernel, **options)
        return (rng.standard_normal(cols.shape), shape, kernel), options

    return CallCheck(title, "col2im", col2im, arguments, hidden)


def _both(make: object) -> list[CallCheck]:
    return [make(t, c, False) for t, c in SHAPES.items()] + [make(t, c, True) for t, c in HIDDEN.items()]


ASSIGNMENT = Assignment(
    "conv",
    "Convolution",
    "Write the two passes of a convolution: first as plain loops that follow the definition, then im2col and its "
    "adjoint col2im, and the convolution as one product of matrices. The loops are your own reference: hold the fast "
    'version against them. No check asks for groups other than 1, for the padding "same", or for '
    'the order "abc" of im2col.',
    parts=(
        Part("minires.ops:conv2d_forward", 4, forward_checks("conv2d", "conv2d_loops"), "conv2d_loops_forward"),
        Part(
            "minires.ops:conv2d_backward",
            6,
            backward_checks("conv2d", "conv2d_loops"),
            "conv2d_loops_backward",
            "Walk through the same loops as forward. Which x, which weight and which bias made y[n, o, i, j]?",
        ),
        Part("minires.ops:im2col", 2, _both(_im2col)),
        Part("minires.ops:col2im", 3, _both(_col2im), hint="A pixel that lies under several windows was copied."),
        Part("minires.ops:conv2d_forward", 2, forward_checks("conv2d")),
        Part("minires.ops:conv2d_backward", 3, backward_checks("conv2d")),
    ),
)
