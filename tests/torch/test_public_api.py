"""Odd calls of the public API: each returns what PyTorch returns, or is refused by name; no input is ever modified.

hypothesis starts from a good call and spoils it. What spoils nothing (a memory layout, a NaN, an infinity, a huge
number) must be computed as PyTorch does; what might (shapes, dtypes, settings, things that are no array) may be
refused, with a ValueError or TypeError that names an argument, but by nothing else.
"""

import re
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
F = torch.nn.functional

from minires import init, nn, ops  # noqa: E402
from tests.ops.geometry import convolutions, poolings  # noqa: E402
from tests.ops.layouts import LAYOUTS  # noqa: E402

EXAMPLES = 200


@dataclass
class Call:
    """A good call: arrays and settings by name, in the order of the arguments."""

    arrays: dict[str, np.ndarray]
    options: dict[str, Any]
    labels: dict[str, np.ndarray]

    @classmethod
    def make(cls, seed, shapes, dtype, options=None, labels=None):
        rng = np.random.default_rng(seed)
        arrays = {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}
        return cls(arrays, options or {}, labels or {})


seeds = st.integers(0, 2**32 - 1)
dtypes = st.sampled_from(["float32", "float64"])
shapes = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)


@st.composite
def conv2d(draw):
    x, weight, options = draw(convolutions())
    arrays = {"x": x, "weight": weight} | ({"bias": weight[:1]} if draw(st.booleans()) else {})
    return Call.make(draw(seeds), arrays, draw(dtypes), options)


@st.composite
def linear(draw):
    n, i, o = (draw(st.integers(1, 5)) for _ in range(3))
    arrays = {"x": (n, i), "weight": (o, i)} | ({"bias": (o,)} if draw(st.booleans()) else {})
    return Call.make(draw(seeds), arrays, draw(dtypes))


@st.composite
def batchnorm(draw):
    c = draw(st.integers(1, 4))
    x = (draw(st.integers(4, 9)), c, *draw(st.sampled_from([(), (2, 3), (1, 4)])))
    return Call.make(
        draw(seeds), {"x": x, "weight": (c,), "bias": (c,)}, draw(dtypes), {"eps": draw(st.sampled_from([1e-5, 0.1]))}
    )


@st.composite
def elementwise(draw):
    return Call.make(draw(seeds), {"x": draw(shapes)}, draw(dtypes))


@st.composite
def leaky(draw):
    call = draw(elementwise())
    return Call(call.arrays, {"slope": draw(st.sampled_from([0.0, 0.01, 0.5]))}, {})


@st.composite
def pooling(draw):
    x, kernel, options = draw(poolings())
    return Call.make(draw(seeds), {"x": x}, draw(dtypes), {"kernel_size": kernel, **options})


@st.composite
def images(draw):
    return Call.make(draw(seeds), {"x": tuple(draw(st.integers(1, 4)) for _ in range(4))}, draw(dtypes))


@st.composite
def cross_entropy(draw):
    n, k, seed = draw(st.integers(1, 5)), draw(st.integers(1, 5)), draw(seeds)
    labels = np.random.default_rng(seed).integers(0, k, n)
    return Call.make(seed, {"logits": (n, k)}, draw(dtypes), labels={"labels": labels})


@st.composite
def mse(draw):
    shape = draw(shapes)
    return Call.make(draw(seeds), {"prediction": shape, "target": shape}, draw(dtypes))


def torch_batchnorm(x, weight, bias, eps=1e-5):
    return F.batch_norm(x, None, None, weight, bias, training=True, eps=eps)


OPS = {  # good calls, PyTorch's function
    "conv2d": (conv2d(), F.conv2d),
    "linear": (linear(), F.linear),
    "batchnorm": (batchnorm(), torch_batchnorm),
    "relu": (elementwise(), F.relu),
    "tanh": (elementwise(), torch.tanh),
    "sigmoid": (elementwise(), torch.sigmoid),
    "leaky_relu": (leaky(), lambda x, slope: F.leaky_relu(x, slope)),
    "max_pool2d": (pooling(), F.max_pool2d),
    "avg_pool2d": (pooling(), F.avg_pool2d),
    "global_avg_pool2d": (images(), lambda x: F.adaptive_avg_pool2d(x, 1).flatten(1)),
    "softmax_cross_entropy": (cross_entropy(), F.cross_entropy),
    "mse": (mse(), F.mse_loss),
}

# --- spoiling a call -------------------------------------------------------------------------------------------------

NO_ARRAYS = [None, 1.5, "x", [[1.0, 2.0]], (), {}, object()]
NO_SETTINGS = [0, -1, 1.5, True, None, (1,), (1, 2, 3), "2", [1, 2], np.int64(2), np.float32(0.5), float("nan"), (0, 1)]
ODD_NUMBERS = [np.nan, np.inf, -np.inf, 1e30, -1e30, 1e-40, 0.0, -0.0]
OTHER_DTYPES = ["float16", "int64", "uint8", "bool", "complex64", "complex128", "float32", "float64", "object", "U3"]


