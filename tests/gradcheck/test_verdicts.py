"""Each verdict where it belongs, with its reason, and only there."""

from __future__ import annotations

import numpy as np
import pytest

from minires import nn, ops
from minires.gradcheck import CATALOGUE, check_layer, check_op
from minires.gradcheck.configurations import draw
from minires.gradcheck.definitions import DEFINITIONS, run_backward, run_forward
from tests.gradcheck.right_cases import op_check


def check(like, inputs, options=None, **more):
    """minires' own op."""
    options = options or {}
    return check_op(
        lambda *arrays: run_forward(like, arrays, options),
        lambda dy, cache: run_backward(like, dy, cache),
        inputs,
        like=like,
        options=options,
        **more,
    )


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("like", DEFINITIONS)
def test_a_right_op_passes(like):
    inputs, options = draw(like, np.random.default_rng(3))
    report = check(like, inputs, options)
    assert report.verdict == "pass", str(report)
    assert report.diagnosis is None and report.offences == []
    assert all(identity.holds for identity in report.identities)


@pytest.mark.parametrize("like", ["conv2d", "linear", "batchnorm", "tanh", "avg_pool2d", "softmax_cross_entropy"])
def test_a_right_op_passes_by_the_complex_step(like):
    inputs, options = draw(like, np.random.default_rng(4))
    report = check(like, inputs, options, method="complex")
    assert report.verdict == "pass", str(report)
    assert max(row.error for row in report.tensors) < 1e-12


def test_one_entry_off_by_a_thousandth_fails():
    x, w = normal(4, 5), normal(3, 5, seed=1)

    def backward(dy, cache):
        dx, dw, _ = ops.linear_backward(dy, cache)
        dw[1, 2] *= 1.001
        return dx, dw

    report = check_op(ops.linear_forward, backward, (x, w), like="linear")
    assert report.verdict == "fail"
    assert report["dx"].verdict == "pass"
    assert report["dweight"].verdict == "fail" and report["dweight"].worst == "(1, 2)"
    assert "row 1" in report.diagnosis and "column 2" in report.diagnosis


# --- kink ----------------------------------------------------------------------------------------------------------


def test_an_input_on_a_switch_is_a_kink_and_not_a_fail():
    x = normal(4, 5)
    x[1, 2] = 0.0
    for report in (check("relu", (x,)), check_layer(nn.ReLU(), x), check_op(ops.relu_forward, ops.relu_backward, x)):
        assert report.verdict == "kink"
        assert report["dx"].left_out == 1
        assert "no derivative there" in report["dx"].reason


def test_a_relu_that_lets_gradient_pass_at_zero_is_a_kink_too():
    x = normal(4, 5)
    x[1, 2] = 0.0
    report = check_op(lambda x: (np.maximum(x, 0), x), lambda dy, x: dy * (x >= 0), x)
    assert report.verdict == "kink"


def test_a_wrong_gradient_beside_a_kink_still_fails():
    x = normal(4, 5)
    x[1, 2] = 0.0
    report = check_op(lambda x: (np.maximum(x, 0), x), lambda dy, x: 1.01 * dy * (x > 0), x)
    assert report.verdict == "fail"
    assert report["dx"].left_out == 1


def test_a_tie_in_a_max_pool_is_a_kink():
    x = normal(4, 2, 4, 6)
    x[0, 0, :2, :2] = 9.0
    report = check("max_pool2d", (x,), {"kernel_size": 2})
    assert report.verdict == "kink"
    assert report["dx"].left_out == 4


def test_an_exact_zero_under_the_complex_step_is_a_kink():
    x = normal(4, 5)
    x[1, 2] = 0.0
    assert check_layer(nn.ReLU(), x, method="complex").verdict == "kink"


def test_a_few_crossings_that_the_law_expects_are_left_out_and_counted():
    """Inputs squeezed towards 0 until some lie within the step; the law knows, since it uses their spread."""
    x = normal(40, 25)
    x.flat[0] = 3e-7
    report = check("relu", (x,))
    assert report.verdict == "pass"
    assert report["dx"].left_out == 1 and "left out at a kink" in report["dx"].reason


def test_more_crossings_than_the_law_expects_are_a_kink():
    x = normal(40, 25)
    x.flat[:10] = 3e-7
    report = check("relu", (x,))
    assert report.verdict == "kink"
    assert "the law expects" in report["dx"].reason


# --- roundoff ------------------------------------------------------------------------------------------------------


def test_tiny_gradients_beside_a_large_loss_are_roundoff():
    x = normal(4, 5)
    report = check_op(lambda x: (1e12 + np.sum(x**2), x), lambda dy, x: 2 * x * dy, x)
    assert report.verdict == "roundoff"
    assert "resolves" in report["dx"].reason


def test_a_function_in_float32_is_roundoff():
    report = check_op(
        lambda x: (np.tanh(x.astype(np.float32)), x), lambda dy, x: dy * (1 - np.tanh(x) ** 2), normal(4, 5)
    )
    assert report.verdict == "roundoff"
    assert "float32" in report["dx"].reason and "forward computes in float32" in report.diagnosis


