"""The fully connected layer's wrong input. (Its numbers: test_gradients.py, and tests/torch.)"""

import numpy as np
import pytest

from minires import ops
from tests.refusals import refused

X, WEIGHT, BIAS = np.ones((4, 3)), np.ones((2, 3)), np.ones(2)


@pytest.mark.parametrize(
    ("argument", "was", "change"),
    [
        ("x", "(4, 3, 1)", {"x": X[..., None]}),
        ("x", "(3,)", {"x": X[0]}),
        ("x", "(0, 3)", {"x": X[:0]}),
        ("weight", "(2, 4)", {"weight": np.ones((2, 4))}),
        ("weight", "(3,)", {"weight": WEIGHT[0]}),
        ("bias", "(3,)", {"bias": np.ones(3)}),
        ("bias", "(1,)", {"bias": np.ones(1)}),
        ("bias", "()", {"bias": np.ones(())}),
        ("bias", "(4, 2)", {"bias": np.ones((4, 2))}),
    ],
)
def test_wrong_input_is_refused(argument, was, change):
    with refused(ValueError, argument, was):
        ops.linear_forward(**({"x": X, "weight": WEIGHT, "bias": BIAS} | change))
