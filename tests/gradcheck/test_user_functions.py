"""What a student's function may do wrong: each gets a sentence that says what to change."""

from __future__ import annotations

import numpy as np
import pytest

from minires import gradcheck, ops
from minires.gradcheck import check_op

X = np.random.default_rng(0).standard_normal((4, 5))
W = np.random.default_rng(1).standard_normal((3, 5))
B = np.random.default_rng(2).standard_normal(3)


def forward(x, w, b):
    return x @ w.T + b, (x, w)


def backward(dy, cache):
    x, w = cache
    return dy @ w, dy.T @ x, dy.sum(axis=0)


def raises(kind, words, forward=forward, backward=backward, inputs=(X, W, B), **more):
    with pytest.raises(kind, match=words):
        check_op(forward, backward, inputs, **more)


def test_the_pair_itself_passes():
    assert check_op(forward, backward, (X, W, B), like="linear").verdict == "pass"


# --- what cannot be checked at all ---------------------------------------------------------------------------------


def test_whole_numbers_as_inputs():
    raises(
        TypeError,
        r"inputs\[0\] holds whole numbers \(int64\).*astype.*labels",
        inputs=(np.arange(20).reshape(4, 5), W, B),
    )


def test_inputs_that_are_not_numbers_or_not_there():
    raises(TypeError, "expected an array of float64", inputs=(np.array(["a"]), W, B))
    raises(ValueError, "inputs is empty", inputs=())
    raises(ValueError, "it is empty", inputs=(np.zeros((0, 5)), W, B))
    raises(ValueError, "NaN or infinite", inputs=(X * np.nan, W, B))


def test_a_forward_without_a_cache():
    raises(ValueError, r"one array of shape \(4, 3\); expected \(y, cache\): return what", lambda x, w, b: x @ w.T + b)
    raises(ValueError, "nothing.*is there a return", lambda x, w, b: None)
    raises(ValueError, "3 values.*into one cache", lambda x, w, b: (x @ w.T + b, x, w))


def test_a_cache_that_was_forgotten():
    raises(ValueError, "raised TypeError.*cache that forward returned is None", lambda x, w, b: (x @ w.T + b, None))


def test_a_forward_or_backward_that_raises():
    raises(ValueError, r"forward\(shape \(4, 5\).*raised ValueError", lambda x, w, b: (x @ w + b, None))
    raises(ValueError, r"backward\(dy of shape \(4, 3\), cache\) raised", backward=lambda dy, cache: dy @ cache)


def test_a_forward_that_returns_whole_numbers():
    raises(TypeError, "y of dtype int64.*astype", lambda x, w, b: ((x @ w.T).astype(int), None))


def test_too_few_and_too_many_gradients():
    raises(ValueError, "2 gradients for 3 inputs, too few", backward=lambda dy, cache: backward(dy, cache)[:2])
    raises(ValueError, "1 gradient for 3 inputs, too few", backward=lambda dy, cache: backward(dy, cache)[0])
    raises(ValueError, "4 gradients for 3 inputs, too many", backward=lambda dy, cache: (*backward(dy, cache), dy))
    raises(ValueError, "a dict with dx.*tuple", backward=lambda dy, cache: {"dx": dy})
    raises(TypeError, "gradient 1 that backward returned", backward=lambda dy, cache: (dy, "dw", dy))


def test_a_forward_that_draws_random_numbers():
    rng = np.random.default_rng(0)
    raises(ValueError, "two different results.*of a fixed seed", lambda x, w, b: (x @ w.T + rng.random(), None))


def test_settings_that_do_not_fit():
    raises(ValueError, "like is 'conv'; expected one of conv2d", like="conv")
    raises(ValueError, "options holds 'pad', which conv2d does not know", like="conv2d", options={"pad": 1})
    raises(
        ValueError, r'like="softmax_cross_entropy" needs options=\{"labels"', inputs=(X,), like="softmax_cross_entropy"
    )
    raises(ValueError, "3 inputs for relu; expected x", like="relu")
    raises(
        ValueError,
        'do not fit like="linear": weight has shape',
        inputs=(X, W.T, B),
        forward=lambda x, w, b: (x @ w + b, (x, w)),
        like="linear",
    )
    raises(ValueError, "method is 'exact'", method="exact")
    raises(ValueError, r"dy has shape \(3,\); expected \(4, 3\)", dy=np.ones(3))