@pytest.mark.parametrize("like", DEFINITIONS)
def test_a_right_op_in_float32_is_roundoff_and_not_a_fail(like):
    inputs, options = draw(like, np.random.default_rng(5))
    report = op_check(like, inputs, options, np.float32, like=like, options=options)
    assert report.verdict == "roundoff", str(report)
    assert "forward computes in float32" in report.diagnosis


@pytest.mark.parametrize(
    "fault", ["batchnorm:dx-mean-path-missing", "linear:dbias-mean", "conv2d:dx-kernel-not-flipped"]
)
def test_float32_does_not_hide_a_fault_of_the_catalogue(fault):
    fault = CATALOGUE[fault]
    inputs, options = draw(fault.op, np.random.default_rng(5), **fault.needs)

    def forward(*arrays):
        return fault.forward(*(a.astype(np.float32) for a in arrays), **options)

    def backward(dy, cache):
        return fault.backward(dy.astype(np.float32), cache)

    report = check_op(forward, backward, inputs, like=fault.op, options=options)
    assert report.verdict == "fail" and report.fault == fault.name


def test_numbers_that_float32_holds_exactly_do_not_make_a_float32_function():
    """Digits are multiples of 1/16, photographs come in float32; a ReLU or a pooling leaves them as they are."""
    rng = np.random.default_rng(0)
    sixteenths, photograph = rng.integers(-160, 160, (4, 2, 4, 6)) / 16 / 512, normal(4, 2, 4, 6).astype(np.float32)
    for x in (sixteenths, photograph):
        assert check_op(ops.relu_forward, ops.relu_backward, x).verdict in ("pass", "kink")
        report = check("relu", (x,))
        assert report.diagnosis is None and report.verdict in ("pass", "kink")
    single = check_op(lambda x: (x.astype(np.float32).astype(float), x), lambda dy, x: dy, photograph)
    assert single.verdict == "roundoff", "in disguise"


def test_float32_does_not_excuse_a_wrong_gradient():
    report = check_op(lambda x: (np.tanh(x.astype(np.float32)), x), lambda dy, x: dy * (1 - x**2), normal(4, 5))
    assert report.verdict == "fail"


def test_the_complex_step_resolves_what_differences_cannot():
    def forward(x):
        return 1e12 + np.sum(x * x), x

    assert check_op(forward, lambda dy, x: 2 * x * dy, normal(4, 5)).verdict == "roundoff"
    assert check_op(forward, lambda dy, x: 2 * x * dy, normal(4, 5), method="complex").verdict == "pass"
    assert check_op(forward, lambda dy, x: 2.01 * x * dy, normal(4, 5), method="complex").verdict == "fail"


# --- vacuous -------------------------------------------------------------------------------------------------------


def batchnorm_inputs(*shape):
    return normal(*shape), np.array([1.3, -0.7, 0.9]), np.array([0.2, 0.1, -0.4])


def test_ones_upstream_into_batchnorm_is_vacuous():
    inputs = batchnorm_inputs(6, 3, 2, 2)
    report = check("batchnorm", inputs, dy=np.ones((6, 3, 2, 2)))
    assert report.verdict == "vacuous"
    assert "dy is the same everywhere" in report["dx"].reason


def test_the_sum_of_a_batchnorm_as_loss_is_vacuous():
    """Ones upstream in disguise: nobody passes dy, but the loss is the sum of y."""
    x, gain, offset = batchnorm_inputs(6, 3, 2, 2)

    def forward(x):
        y, cache = ops.batchnorm_forward(x, gain, offset)
        return y.sum(), (cache, y.shape)

    def backward(dy, cache):
        return ops.batchnorm_backward(np.full(cache[1], dy), cache[0])[0]

    assert check_op(forward, backward, x).verdict == "vacuous"
    assert check_op(forward, lambda dy, cache: np.zeros(cache[1]), x).verdict == "vacuous"


@pytest.mark.parametrize("n", [1, 2])
def test_batchnorm_of_one_or_two_samples_is_vacuous(n):
    report = check("batchnorm", batchnorm_inputs(n, 3))
    assert report.verdict == "vacuous"
    assert "use 4 or more" in report["dx"].reason
    assert check_layer(nn.BatchNorm2d(3), normal(n, 3)).verdict == "vacuous"
    assert check_layer(nn.Sequential(nn.Linear(4, 3), nn.BatchNorm2d(3)), normal(n, 4)).verdict == "vacuous"


@pytest.mark.parametrize("like", ["linear", "conv2d", "softmax_cross_entropy", "mse"])
def test_a_batch_of_one_hides_sums_over_the_batch(like):
    inputs, options = draw(like, np.random.default_rng(0))
    inputs = (inputs[0][:1], *inputs[1:])
    options = {k: v[:1] if k in ("labels", "target") else v for k, v in options.items()}
    report = check(like, inputs, options)
    assert report.verdict == "vacuous"
    assert "batch of 1" in report.reason


