"""The kernels of `minires/fast/gpu.py`: what each says in CUDA is what its array arithmetic says.

An expression for one number is C++ but for a few names, so the host's compiler can run it, in a loop over numbers.
"""

import ctypes
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minires
from minires import fake_gpu, nn
from minires.fast import gpu

KERNELS = {name: kernel for name, kernel in vars(gpu).items() if isinstance(kernel, gpu.Kernel)}
PRELUDE = """
#include <cmath>
struct double2 { double x, y; };
static double2 make_double2(double x, double y) { return {x, y}; }
static double rsqrt(double x) { return 1 / std::sqrt(x); }
typedef double float64;
"""


def declared(parameters):
    """[(type, name)]: "T x, float64 eps" as CuPy reads it."""
    return [tuple(each.split()) for each in parameters.split(",")]


def source(kernel, kind):
    """A C function of n (and, if it adds up, m) and of pointers: inputs, then outputs."""
    inputs, outputs, code = kernel.stated
    both = declared(inputs) + declared(outputs)
    takes = ", ".join(f"{'const ' if number < len(declared(inputs)) else ''}{type_} *p_{name}"
                      for number, (type_, name) in enumerate(both))  # fmt: skip
    at = lambda pairs, i: "".join(f"auto &{name} = p_{name}[{i}]; " for _, name in pairs)  # noqa: E731
    if not kernel.reduce:
        body = f"for (long i = 0; i < n; i++) {{ {at(both, 'i')} {code}; }}"
    else:
        addition, results, zero, _ = kernel.reduce
        body = f"""for (long i = 0; i < n; i++) {{
            double2 a = {zero};
            for (long j = 0; j < m; j++) {{ {at(declared(inputs), "i * m + j")} double2 b = {code}; a = {addition}; }}
            {at(declared(outputs), "i")} {results};
        }}"""
    return f'{PRELUDE} typedef {kind} T; extern "C" void run(long n, long m, {takes}) {{ {body} }}'


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """compiled(kernel name, C type) -> the function."""
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        pytest.skip("there is no C++ compiler here")
    folder = tmp_path_factory.mktemp("kernels")

    def build(name, kind):
        path = folder / f"{name}_{kind}"
        path.with_suffix(".cpp").write_text(source(KERNELS[name], kind))
        command = [compiler, "-O1", "-ffp-contract=off", "-shared", "-fPIC", "-o", path.with_suffix(".so")]
        subprocess.run([*command, path.with_suffix(".cpp")], check=True)
        return ctypes.CDLL(str(path.with_suffix(".so"))).run

    return build


def arguments(kernel, dtype, shape):
    """Random numbers of both signs for T, and as sums of float64 what sums can be."""
    rng = np.random.default_rng(0)
    for type_, name in declared(kernel.stated[0]):
        values = rng.standard_normal(shape) + (40 if name == "square" else 0)
        if name in ("count", "inv", "eps", "rate", "old_var"):
            values = {"count": 7, "eps": 1e-5, "rate": 0.1}.get(name, np.abs(values) + 0.1) + 0 * values
        if name == "product":
            values = values**2 + 20  # so that the variance is not below 0
        if name == "floor":
            values = np.where(rng.random(shape) < 0.5, 0.0, -math.inf)
        if name == "y":
            values = np.maximum(values, 0)
        yield values.astype(dtype if type_ == "T" else np.float64)


@pytest.mark.parametrize(("kind", "dtype", "tolerance"), [("float", np.float32, 2e-6), ("double", np.float64, 1e-13)])
@pytest.mark.parametrize("name", KERNELS)
def test_the_expression_is_what_the_arrays_say(compiled, name, kind, dtype, tolerance):
    kernel, (n, m, c) = KERNELS[name], (5, 6, 7)
    inputs = list(arguments(kernel, dtype, (n, m, c)))
    outputs = [np.empty((n, c) if kernel.reduce else (n, m, c), dtype if t == "T" else np.float64)
               for t, _ in declared(kernel.stated[1])]  # fmt: skip
    # along axis 1, as the reduction runs: the loop of the host adds up what lies side by side
    laid = [np.ascontiguousarray(np.moveaxis(each, 1, 2)) if kernel.reduce else each for each in inputs]
    pointers = [each.ctypes.data_as(ctypes.c_void_p) for each in (*laid, *outputs)]
    compiled(name, kind)(ctypes.c_long(outputs[0].size), ctypes.c_long(m), *pointers)
    expected = kernel.plain(np, *inputs)
    assert len(expected) == len(outputs)
    for found, value in zip(outputs, expected, strict=True):
        assert np.isfinite(value).all()
        np.testing.assert_allclose(found, value, rtol=tolerance, atol=tolerance * np.abs(value).max())


def test_nan_stays_nan_in_a_relu(compiled):
    """As in the definition, so that a run that has gone wrong is seen to have gone wrong."""
    x, y = np.array([np.nan, 1.0, -1.0]), np.empty(3)
    ones, zeros = np.ones(3), np.zeros(3)
    pointers = [each.ctypes.data_as(ctypes.c_void_p) for each in (x, ones, zeros, zeros, zeros, y)]
    compiled("line", "double")(ctypes.c_long(3), ctypes.c_long(1), *pointers)
    np.testing.assert_array_equal(y, [np.nan, 1.0, 0.0])


@pytest.mark.parametrize("name", KERNELS)
def test_every_declared_name_is_used(name):
    """A name that the expression forgets, or one that it makes up, would only be found on a card."""
    inputs, outputs, code = KERNELS[name].stated
    text = " ".join((code, *KERNELS[name].reduce))
    for _, parameter in declared(inputs) + declared(outputs):
        assert re.search(rf"\b{parameter}\b", text), parameter


