"""A step that several ranks share is the step of a single process: gradients, statistics and weights."""

import pytest

from .launch import needs_mpi, run

PROGRAMS = "tests.parallel.training_programs"

pytestmark = needs_mpi


def steps(size, kind="early", network="residual", shares="uneven", threads=1):
    """(largest difference from a single process, buckets that left while backward went on, in each step)."""
    code, output, _ = run(size, PROGRAMS, "steps", kind, network, shares, threads=threads)
    assert code == 0, output
    difference, early = output.split()[-2:]
    return float(difference), int(early)


@pytest.mark.parametrize("shares", ["uneven", "even"])
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_a_shared_step_is_that_of_a_single_process(size, shares):
    difference, early = steps(size, shares=shares)
    assert difference < 1e-12
    assert early >= 3


@pytest.mark.parametrize("network", ["perceptron", "shared"])
def test_layers_that_run_their_own_code_and_parameters_that_two_layers_share(network):
    assert steps(3, network=network)[0] < 1e-12


def test_gradients_can_wait_for_the_end_of_backward():
    difference, early = steps(2, "late")
    assert difference < 1e-12 and early == 0


@pytest.mark.parametrize("network", ["residual", "shared"])
def test_the_definition_is_shared_as_well(network):
    difference, early = steps(3, "definition", network)
    assert difference < 1e-12
    assert (early > 0) == (network == "residual")


@pytest.mark.parametrize("kind", ["gpu", "gpu definition"])
def test_arrays_of_a_gpu(kind):
    """The fake GPU stops the program where an array is taken to the host by accident."""
    difference, early = steps(2, kind)
    assert difference < 1e-12 and early >= 3


def test_a_batchnorm_that_cannot_be_summed_over_the_ranks_is_refused():
    code, output, _ = run(2, PROGRAMS, "observed")
    assert code != 0 and "a BatchNorm2d is observed" in output, output
    code, output, _ = run(2, PROGRAMS, "steps", "early", "own_norm", "even")
    assert code != 0 and "1 is a OwnNorm" in output, output


def test_threads_within_the_ranks():
    assert steps(2, threads=2)[0] < 1e-12


@pytest.mark.parametrize("kind", ["local", "without counts"])
def test_without_the_other_ranks_statistics_or_counts_it_is_another_step(kind):
    """The tests above can fail."""
    assert steps(2, kind)[0] > 1e-3
