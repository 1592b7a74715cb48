"""Every fault of the catalogue is caught and named, alone and in pairs; right functions are not blamed.

The full evidence (20 random configurations of each fault, 2,000 right ones) is `python -m tests.gradcheck.evidence`.
"""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from minires import ops
from minires.gradcheck import CATALOGUE, check_op
from minires.gradcheck.configurations import draw
from minires.gradcheck.definitions import DEFINITIONS, run_backward, run_forward
from minires.gradcheck.faults.base import right_backward
from minires.gradcheck.rules import RULES


def plant(fault, seed=0):
    rng = np.random.default_rng([seed, zlib.crc32(fault.name.encode())])
    inputs, options = draw(fault.op, rng, **fault.needs)
    return check_op(
        lambda *arrays: fault.forward(*arrays, **options), fault.backward, inputs, like=fault.op, options=options
    )


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_planted_fault_is_caught_and_named(name):
    report = plant(CATALOGUE[name])
    assert report.verdict == "fail"
    assert report.fault == name
    assert report.diagnosis.startswith(name) and report.hint == CATALOGUE[name].hint


def test_the_catalogue_covers_the_field():
    assert len(CATALOGUE) >= 60
    assert {fault.op for fault in CATALOGUE.values()} == set(DEFINITIONS)
    for fault in CATALOGUE.values():
        assert fault.rule is None or fault.rule in RULES
        assert fault.sentence.endswith(".") and fault.hint and fault.hint != fault.sentence
    assert len({fault.hint for fault in CATALOGUE.values()}) > 60


def two_at_once(first, second, inputs, options, mix):
    """A function with both faults; mix(dx of the first, ... of the second, ... of the right one)."""

    def backward(dy, saved):
        right = right_backward(dy, saved)
        pairs = zip(CATALOGUE[first].backward(dy, saved), CATALOGUE[second].backward(dy, saved), right, strict=True)
        return tuple(mix(a, b, c) for a, b, c in pairs)

    forward = CATALOGUE[first].forward
    op = CATALOGUE[first].op
    return check_op(lambda *a: forward(*a, **options), backward, inputs, like=op, options=options)


PAIRS = [
    ("conv2d:dx-kernel-not-flipped", "conv2d:dweight-batch-mean"),
    ("conv2d:dbias-pixel-mean", "conv2d:dx-off-by-one"),
    ("linear:dweight-batch-mean", "linear:dbias-mean"),
    ("batchnorm:dx-mean-path-missing", "batchnorm:dweight-from-x"),
    ("batchnorm:dx-gain-forgotten", "batchnorm:dbias-mean"),
    ("residual:shortcut-forgotten", "residual:gate-forgotten"),
]


@pytest.mark.parametrize("pair", PAIRS, ids=" + ".join)
def test_two_faults_at_once_are_both_named(pair):
    """In different gradients, or with errors that add up: a + b - right is either."""
    inputs, options = draw(CATALOGUE[pair[0]].op, np.random.default_rng(1))
    report = two_at_once(*pair, inputs, options, lambda a, b, right: a + b - right)
    assert report.verdict == "fail"
    assert set(report.fault.split(" + ")) == set(pair)
    assert "two faults at once" in report.diagnosis


def test_a_fault_times_a_factor_is_both():
    inputs, options = draw("conv2d", np.random.default_rng(2))
    fault = CATALOGUE["conv2d:dx-kernel-not-flipped"]

    def backward(dy, saved):
        dx, dw, db = fault.backward(dy, saved)
        return 2 * dx, dw, db

    report = check_op(lambda *a: fault.forward(*a, **options), backward, inputs, like="conv2d", options=options)
    assert report.fault == fault.name and "dx is 2 times what it should be" in report.diagnosis


def test_forward_and_backward_of_a_wrong_function_agree_and_are_still_caught():
    """A consistent pair that is not the op: finite differences see nothing, the definition does."""

    def forward(x, w):
        return ops.conv2d_forward(x, w[:, :, ::-1, ::-1])

    def backward(dy, cache):
        dx, dw, _ = ops.conv2d_backward(dy, cache)
        return dx, dw[:, :, ::-1, ::-1]

    inputs = draw("conv2d", np.random.default_rng(0))[0][:2]
    assert check_op(forward, backward, inputs).verdict == "pass"
    report = check_op(forward, backward, inputs, like="conv2d")
    assert report.verdict == "fail" and report["dx"].verdict == report["dweight"].verdict == "pass"
    assert report.fault == "conv2d:forward-kernel-flipped"


@pytest.mark.parametrize("op", DEFINITIONS)
def test_ten_right_functions_are_not_blamed(op):
    for seed in range(10):
        inputs, options = draw(op, np.random.default_rng([seed, 7]))
        report = check_op(
            lambda *a, options=options: run_forward(op, a, options),
            lambda dy, cache: run_backward(op, dy, cache),
            inputs,
            like=op,
            options=options,
            max_entries=30,
        )
        assert report.verdict in ("pass", "kink"), str(report)


def test_a_fault_is_named_where_there_is_no_bias():
    (x, w, _), options = draw("conv2d", np.random.default_rng(5))
    fault = CATALOGUE["conv2d:dweight-flipped"]
    report = check_op(
        lambda *a: fault.forward(*a, **options),
        lambda dy, c: fault.backward(dy, c),
        (x, w),
        like="conv2d",
        options=options,
    )
    assert report.fault == fault.name

    def scaled(dy, saved):
        dx, dw = fault.backward(dy, saved)
        return dx, 1.7 * dw

    report = check_op(lambda *a: fault.forward(*a, **options), scaled, (x, w), like="conv2d", options=options)
    assert report.fault == fault.name and "1.7 times" in report.diagnosis


def test_bad_conduct_and_wrong_numbers_are_both_told():
    def backward(dy, y):
        dy *= y > 0
        dy *= 2
        return dy

    x = np.random.default_rng(1).standard_normal((4, 5))
    report = check_op(ops.relu_forward, backward, x, like="relu")
    assert report.fault == "relu:dy-in-place"
    assert "Besides, dx is 2 times what it should be" in report.diagnosis