def same_with_odd_numbers(draw, name, array):
    """Weights stay finite: whether 0 * nan is computed where a kernel lies on padding is nobody's business."""
    array = array.copy()
    numbers = [n for n in ODD_NUMBERS if name != "weight" or np.isfinite(n)]
    for _ in range(draw(st.integers(1, 3))):
        array.flat[draw(st.integers(0, array.size - 1))] = draw(st.sampled_from(numbers))
    return array


def another_shape(draw, array):
    kind = draw(st.sampled_from(["drop", "add", "empty", "grow", "scalar"]))
    axis = draw(st.integers(0, max(0, array.ndim - 1)))
    if kind == "add":
        return np.expand_dims(array, axis)
    if kind == "scalar" or array.ndim == 0:
        return np.asarray(array.flat[0])
    if kind == "drop":
        return array.take(0, axis)
    if kind == "empty":
        return array.take([], axis)
    return np.concatenate([array, array], axis)


@st.composite
def spoiled(draw, calls):
    """(call, whether it is still a good one)."""
    call = draw(calls)
    good = True
    for _ in range(draw(st.integers(0, 2))):
        name = draw(st.sampled_from(sorted(call.arrays)))
        array = call.arrays[name]
        if not isinstance(array, np.ndarray):
            continue
        how = draw(st.sampled_from(["layout", "numbers", "shape", "dtype", "no array", "setting", "labels"]))
        if how == "layout" and array.ndim:
            call.arrays[name] = LAYOUTS[draw(st.sampled_from(sorted(LAYOUTS)))](array)
        elif how == "numbers" and array.dtype.kind == "f" and array.size:
            call.arrays[name] = same_with_odd_numbers(draw, name, array)
        elif how == "shape" and array.size:
            call.arrays[name], good = another_shape(draw, array), False
        elif how == "dtype" and array.dtype.kind in "fiub":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                call.arrays[name], good = array.astype(draw(st.sampled_from(OTHER_DTYPES))), False
        elif how == "no array":
            call.arrays[name], good = draw(st.sampled_from(NO_ARRAYS)), False
        elif how == "setting" and call.options:
            call.options[draw(st.sampled_from(sorted(call.options)))], good = (
                draw(st.sampled_from(NO_SETTINGS)),
                False,
            )
        elif how == "labels" and call.labels and isinstance(call.labels["labels"], np.ndarray):
            labels = call.labels["labels"]
            odd = [labels - 1, labels + 1, labels[:, None], labels[:0], labels * 1.0, labels > 0, labels.tolist(), None]
            call.labels["labels"], good = odd[draw(st.integers(0, len(odd) - 1))], False
    return call, good


# --- the comparison --------------------------------------------------------------------------------------------------


def run(name, call, seed):
    """[y, gradients...] of minires."""
    forward, backward = getattr(ops, f"{name}_forward"), getattr(ops, f"{name}_backward")
    options = dict(call.options)
    positional = [options.pop("kernel_size")] if "kernel_size" in options else []
    y, cache = forward(*call.arrays.values(), *call.labels.values(), *positional, **options)
    gradients = backward(upstream(y, seed), cache)
    gradients = gradients if isinstance(gradients, tuple) else (gradients,)
    return [y, *(g for g in gradients if g is not None)]


def run_torch(name, call, seed):
    tensors = [torch.tensor(np.array(array), requires_grad=True) for array in call.arrays.values()]
    labels = [torch.tensor(np.array(array), dtype=torch.int64) for array in call.labels.values()]
    options = {k: v.item() if isinstance(v, np.generic) else v for k, v in call.options.items()}
    y = OPS[name][1](*tensors, *labels, **options)
    y.backward(torch.tensor(upstream(y.detach().numpy(), seed)))
    return [t.detach().numpy() for t in (y, *(t.grad for t in tensors[: 1 if name == "mse" else None]))]


def upstream(y, seed):
    return np.asarray(np.random.default_rng(seed).standard_normal(y.shape)).astype(y.dtype)


def assert_same(got, expected, what):
    """Where both are finite: equal. What is not finite in PyTorch must not be finite here: a NaN may not vanish."""
    assert got.shape == expected.shape and got.dtype == expected.dtype, what
    lost = ~np.isfinite(expected) & np.isfinite(got)
    assert not lost.any(), f"{what}: {expected[lost][0]} in PyTorch, {got[lost][0]} here"
    both = np.isfinite(expected) & np.isfinite(got)
    tolerance = {"float32": 1e-4, "float64": 1e-10, "complex128": 1e-10}[got.dtype.name]
    scale = max(1.0, np.abs(expected[both]).max(initial=0.0))
    error = np.abs(got[both].astype("complex128") - expected[both]).max(initial=0.0)
    assert error <= tolerance * scale, f"{what}: {error / scale:.1e}"