def test_a_forward_that_drops_the_imaginary_part():
    def real(x):
        y = np.zeros(x.shape)
        y[...] = np.abs(x)
        return y, x

    raises(ValueError, "complex numbers.*dtype=x.dtype", real, lambda dy, x: dy, (X,), method="complex")


def test_a_forward_that_is_not_analytic():
    """np.var of complex numbers is a real number: the complex step then misses the path through the variance."""

    def batchnorm(x):
        return (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-5), x.real

    def backward(dy, x):
        return ops.batchnorm_backward(dy, ops.batchnorm_forward(x, np.ones(5), np.zeros(5))[1])[0]

    assert check_op(batchnorm, backward, X).verdict == "pass"
    raises(ValueError, "not analytic", batchnorm, backward, (X,), method="complex")


# --- what is merely wrong ------------------------------------------------------------------------------------------


def fails(words, forward=forward, backward=backward, inputs=(X, W, B), **more):
    report = check_op(forward, backward, inputs, **more)
    assert report.verdict == "fail"
    assert words in report.diagnosis, report.diagnosis
    return report


def test_nan_in_the_output_and_in_a_gradient():
    fails("forward returns 20 NaN", lambda x: (x / 0 * 0, x), lambda dy, x: dy, (X,))
    fails("dx holds 20 NaN", lambda x: (2 * x, x), lambda dy, x: dy * np.nan, (X,))


def test_a_gradient_of_another_shape():
    fails("transposed", backward=lambda dy, c: (dy @ c[1], c[0].T @ dy, dy.sum(axis=0)))
    fails("not summed over axis 0", backward=lambda dy, c: (dy @ c[1], dy.T @ c[0], dy))
    fails("axes of length 1", backward=lambda dy, c: (dy @ c[1], dy.T @ c[0], dy.sum(axis=0, keepdims=True)))
    fails("db is missing", backward=lambda dy, c: (dy @ c[1], dy.T @ c[0], None))


def test_gradients_in_the_wrong_order():
    report = fails(
        "wrong order",
        lambda x, z: (x * x * z, (x, z)),
        lambda dy, c: (dy * c[0] ** 2, 2 * dy * c[0] * c[1]),
        (X, X + 3),
    )
    assert report["dx"].verdict == report["dz"].verdict == "fail"


def test_a_factor_of_n_over_n_minus_one_is_a_variance_only_where_there_is_one():
    """Five samples of four classes: a gradient divided by K, or by N - 1, is 1.25 times the right one."""
    rng = np.random.default_rng(3)
    options = {"labels": rng.integers(0, 4, 5)}
    logits = rng.standard_normal((5, 4))

    def backward(dy, cache):
        return 5 / 4 * ops.softmax_cross_entropy_backward(dy, cache)

    def forward(logits):
        return ops.softmax_cross_entropy_forward(logits, **options)

    report = check_op(forward, backward, [logits], like="softmax_cross_entropy", options=options)
    assert report.diagnosis.endswith(": N / K, the samples over the classes")
    x, gain, shift = rng.standard_normal((5, 4)), rng.standard_normal(4), rng.standard_normal(4)

    def too_much(dy, cache):
        dx, dweight, dbias = ops.batchnorm_backward(dy, cache)
        return 5 / 4 * dx, dweight, dbias

    report = check_op(ops.batchnorm_forward, too_much, [x, gain, shift], like="batchnorm")
    assert report.diagnosis.endswith(": m / (m - 1), biased against unbiased variance")


def test_dy_changed_in_place():
    def relu_backward(dy, x):
        dy[x <= 0] = 0
        return dy

    report = fails("dy in place", lambda x: (np.maximum(x, 0), x), relu_backward, (X,))
    assert report["dx"].verdict == "pass", "the numbers are right; what backward does besides is not"
    report = fails("relu:dy-in-place", lambda x: (np.maximum(x, 0), x), relu_backward, (X,), like="relu")
    assert report.fault == "relu:dy-in-place"