# --- CuPy's own part, of which nothing needs a GPU but the last step ------------------------------------------------


@pytest.fixture(scope="module")
def cupy():
    return pytest.importorskip("cupy", reason="CuPy is not installed: pip install cupy-cuda13x (it needs no GPU here)")


def written_by_cupy(cupy, name, dtype, numbers=()):
    """The source that CuPy hands to NVIDIA's compiler. numbers: inputs that are Python's numbers, not arrays."""
    from cupy._core import _carray, _kernel, _reduction, _scalar

    kernel, compiled = KERNELS[name], KERNELS[name].compiled
    kernel_of_cupy = compiled.func if kernel.reduce else compiled
    parameters = kernel_of_cupy._params if kernel.reduce else kernel_of_cupy.params

    def known(parameter):
        """What CuPy knows of an argument when it writes: kind (1: array, 2: indexer, 3: number), type, dtype, axes."""
        kind = np.dtype(parameter.dtype or dtype).type
        if parameter.name.endswith("_ind"):
            return _kernel._ArgInfo(2, _carray.Indexer, None, 2 + (parameter.name == "_in_ind"), True, True)
        if parameter.name in numbers or parameter.name.startswith("_"):
            return _kernel._ArgInfo(3, _scalar.CScalar, kind, 0, True, True)
        return _kernel._ArgInfo(1, cupy.ndarray, kind, 2 + bool(kernel.reduce and parameter.is_const), False, True)

    infos, types = tuple(map(known, parameters)), (("T", np.dtype(dtype).type),)
    if not kernel.reduce:
        stated = parameters, kernel_of_cupy.operation, kernel_of_cupy.name, ""
        return _kernel._get_elementwise_kernel_code(infos, _kernel._TypeMap(types), *stated)
    k, types = kernel_of_cupy, _kernel._TypeMap((*types, ("IndexT", np.int32)))
    expressions = k.identity, k.map_expr, k.reduce_expr, k.post_map_expr, "", ()
    return _reduction._ReductionKernel_get_cached_function_code(
        k.nin, k.nout, parameters, infos, types, k.name, 512, k.reduce_type, *expressions
    )


@pytest.mark.parametrize("numbers", [(), ("a", "other", "floor", "eps", "rate")], ids=["arrays", "numbers"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", KERNELS)
def test_nvidias_compiler_takes_it(cupy, name, dtype, numbers):
    """Nothing runs, so no GPU is needed."""
    found = [path for each in sys.path for path in Path(each).glob("nvidia/*/lib/libnvrtc.so.*")]
    if not found:
        pytest.skip("NVIDIA's compiler is not installed: pip install nvidia-cuda-nvrtc")
    include = Path(cupy.__file__).parent / "_core" / "include"
    folders = [include, *(include / "cupy" / "_cccl" / each for each in ("libcudacxx", "thrust", "cub"))]
    options = [b"--gpu-architecture=compute_90", b"--std=c++17", *(f"-I{folder}".encode() for folder in folders)]
    text = f"#include <cupy/complex.cuh>\n#include <cupy/carray.cuh>\n{written_by_cupy(cupy, name, dtype, numbers)}"
    nvrtc, program, size = ctypes.CDLL(str(found[0])), ctypes.c_void_p(), ctypes.c_size_t()
    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"kernel.cu", 0, None, None) == 0
    code = nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    assert code == 0, log.value.decode()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cupy_accepts_every_call_of_a_network(cupy, monkeypatch, dtype):
    """Number, dtypes and shapes of the arguments, in two steps and an inference on the fake GPU."""
    met, rng = set(), np.random.default_rng(0)

    def checked(kernel, xp, *arguments):
        outputs = len(kernel.stated[1].split(","))
        told = tuple(getattr(a, "dtype", None) and a.dtype.type for a in arguments)
        compiled = kernel.compiled.func if kernel.reduce else kernel.compiled
        from cupy._core import _kernel

        assert len(arguments) == compiled.nargs
        assert all(type(a) in (int, float) for a, dtype in zip(arguments, told, strict=True) if dtype is None)
        _kernel._decide_params_type(compiled.in_params, compiled.out_params, told[:-outputs], told[-outputs:])
        shapes = [a.shape for a in arguments if hasattr(a, "shape")]
        shape = np.broadcast_shapes(*shapes[: None if not kernel.reduce else -outputs])
        assert {s.shape for s in arguments[-outputs:]} == {shape[:1] + shape[2:] if kernel.reduce else shape}
        met.add(kernel.plain.__name__)
        plain(kernel, xp, *arguments)

    plain = gpu.Kernel.__call__
    monkeypatch.setattr(gpu.Kernel, "__call__", checked)
    x, labels = (fake_gpu.device.asarray(a) for a in (rng.standard_normal((4, 3, 9, 7)), rng.integers(0, 10, 4)))
    for shortcut in "AB":
        model = nn.resnet(8, width=4, shortcut=shortcut).astype(dtype).to(fake_gpu.device)
        fast = minires.compile(model)
        for _ in range(2):
            fast.step(x.astype(dtype), labels)
        fast.eval().infer(x.astype(dtype))
    assert met == {*KERNELS}


def test_cupy_takes_them(cupy):
    """CuPy reads a kernel's declaration when it is made, and compiles it when it is first called."""
    for kernel in KERNELS.values():
        assert callable(kernel.compiled)
