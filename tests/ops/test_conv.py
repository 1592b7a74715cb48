"""The fast convolution against its definition, im2col, and what threads may and may not change."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minires import ops, parallel
from minires.ops.im2col import conv2d_im2col_backward, conv2d_im2col_forward
from tests.numeric import relative_error
from tests.ops.geometry import convolutions
from tests.refusals import refused

TOLERANCE = 1e-12


def draw(*shapes, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def assert_close(got, expected):
    """To 1e-12 of the largest entry; a window that never meets x gives zeros, here as there."""
    assert got.shape == expected.shape
    assert np.max(np.abs(got - expected)) <= TOLERANCE * np.max(np.abs(expected))


def assert_same_convolution(x, weight, bias, options):
    y, cache = ops.conv2d_forward(x, weight, bias, **options)
    expected, book = conv2d_im2col_forward(x, weight, bias, **options)
    assert_close(y, expected)
    (dy,) = draw(y.shape, seed=1)
    dx, dweight, dbias = ops.conv2d_backward(dy, cache)
    expected_dx, expected_dweight, expected_dbias = conv2d_im2col_backward(dy, book)
    assert_close(dx, expected_dx)
    assert_close(dweight, expected_dweight)
    assert (dbias is None) == (bias is None)
    if bias is not None:
        assert_close(dbias, expected_dbias)


@settings(max_examples=300)
@given(convolutions(), st.booleans())
def test_equals_im2col_for_any_geometry(convolution, has_bias):
    x_shape, weight_shape, options = convolution
    x, weight, bias = draw(x_shape, weight_shape, weight_shape[:1])
    assert_same_convolution(x, weight, bias if has_bias else None, options)


@pytest.mark.parametrize("stride", [1, 2])
def test_equals_im2col_for_a_batch_in_several_shares_and_pieces(stride, monkeypatch):
    """40 images make about 5 MB of columns: more than one piece, and more than one thread."""
    monkeypatch.setenv("MINIRES_NUM_THREADS", "3")
    monkeypatch.setattr(parallel, "SMALL_BYTES", 0)
    x, weight, bias = draw((40, 8, 25, 26), (6, 8, 3, 3), (6,))
    assert_same_convolution(x, weight, bias, {"stride": stride, "padding": 1, "dilation": 1})


def run_with_threads(monkeypatch, number, dtype=np.float32):
    monkeypatch.setenv("MINIRES_NUM_THREADS", str(number))
    monkeypatch.setattr(parallel, "SMALL_BYTES", 0)  # small work is shared too
    x, weight, bias = draw((20, 8, 25, 26), (6, 8, 3, 3), (6,), dtype=dtype)
    y, cache = ops.conv2d_forward(x, weight, bias, padding=1)
    (dy,) = draw(y.shape, seed=1, dtype=dtype)
    return y, *ops.conv2d_backward(dy, cache)


@pytest.mark.parametrize("threads", [2, 3, 5])
def test_the_number_of_threads_changes_rounding_alone(monkeypatch, threads):
    """Float64: the sums over a batch are put together in another order, no more."""
    alone = run_with_threads(monkeypatch, 1, np.float64)
    shared = run_with_threads(monkeypatch, threads, np.float64)
    for got, expected in zip(shared, alone, strict=True):
        assert relative_error(got, expected) <= 1e-13


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_same_number_of_threads_gives_the_same_bits(monkeypatch, threads):
    first = run_with_threads(monkeypatch, threads)
    for _ in range(3):
        for got, expected in zip(run_with_threads(monkeypatch, threads), first, strict=True):
            assert got.tobytes() == expected.tobytes()


def test_more_threads_than_images(monkeypatch):
    monkeypatch.setattr(parallel, "SMALL_BYTES", 0)
    x, weight = draw((2, 16, 48, 48), (4, 16, 3, 3))
    assert_same_convolution(x, weight, None, {"stride": 1, "padding": 1, "dilation": 1})


@pytest.mark.parametrize("value", ["0", "-1", "two", ""])
def test_a_nonsense_number_of_threads_is_refused(monkeypatch, value):
    monkeypatch.setenv("MINIRES_NUM_THREADS", value)
    x, weight = draw((8, 16, 32, 32), (4, 16, 3, 3))
    with refused(ValueError, "MINIRES_NUM_THREADS", repr(value)):
        ops.conv2d_forward(x, weight)


def test_several_callers_at_once_do_not_disturb_each_other(monkeypatch):
    """Scratch memory is one per thread: four callers with different shapes, each with the result it gets alone."""
    monkeypatch.setenv("MINIRES_NUM_THREADS", "2")
    monkeypatch.setattr(parallel, "SMALL_BYTES", 0)
    jobs = [draw((10 + i, 4 + i, 24, 25), (5, 4 + i, 3, 3), seed=i) for i in range(4)]
    alone = [ops.conv2d_forward(x, weight, padding=1)[0] for x, weight in jobs]
    wrong = []

    def work(job, expected):
        for _ in range(5):
            if not np.array_equal(ops.conv2d_forward(*job, padding=1)[0], expected):
                wrong.append(job[0].shape)

    threads = [threading.Thread(target=work, args=pair) for pair in zip(jobs, alone, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_result_does_not_share_memory_with_scratch_or_inputs():
    """A second call must not change what the first one returned."""
    x, weight = draw((4, 3, 6, 5), (4, 3, 3, 3))
    y, _ = ops.conv2d_forward(x, weight)
    kept = y.copy()
    ops.conv2d_forward(-x, weight)
    assert np.array_equal(y, kept)


X, WEIGHT, BIAS = draw((4, 3, 5, 6), (2, 3, 3, 3), (2,))


@pytest.mark.parametrize(
    ("error", "argument", "was", "change"),
    [
        (ValueError, "x", "(3, 5, 6)", {"x": X[0]}),
        (ValueError, "x", "(0, 3, 5, 6)", {"x": X[:0]}),
        (ValueError, "weight", "(2, 3, 3)", {"weight": WEIGHT[..., 0]}),
        (ValueError, "weight", "(2, 2, 3, 3)", {"weight": WEIGHT[:, :2]}),
        (ValueError, "weight", "(0, 3, 3, 3)", {"weight": WEIGHT[:0], "bias": None}),
        (ValueError, "bias", "(3,)", {"bias": np.zeros(3)}),
        (ValueError, "bias", "(2, 1)", {"bias": np.zeros((2, 1))}),
        (ValueError, "bias", "()", {"bias": np.zeros(())}),
        (ValueError, "kernel_size", "3", {"x": X[:, :, :2]}),
        (ValueError, "kernel_size", "dilation 3", {"dilation": 3}),
        (ValueError, "stride", "0", {"stride": 0}),
        (ValueError, "stride", "(1, -1)", {"stride": (1, -1)}),
        (ValueError, "padding", "-1", {"padding": -1}),
        (ValueError, "dilation", "0", {"dilation": 0}),
        (TypeError, "stride", "1.0", {"stride": 1.0}),
        (TypeError, "stride", "None", {"stride": None}),
        (TypeError, "stride", "True", {"stride": True}),
        (TypeError, "padding", "(1, 1, 1)", {"padding": (1, 1, 1)}),
        (TypeError, "padding", "'same'", {"padding": "same"}),
        (TypeError, "dilation", "(1, 1.5)", {"dilation": (1, 1.5)}),
    ],
    ids=lambda value: None if isinstance(value, type | dict) else value,
)
def test_wrong_input_is_refused(error, argument, was, change):
    arguments = {"x": X, "weight": WEIGHT, "bias": BIAS} | change
    with refused(error, argument, was):
        ops.conv2d_forward(arguments.pop("x"), arguments.pop("weight"), arguments.pop("bias"), **arguments)
