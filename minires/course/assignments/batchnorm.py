"""Batch normalization: the backward pass that everybody gets wrong once."""

from minires.course.checks import backward_checks, forward_checks
from minires.course.declaration import Assignment, Part

ASSIGNMENT = Assignment(
    "batchnorm",
    "Batch normalization",
    "Write batch normalization for rows (N, C) and images (N, C, H, W). Draw the computation first: x reaches y along "
    "three paths.",
    parts=(
        Part("minires.ops:batchnorm_forward", 4, forward_checks("batchnorm")),
        Part(
            "minires.ops:batchnorm_backward",
            8,
            backward_checks("batchnorm"),
            hint="Moving one x moves the mean and the variance of its channel, and with them every y of the channel.",
        ),
    ),
)
