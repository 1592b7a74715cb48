"""The residual block: where two paths meet, gradients add up."""

import numpy as np

from minires.course import drivers
from minires.course.checks import HandCheck, backward_checks, forward_checks, judged
from minires.course.declaration import Assignment, Caller, Mistake, Outcome, Part
from minires.course.differences import compare_results

PARTS = {
    "minires.nn.residual:ResidualBlock._forward": "residual_block_forward",
    "minires.nn.residual:ResidualBlock._backward": "residual_block_backward",
}


def _block(title: str, channels: tuple[int, int, int], backward: bool, hidden: bool) -> HandCheck:
    """A basic block of nn with the student's passes in it, all else the engine's."""

    def judge(caller: Caller, seed: int) -> Outcome | str | None:
        from minires import nn

        rng = np.random.default_rng(seed)
        state = nn.BasicBlock(*channels).state_dict()
        state = {k: rng.uniform(0.5, 1.5, v.shape) * rng.choice([-1.0, 1.0], v.shape) for k, v in state.items()}
        state = {k: np.abs(v) if k.endswith("running_var") else v for k, v in state.items()}
        size = int(rng.integers(3, 6)) * 2
        x = rng.standard_normal((4, channels[0], size, 6))
        dy = rng.standard_normal((4, channels[1], size // channels[2], 6 // channels[2])) if backward else None
        yours = caller.call("driver:block", PARTS, state, channels, x, dy)
        right = drivers.block({}, PARTS, state, channels, x, dy)
        if not isinstance(yours, dict):
            return "the block does not run"
        kept = {k: v for k, v in right.items() if (k != "y") == backward}
        found = compare_results({k: yours.get(k) for k in kept}, kept, "the block's", 1e-8)
        return judged(title, found, hidden)

    return HandCheck(title, judge, hidden)


def _blocks(backward: bool) -> list[HandCheck]:
    return [
        _block("identity shortcut", (3, 3, 1), backward, False),
        _block("more channels, stride 2", (2, 4, 2), backward, False),
        _block("other sizes", (4, 4, 1), backward, True),
        _block("other sizes, stride 2", (3, 6, 2), backward, True),
    ]


ASSIGNMENT = Assignment(
    "residual",
    "The residual block",
    "First y = x + relu(x W1^T) W2^T, a block of two matrices, with minires.ops for its pieces. Then the two passes of "
    "every residual block of minires.nn: they are methods, and self is the block. self.branch names its layers in "
    "their order (each has forward and backward), self.shortcut is a layer or None, self.after_sum names the relu "
    "behind the sum or is None, self.branch_scale is a number. The layers keep their own caches.",
    parts=(
        Part("minires.gradcheck.composites:residual_forward", 2, forward_checks("residual")),
        Part(
            "minires.gradcheck.composites:residual_backward",
            4,
            backward_checks("residual"),
            hint="x reaches y by two ways.",
        ),
        Part("minires.nn.residual:ResidualBlock._forward", 3, _blocks(False), "residual_block_forward"),
        Part(
            "minires.nn.residual:ResidualBlock._backward",
            5,
            _blocks(True),
            "residual_block_backward",
            "The lines of forward in reverse. What does the shortcut get: dy, or what came out of the branch?",
        ),
    ),
    mistakes=(
        Mistake(
            "shortcut left out",
            "residual_block_forward",
            "y = y + shortcut",
            "pass",
            spoils=("residual_block_backward",),
        ),
        Mistake(
            "shortcut's gradient left out", "residual_block_backward", "dx = dx + self.shortcut.backward(dy)", "pass"
        ),
        Mistake(
            "shortcut gets the branch's gradient",
            "residual_block_backward",
            "self.shortcut.backward(dy)",
            "self.shortcut.backward(dx)",
        ),
        Mistake(
            "relu behind the sum skipped",
            "residual_block_backward",
            "dy = getattr(self, self.after_sum).backward(dy)",
            "pass",
        ),
    ),
    needs=("linear_softmax", "conv", "batchnorm"),
)
