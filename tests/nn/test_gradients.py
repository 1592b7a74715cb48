"""Gradients of every layer, block and whole small network, by central differences and by the complex step."""

import numpy as np
import pytest

from tests.nn.cases import CASES, NETWORKS
from tests.nn.derivatives import Probe, central_errors, complex_errors
from tests.numeric import CENTRAL_TOLERANCE, COMPLEX_TOLERANCE

LABELS = np.array([0, 4, 2, 2])
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
every_network = pytest.mark.parametrize("case", NETWORKS, ids=lambda case: case.name)


def assert_small(errors, tolerance):
    for name, error, size in errors:
        assert size > 0, f"vacuous: the gradient of {name} is 0 everywhere"
        assert error <= tolerance * size, f"{name}: relative error {error / size:.1e}"


def check_central(case, labels=None):
    assert_small(central_errors(Probe(case.layer(), case.input(), labels)), CENTRAL_TOLERANCE)


def check_complex(case, labels=None):
    gradients = Probe(case.layer(), case.input(), labels).gradients()
    probe = Probe(case.layer("complex128"), case.input("complex128"), labels)
    assert_small(complex_errors(probe, gradients), COMPLEX_TOLERANCE)


@every_case
def test_gradients_agree_with_central_differences(case):
    check_central(case)


@every_case
def test_gradients_agree_with_the_complex_step(case):
    check_complex(case)


@every_network
def test_gradients_through_the_loss_agree_with_central_differences(case):
    check_central(case, LABELS)


@every_network
def test_gradients_through_the_loss_agree_with_the_complex_step(case):
    check_complex(case, LABELS)