def test_a_bias_under_batchnorm_is_vacuous_and_says_why():
    layer = nn.Sequential(nn.Conv2d(2, 3, 3, rng=0), nn.BatchNorm2d(3))
    report = check_layer(layer, normal(4, 2, 5, 4))
    assert report.verdict == "vacuous"
    assert report["d0.bias"].verdict == "vacuous" and "mean is taken off" in report["d0.bias"].reason
    assert report["d0.weight"].verdict == report["dx"].verdict == "pass"


def test_a_wrong_gradient_of_a_bias_under_batchnorm_fails():
    class Biased(nn.Conv2d):
        def _backward(self, dy, cache):
            dx = super()._backward(dy, cache)
            self.bias.add_grad(np.full_like(self.bias.value, 1e-3))
            return dx

    report = check_layer(nn.Sequential(Biased(2, 3, 3, rng=0), nn.BatchNorm2d(3)), normal(4, 2, 5, 4))
    assert report["d0.bias"].verdict == "fail"


def test_dead_units_are_vacuous():
    assert check_op(ops.relu_forward, ops.relu_backward, -1 - np.abs(normal(4, 5))).verdict == "vacuous"


def test_a_wrong_gradient_is_never_excused_by_a_constant_upstream():
    x = normal(4, 5)
    report = check_op(lambda x: (x**2, x), lambda dy, x: dy * x, x, dy=np.ones((4, 5)))
    assert report.verdict == "fail"


# --- a wrong forward -----------------------------------------------------------------------------------------------


def test_a_forward_normalized_with_other_statistics():
    x, gain, offset = batchnorm_inputs(6, 3, 2, 2)

    def forward(x, gain, offset):
        return ops.batchnorm_forward(x, gain, offset, mean=np.zeros(3), var=np.full(3, 4.0))

    report = check_op(forward, ops.batchnorm_backward, (x, gain, offset), like="batchnorm")
    assert report.verdict == "fail"
    assert "normalized with another mean and variance than the batch's" in report.diagnosis
    assert "y is what mean" in report.diagnosis and "and variance 4 give" in report.diagnosis


def test_a_forward_that_is_wrong_beside_a_backward_that_is_right():
    """The gradients fail against this forward; they are told to be those of the op."""

    def forward(x, w, b):
        y, cache = ops.linear_forward(x, w, b)
        return 2 * (y - b) + b, cache

    report = check_op(forward, ops.linear_backward, (normal(4, 5), normal(3, 5, seed=1), normal(3)), like="linear")
    assert "forward: y without its bias is 2 times what it should be" in report.diagnosis
    assert "dx and dweight are those of linear already" in report.diagnosis


@pytest.mark.parametrize(
    ("like", "options"),
    [("batchnorm", {"eps": 1e-3}), ("conv2d", {"stride": 2, "padding": 1}), ("leaky_relu", {"slope": 0.2})],
)
def test_forgotten_options_are_found(like, options):
    inputs = draw(like, np.random.default_rng(3), stride=1)[0]
    report = check_op(
        lambda *arrays: run_forward(like, arrays, options),
        lambda dy, cache: run_backward(like, dy, cache),
        inputs,
        like=like,
    )
    assert report.verdict == "fail"
    assert all(f'"{name}": {value:g}' in report.diagnosis for name, value in options.items()), report.diagnosis


# --- the report ----------------------------------------------------------------------------------------------------


def test_the_table_shows_what_was_checked_and_found():
    def backward(dy, cache):
        dx, dw, db = ops.linear_backward(dy, cache)
        return dx, dw, db / len(dy)

    report = check_op(ops.linear_forward, backward, (normal(4, 5), normal(3, 5, seed=1), normal(3)), like="linear")
    printed = str(report)
    for word in ("dweight", "3x5", "all 15", "verdict: fail", "diagnosis: linear:dbias-mean", "hint:"):
        assert word in printed
    assert max(map(len, printed.splitlines())) <= 120


def test_large_tensors_are_sampled_and_the_coverage_is_told():
    x, w = normal(4, 50), normal(40, 50, seed=1)
    report = check_op(ops.linear_forward, lambda dy, c: ops.linear_backward(dy, c)[:2], (x, w), max_entries=20)
    assert report.verdict == "pass"
    assert report["dweight"].coverage == "20 of 2000 +4"


def test_a_single_wrong_entry_of_a_sampled_tensor_shows_in_the_random_directions():
    x, w = normal(4, 50), normal(40, 50, seed=1)

    def backward(dy, cache):
        dx, dw, _ = ops.linear_backward(dy, cache)
        dw[-1, -1] *= 1.001
        return dx, dw

    report = check_op(ops.linear_forward, backward, (x, w), max_entries=5)
    assert report["dweight"].verdict == "fail" and report["dweight"].worst.startswith("line")


@pytest.mark.parametrize("seed", range(3))
def test_the_upstream_is_not_the_input_again(seed):
    """Whoever draws x from default_rng(seed) must not meet the same numbers in dy: a gate taken from dy would pass."""
    x = np.random.default_rng(seed).standard_normal((4, 5))
    report = check_op(lambda x: (np.maximum(x, 0), x), lambda dy, x: dy * (dy > 0), x, seed=seed)
    assert report["dx"].verdict == "fail"
