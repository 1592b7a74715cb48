"""What a wrong gradient looks like beside the right one: hypotheses that know nothing about the function.

Each takes a `Comparison` and returns a sentence if it explains *every* entry to within the bounds of the check, else
None. They are tried in the order of `HYPOTHESES`, and the first that fits is told. Where none fits, `place` says where
the error lies. An array of the wrong shape is left to `wrong_shape` alone.
"""

from __future__ import annotations

from collections.abc import Callable

from minires.gradcheck.hypotheses.added_terms import missing_constant, missing_xhat, multiple_of_dy
from minires.gradcheck.hypotheses.comparison import Comparison
from minires.gradcheck.hypotheses.factors import constant_factor, factor_along_axis
from minires.gradcheck.hypotheses.parts import part_right, place, zero_block
from minires.gradcheck.hypotheses.rearranged import flipped, shifted, swapped, transposed
from minires.gradcheck.hypotheses.shapes import all_zero, not_finite, single_precision, whole_numbers, wrong_shape

__all__ = ["HYPOTHESES", "Comparison", "constant_factor", "explain", "place"]

HYPOTHESES: tuple[Callable[[Comparison], str | None], ...] = (
    not_finite,
    all_zero,
    whole_numbers,
    constant_factor,
    single_precision,
    transposed,
    flipped,
    swapped,
    shifted,
    zero_block,
    part_right,
    factor_along_axis,
    multiple_of_dy,
    missing_constant,
    missing_xhat,
)


def explain(c: Comparison) -> str | None:
    """The first hypothesis that fits, in words."""
    if c.yours.shape != c.expected.shape:
        return wrong_shape(c)
    for hypothesis in HYPOTHESES:
        if (sentence := hypothesis(c)) is not None:
            return sentence
    return None
