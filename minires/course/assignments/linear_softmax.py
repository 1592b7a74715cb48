"""A linear layer and the loss of a classifier: the first two ops by hand."""

from minires.course.checks import backward_checks, forward_checks
from minires.course.declaration import Assignment, Part

ASSIGNMENT = Assignment(
    "linear_softmax",
    "A linear layer and softmax cross-entropy",
    "Write the two passes of a linear layer and of softmax cross-entropy. A forward returns (y, cache): put into the "
    "cache whatever backward will need. A backward gets dy, the gradient of the loss with respect to y, and returns "
    "one gradient for each input, of that input's shape. Derive each on paper first; write down the shapes.",
    parts=(
        Part("minires.ops:linear_forward", 2, forward_checks("linear")),
        Part(
            "minires.ops:linear_backward",
            4,
            backward_checks("linear"),
            hint="How often is one bias used in one batch? And one weight? Gradients of all uses add up.",
        ),
        Part(
            "minires.ops:softmax_cross_entropy_forward",
            3,
            forward_checks("softmax_cross_entropy"),
            hint="exp overflows at 710. A constant that is subtracted from all logits of a row changes nothing else.",
        ),
        Part("minires.ops:softmax_cross_entropy_backward", 3, backward_checks("softmax_cross_entropy")),
    ),
)
