"""What a wrong gradient looks like beside the right one: hypotheses that know nothing about the function.

Each takes a `Comparison` and returns a sentence if it explains *every* entry to within the bounds of the check, else
None. They are tried in the order of `HYPOTHESES`, and the first that fits is told. Where none fits, `located` says
where the error lies. An array of the wrong shape is left to `wrong_shape` alone.
"""

from __future__ import annotations

from collections.abc import Callable

from minires.gradcheck.hypotheses.added_terms import (
    made_of_itself,
    missing_constant,
    missing_xhat,
    multiple_along,
    multiple_of_dy,
    multiple_of_itself,
    scaled_with_penalty,
)
from minires.gradcheck.hypotheses.comparison import Comparison
from minires.gradcheck.hypotheses.contributions import (
    dy_alone,
    dy_itself,
    later_steps,
    map_transposed,
    matrix_transposed,
    one_of_several,
    path_missing,
    sum_of_another,
    sum_repeated,
    wrong_sum,
)
from minires.gradcheck.hypotheses.coupling import coupled, misplaced, right_for_first_step, sign_between
from minires.gradcheck.hypotheses.dependence import does_not_change, without_dy
from minires.gradcheck.hypotheses.elementwise import affine_in_x, clipped, derivative, known_derivative
from minires.gradcheck.hypotheses.entry_by_entry import (
    factor_where_wrong,
    inverted_mask,
    not_clipped,
    power,
    spread_too_far,
    times_function,
)
from minires.gradcheck.hypotheses.factors import constant_factor, factor_along_axis, product_of_factors
from minires.gradcheck.hypotheses.labels import counts_off, one_in_each_row, softmax_loss, target_off
from minires.gradcheck.hypotheses.normalization import statistics_are_constants, terms_of_normalization
from minires.gradcheck.hypotheses.other_inputs import other_input
from minires.gradcheck.hypotheses.parts import facts, mask_missing, place, wrong_part, zero_block
from minires.gradcheck.hypotheses.rearranged import flipped, rewritten, shifted, swapped, transposed
from minires.gradcheck.hypotheses.routes import (
    before_activation,
    by_other_outputs,
    counts_of_dy,
    direct_path,
    factor_for_each_output,
    looked_up,
    not_shared_out,
    reached_by,
    to_one_entry_only,
)
from minires.gradcheck.hypotheses.shapes import (
    all_zero,
    nearly_right,
    not_finite,
    single_precision,
    whole_numbers,
    wrong_shape,
)
from minires.gradcheck.hypotheses.statistics import statistic
from minires.gradcheck.hypotheses.upstream import (
    dy_rearranged,
    dy_scaled,
    dy_summed,
    last_step_forgotten,
    other_direction,
    part_of_dy,
)

__all__ = ["HYPOTHESES", "Comparison", "constant_factor", "explain", "located", "place"]

HYPOTHESES: tuple[Callable[[Comparison], str | None], ...] = (
    not_finite,
    all_zero,
    whole_numbers,
    constant_factor,
    single_precision,
    nearly_right,
    multiple_of_itself,
    made_of_itself,
    scaled_with_penalty,
    transposed,
    flipped,
    swapped,
    shifted,
    rewritten,
    softmax_loss,
    inverted_mask,
    without_dy,
    known_derivative,
    zero_block,
    mask_missing,
    spread_too_far,
    factor_where_wrong,
    dy_rearranged,
    part_of_dy,
    wrong_sum,
    statistic,
    sum_repeated,
    sum_of_another,
    dy_alone,
    dy_summed,
    path_missing,
    dy_itself,
    one_of_several,
    dy_scaled,
    last_step_forgotten,
    times_function,
    not_shared_out,
    factor_along_axis,
    product_of_factors,
    matrix_transposed,
    terms_of_normalization,
    statistics_are_constants,
    other_input,
    looked_up,
    misplaced,
    other_direction,
    map_transposed,
    later_steps,
    right_for_first_step,
    does_not_change,
    sign_between,
    before_activation,
    multiple_along,
    coupled,
    derivative,
    multiple_of_dy,
    affine_in_x,
    one_in_each_row,
    target_off,
    counts_off,
    clipped,
    not_clipped,
    power,
    direct_path,
    by_other_outputs,
    missing_constant,
    missing_xhat,
)
"""In the order in which they are tried: the strictest first."""

KNOWN: tuple[Callable[[Comparison], str | None], ...] = (
    counts_of_dy,
    to_one_entry_only,
    factor_for_each_output,
    reached_by,
)
"""What is known of an error where no hypothesis explains it, nor a product of two inputs: true, but no explanation."""


def explain(c: Comparison) -> str | None:
    """The first hypothesis that fits, in words."""
    if c.yours.shape != c.expected.shape:
        return wrong_shape(c)
    for hypothesis in HYPOTHESES:
        if (sentence := hypothesis(c)) is not None:
            return sentence
    return None


def located(c: Comparison) -> str:
    """Where an error lies that no hypothesis explains as a whole: what is right, and what is wrong with the rest."""
    if (found := wrong_part(c)) is None:
        return next((told for fact in KNOWN if (told := fact(c)) is not None), None) or facts(c)
    right, wrong, part = found
    if (sentence := explain(part)) is not None:
        return f"{sentence}; {c.name} is right for {right}" if right else sentence
    if not right:
        return facts(c)
    return f"{c.name} is right for {right}, wrong for {wrong}: only part of it is treated right"