def test_input_changed_in_place_by_forward_or_by_backward():
    def in_place(x):
        x -= 1
        return x**2, x

    def backward_in_place(dy, x):
        x *= 2 * dy
        return x

    fails("forward changes its input in place", in_place, lambda dy, x: 2 * x * dy, (X,))
    fails("backward changes the inputs", lambda x: (x**2, x), backward_in_place, (X,))


def test_a_cache_that_is_used_up():
    def forward(x):
        return x**2, [2 * x]

    def backward(dy, cache):
        cache[0] *= dy
        return cache[0]

    fails("second backward with the same cache", forward, backward, (X,))


def test_the_cache_of_the_last_call():
    kept = {}

    def forward(x):
        kept["x"] = x
        return x**2, None

    fails("the last forward call", forward, lambda dy, cache: 2 * kept["x"] * dy, (X,))


def test_a_backward_that_ignores_dy():
    fails("whatever dy is", lambda x: (np.tanh(x), x), lambda dy, x: 1 - np.tanh(x) ** 2, (X,))


def test_a_backward_that_is_not_linear_in_dy():
    fails("dy is more than a factor", lambda x: (np.maximum(x, 0), x), lambda dy, x: dy * (dy > 0), (X,))


def test_a_loss_may_ignore_dy_but_it_is_noted():
    labels = np.array([0, 3, 1, 2])

    def loss(x):
        value, cache = ops.softmax_cross_entropy_forward(x, labels)
        return value, ops.softmax_cross_entropy_backward(1.0, cache)

    report = check_op(loss, lambda dy, dx: dx, X, like="softmax_cross_entropy", options={"labels": labels})
    assert report.verdict == "pass"
    assert any("ignores dy" in note for note in report.notes)


def test_overflow_for_large_inputs():
    def tanh(x):
        return (np.exp(x) - np.exp(-x)) / (np.exp(x) + np.exp(-x)), x

    report = fails("overflow", tanh, lambda dy, x: dy * (1 - np.tanh(x) ** 2), (X,), like="tanh")
    assert report.fault == "tanh:forward-unstable"


# --- what is all right ---------------------------------------------------------------------------------------------


def test_float32_inputs_are_converted_and_it_is_said():
    report = check_op(forward, backward, [a.astype(np.float32) for a in (X, W, B)], like="linear")
    assert report.verdict == "pass" and "converted from float32" in report.notes[0]


def test_a_single_array_or_a_tuple_of_one_both_ways():
    for given in (X, (X,), [X]):
        for back in (lambda dy, x: 2 * x * dy, lambda dy, x: (2 * x * dy,)):
            assert check_op(lambda x: (x**2, x), back, given).verdict == "pass"


def test_an_absent_bias_three_ways():
    for inputs in ((X, W), (X, W, None)):
        assert check_op(ops.linear_forward, ops.linear_backward, inputs, like="linear").verdict == "pass"
    assert check_op(ops.linear_forward, lambda dy, c: ops.linear_backward(dy, c)[:2], (X, W)).verdict == "pass"


def test_the_callers_arrays_are_left_alone():
    given = X.copy()

    def rude(x):
        x *= 0
        return x + 1, x

    check_op(rude, lambda dy, x: dy * 0, (given,))
    assert np.array_equal(given, X)


def test_the_example_of_the_module():
    """Ten lines of anybody's own code, as the documentation shows them."""
    lines = gradcheck.__doc__.split("    from minires import gradcheck\n")[1].split("\n\n`check_op`")[0]
    code = "from minires import gradcheck\n" + "\n".join(line[4:] for line in lines.splitlines())
    printed = []
    exec(compile(code, "example", "exec"), {"rng": np.random.default_rng(0), "print": lambda r: printed.append(str(r))})
    assert "verdict: fail" in printed[0]
    assert "diagnosis: linear:dbias-mean: dbias is the mean of dy over the batch" in printed[0]
