"""Every op's gradients against two independent numerical derivatives, entry by entry, in float64."""

import numpy as np
import pytest

from tests.numeric import CENTRAL_TOLERANCE, COMPLEX_TOLERANCE, central_gradient, complex_gradient, relative_error
from tests.ops.cases import CASES


def gradients_and_function(case):
    """The op's own gradients for a random upstream dy, the plain function x -> y, the inputs and dy."""
    inputs = case.inputs()
    y, cache = case.forward(*inputs)
    dy = np.asarray(np.random.default_rng(1).standard_normal(np.shape(y)))
    gradients = case.gradients(dy, cache)
    return gradients, lambda *arrays: case.forward(*arrays)[0], inputs, dy


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_gradients_agree_with_central_differences(case):
    gradients, function, inputs, dy = gradients_and_function(case)
    for index in range(case.differentiable):
        expected = central_gradient(function, inputs, index, dy)
        assert relative_error(gradients[index], expected) <= CENTRAL_TOLERANCE, f"input {index}"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_gradients_agree_with_the_complex_step(case):
    gradients, function, inputs, dy = gradients_and_function(case)
    for index in range(case.differentiable):
        expected = complex_gradient(function, inputs, index, dy)
        assert relative_error(gradients[index], expected) <= COMPLEX_TOLERANCE, f"input {index}"