def assert_named(error, names):
    assert any(re.search(rf"\b{name}\b", str(error)) for name in names), f"no argument is named: {error!r}"


def frozen(call):
    return [v.tobytes() for v in (*call.arrays.values(), *call.labels.values()) if isinstance(v, np.ndarray)]


@pytest.mark.parametrize("name", OPS)
def test_an_op_returns_what_pytorch_returns_or_names_the_argument(name):
    @settings(max_examples=EXAMPLES)
    @given(spoiled(OPS[name][0]), seeds)
    def check(spoiled_call, seed):
        call, good = spoiled_call
        kept = frozen(call)
        names = [*call.arrays, *call.options, *call.labels, "kernel_size", "dy"]
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                got = run(name, call, seed)
            except (ValueError, TypeError) as error:
                event("refused")
                assert not good, error
                assert_named(error, names)
                return
            finally:
                assert frozen(call) == kept, "an input was modified"
            event("computed")
            try:
                expected = run_torch(name, call, seed)
            except (RuntimeError, NotImplementedError) as error:
                assert "complex" in f"{error}".lower(), error  # which minires computes in many more places
                return
        for i, (a, b) in enumerate(zip(got, expected, strict=True)):
            assert_same(np.asarray(a), b, f"result {i}")

    check()


# --- layers, initializers, networks ----------------------------------------------------------------------------------

MODULES = {
    "Conv2d": (
        nn.Conv2d,
        torch.nn.Conv2d,
        ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation"),
    ),
    "Linear": (nn.Linear, torch.nn.Linear, ("in_features", "out_features")),
    "BatchNorm2d": (nn.BatchNorm2d, torch.nn.BatchNorm2d, ("num_features", "eps", "momentum")),
    "MaxPool2d": (nn.MaxPool2d, torch.nn.MaxPool2d, ("kernel_size", "stride", "padding")),
    "AvgPool2d": (nn.AvgPool2d, torch.nn.AvgPool2d, ("kernel_size", "stride", "padding")),
}
SETTINGS = st.sampled_from([1, 2, 3, *NO_SETTINGS])


@pytest.mark.parametrize("name", MODULES)
def test_a_layer_of_any_settings_has_pytorchs_output_or_names_the_argument(name):
    ours, theirs, arguments = MODULES[name]

    @settings(max_examples=EXAMPLES)
    @given(st.lists(SETTINGS, min_size=len(arguments), max_size=len(arguments)), seeds)
    def check(values, seed):
        x = np.random.default_rng(seed).standard_normal((4, 2) if name == "Linear" else (4, 2, 9, 8)).astype("float32")
        try:
            layer = ours(*values)
            y = layer.forward(x)
        except (ValueError, TypeError) as error:
            event("refused")
            assert_named(error, [*arguments, "weight", "bias", "x"])
            return
        event("computed")
        if name == "BatchNorm2d" and values[1] == 0:
            return  # PyTorch refuses an eps of 0, which several laws are stated for
        plain = [tuple(v) if isinstance(v, list) else v.item() if isinstance(v, np.generic) else v for v in values]
        twin = theirs(*plain)
        twin.load_state_dict({n: torch.tensor(a) for n, a in layer.state_dict().items()} | {
            n: a for n, a in twin.state_dict().items() if n.endswith("num_batches_tracked")
        } if name != "BatchNorm2d" else twin.state_dict())  # fmt: skip
        expected = twin(torch.tensor(x)).detach().numpy()
        assert_same(y, expected, name)
        assert layer.output_shape(x.shape) == expected.shape

    check()


INITIALIZERS = [
    init.Zeros(), init.Constant(0.1), init.Normal(), init.Uniform(), init.TruncatedNormal(), init.VarianceScaling(),
    init.LeCunNormal(), init.LeCunUniform(), init.XavierNormal(), init.XavierUniform(), init.HeNormal(),
    init.HeUniform(), init.Orthogonal(), init.DeltaOrthogonal(), init.Dirac(),
]  # fmt: skip
SIZES = st.sampled_from([0, 1, 2, 3, 5, -1, 1.5, "3", None, True, np.int64(3)])


@settings(max_examples=EXAMPLES)
@given(
    st.sampled_from(INITIALIZERS),
    st.lists(SIZES, max_size=5).map(tuple) | SIZES,
    st.sampled_from([0, -1, None, "0", 1.5, np.int64(2)]),
)
def test_a_sample_has_the_shape_asked_for_or_the_argument_is_named(initializer, shape, rng):
    try:
        weight = initializer.sample(shape, rng)
        law = initializer.variance(shape), initializer.kurtosis(shape)
    except (ValueError, TypeError) as error:
        assert_named(error, ["shape", "rng"])
        return
    assert weight.shape == shape and weight.dtype == np.float32 and np.isfinite(weight).all()
    assert law[0] >= 0
