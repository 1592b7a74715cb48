"""What holds for every op: inputs unharmed, any memory layout, dtype kept, images channels-last, shapes checked."""

import numpy as np
import pytest

from tests.numeric import relative_error
from tests.ops.cases import CASES
from tests.ops.layouts import LAYOUTS, channels_last, read_only
from tests.refusals import refused

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def upstream(y, dtype=np.float64):
    return np.asarray(np.random.default_rng(2).standard_normal(np.shape(y))).astype(dtype)


@every_case
def test_inputs_are_never_modified_and_may_be_read_only(case):
    inputs = [read_only(array) for array in case.inputs()]
    y, cache = case.forward(*inputs)
    dy = read_only(upstream(y))
    kept = [array.tobytes() for array in (*inputs, dy)]
    case.gradients(dy, cache)
    assert [array.tobytes() for array in (*inputs, dy)] == kept


@every_case
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_memory_layout_gives_the_same_numbers(case, layout):
    y, cache = case.forward(*case.inputs())
    dy = upstream(y)
    gradients = case.gradients(dy, cache)

    arranged = LAYOUTS[layout]
    inputs = [arranged(array) for array in case.inputs()]
    again, cache = case.forward(*inputs)
    assert relative_error(again, y) <= 1e-14
    for got, expected in zip(case.gradients(arranged(dy) if dy.ndim else dy, cache), gradients, strict=True):
        assert (got is None and expected is None) or relative_error(got, expected) <= 1e-14


@every_case
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
def test_dtype_follows_the_input(case, dtype):
    inputs = [array.astype(dtype) if array.dtype.kind == "f" else array for array in case.inputs()]
    y, cache = case.forward(*inputs)
    assert y.dtype == dtype
    for gradient in case.gradients(upstream(y, dtype), cache):
        assert gradient is None or gradient.dtype == dtype


@every_case
def test_gradients_have_the_shapes_of_the_inputs(case):
    inputs = case.inputs()
    y, cache = case.forward(*inputs)
    gradients = case.gradients(upstream(y), cache)
    assert [gradient.shape for gradient in gradients[: case.differentiable]] == [
        array.shape for array in inputs[: case.differentiable]
    ]
    assert all(gradient is None for gradient in gradients[case.differentiable :]) or "mse" in case.name


@every_case
def test_images_lie_channels_last_in_memory(case):
    """Ops that work on every number by itself keep the order they are given, which is channels-last in a network."""
    inputs = case.inputs()
    if case.name.split()[0] in KEEP_THE_ORDER:
        inputs = [channels_last(array) for array in inputs]
    y, cache = case.forward(*inputs)
    for image in (y, case.gradients(channels_last(upstream(y)), cache)[0]):
        assert image.ndim != 4 or image.transpose(0, 2, 3, 1).flags.c_contiguous


@every_case
def test_backward_is_linear_in_dy(case):
    """backward(a u + b v) = a backward(u) + b backward(v), on one cache: a backward must not wear it out."""
    y, cache = case.forward(*case.inputs())
    u, v = (np.asarray(np.random.default_rng(seed).standard_normal(y.shape)) for seed in (3, 4))
    for sum_of, of_u, of_v in zip(
        case.gradients(2 * u - 3 * v, cache), case.gradients(u, cache), case.gradients(v, cache), strict=True
    ):
        assert sum_of is None or relative_error(sum_of, 2 * of_u - 3 * of_v) <= 1e-12


@every_case
@pytest.mark.parametrize("dtype", ["int64", "float16", "bool", "uint8"])
def test_other_dtypes_are_refused(case, dtype):
    inputs = list(case.inputs())
    for index in range(case.differentiable):
        wrong = [*inputs[:index], inputs[index].astype(dtype), *inputs[index + 1 :]]
        with refused(TypeError, NAMES[case.name.split()[0]][index], dtype):
            case.forward(*wrong)


@every_case
def test_mixed_dtypes_are_refused(case):
    inputs = list(case.inputs())
    for index in range(1, case.differentiable):
        wrong = [*inputs[:index], inputs[index].astype("float32"), *inputs[index + 1 :]]
        with refused(TypeError, NAMES[case.name.split()[0]][index], "float32"):
            case.forward(*wrong)
    y, cache = case.forward(*inputs)
    with refused(TypeError, "dy", "float32"):
        case.backward(upstream(y, "float32"), cache)


@every_case
def test_lists_are_refused(case):
    inputs = list(case.inputs())
    for index in range(case.differentiable):
        wrong = [*inputs[:index], inputs[index].tolist(), *inputs[index + 1 :]]
        with refused(TypeError, NAMES[case.name.split()[0]][index], "list"):
            case.forward(*wrong)


@every_case
def test_a_dy_of_another_shape_is_refused(case):
    y, cache = case.forward(*case.inputs())
    wrong = np.ones((2, *y.shape))
    with refused(ValueError, "dy", str(wrong.shape)):
        case.backward(wrong, cache)


KEEP_THE_ORDER = ("layernorm", "relu", "leaky_relu", "tanh", "sigmoid", "dropout", "mse")
NAMES = dict.fromkeys(
    ["relu", "leaky_relu", "tanh", "sigmoid", "softmax", "max_pool2d", "avg_pool2d", "global_avg_pool2d", "dropout"],
    ("x",),
) | {
    "conv2d": ("x", "weight", "bias"),
    "linear": ("x", "weight", "bias"),
    "batchnorm": ("x", "weight", "bias"),
    "layernorm": ("x", "weight", "bias"),
    "groupnorm": ("x", "weight", "bias"),
    "softmax_cross_entropy": ("logits",),
    "mse": ("prediction", "target"),
}
