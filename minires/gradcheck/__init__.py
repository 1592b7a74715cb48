"""Gradient checks that rate their own evidence, and say what is wrong."""

from minires.gradcheck.check import check_op

__all__ = ["check_op"]
