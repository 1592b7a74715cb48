"""Every call of the array library in the package exists in CuPy and takes those arguments; no GPU is needed.

CuPy itself is looked at where it is installed (`pip install cupy-cuda13x`: the wheel imports without a driver). What
is known of it holds everywhere: the fake GPU's table, which is compared with CuPy too, and a list of known traps.
"""

import functools
import inspect
import re

import numpy as np
import pytest

from minires import fake_gpu
from tests.device.calls import Use, library_uses, method_uses, sources

USES = [use for source, where in sources() for use in library_uses(source, where)]
ON_DEVICE = ("ops", "nn", "init", "optim", "fast", "checks", "backend")
ON_HOST = ("fast/check.py",)  # it compares numbers that it has copied there
METHODS = [use for source, where in sources(*ON_DEVICE) if where not in ON_HOST for use in method_uses(source, where)]


def resolve(library, name):
    return functools.reduce(getattr, name.split("."), library)


def objection(library, use):
    """Why the library would refuse this call, or None."""
    try:
        function = resolve(library, use.name)
    except AttributeError:
        return f"{use.where}: there is no {use.name}"
    if use.positional is None:
        return None
    if type(function).__name__ == "ufunc":
        wrong = set(use.keywords) - {"out", "dtype", "casting"}
        if wrong or not function.nin <= use.positional <= function.nin + function.nout:
            return f"{use.where}: {use.name} takes {function.nin} arrays, not {use.positional} and {use.keywords}"
        return None
    try:
        inspect.signature(function).bind(*[0] * use.positional, **dict.fromkeys(use.keywords, 0))
    except TypeError as error:
        return f"{use.where}: {use.name}: {error}"
    except ValueError:  # a C function that does not say what it takes
        return None
    return None


def objections(library, uses):
    return [text for use in uses if (text := objection(library, use))]


def test_the_package_is_searched_at_all():
    names = {use.name for use in USES}
    assert {"where", "full", "zeros_like"} <= names and len(USES) > 30


def test_the_fake_gpu_has_all_that_is_used():
    """So that no part of the engine goes untested on it. (`cuda` is CuPy's own, and only asked for a device; what
    kernels compute stands beside them as array arithmetic: see `test_kernels.py`.)"""
    own = ("cuda", "ElementwiseKernel", "ReductionKernel")
    uses = [use for use in USES if not use.name.startswith(own) and "__" not in use.name]
    assert objections(fake_gpu.device, uses) == []


# --- CuPy itself -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cupy():
    return pytest.importorskip("cupy", reason="CuPy is not installed: pip install cupy-cuda13x (it needs no GPU here)")


def test_cupy_has_all_that_is_used(cupy):
    assert objections(cupy, USES) == []


@pytest.mark.parametrize("name", fake_gpu.FUNCTIONS)
def test_functions_of_the_fake_gpu_have_cupys_arguments(cupy, name):
    ours = inspect.signature(fake_gpu.FUNCTIONS[name]).parameters
    theirs = inspect.signature(getattr(cupy, name)).parameters
    assert [(p.name, p.kind, p.default) for p in ours.values()] == [
        (p.name, p.kind, p.default) for p in theirs.values()
    ]


@pytest.mark.parametrize("name", fake_gpu.UFUNCS)
def test_elementwise_functions_of_the_fake_gpu_are_cupys(cupy, name):
    function = getattr(cupy, name)
    if name == "matmul":
        assert "out" in inspect.signature(function).parameters
    else:
        assert type(function).__name__ == "ufunc" and (function.nin, function.nout) == (fake_gpu.UFUNCS[name], 1)


def test_constants_of_the_fake_gpu_are_cupys(cupy):
    for name in fake_gpu.CONSTANTS:
        assert getattr(cupy, name) is getattr(np, name) or np.isnan(getattr(cupy, name)), name


METHOD_NAMES = [
    name
    for name, member in vars(fake_gpu.DeviceArray).items()
    if inspect.isfunction(member) and not name.startswith("_")
]
PROPERTIES = [name for name, member in vars(fake_gpu.DeviceArray).items() if isinstance(member, property)]


@pytest.mark.parametrize("name", METHOD_NAMES)
def test_methods_of_the_fake_gpu_take_no_more_than_cupys(cupy, name):
    """CuPy's compiled methods state their arguments in the first line of their text."""
    method = getattr(cupy.ndarray, name)
    stated = re.match(rf"\w+\.{name}\((.*?)\)", method.__doc__).group(1)
    theirs = [part.split()[-1].lstrip("*").partition("=")[0] for part in stated.split(",")]  # without C types
    ours = list(inspect.signature(getattr(fake_gpu.DeviceArray, name)).parameters)
    assert set(ours) <= set(theirs), f"CuPy's: {stated}"


@pytest.mark.parametrize("name", PROPERTIES)
def test_attributes_of_the_fake_gpu_are_cupys(cupy, name):
    assert hasattr(cupy.ndarray, name)


def test_special_methods_of_the_fake_gpu_are_cupys(cupy):
    own = {"__array_namespace__", "__module__", "__dict__", "__weakref__", "__init__", "__hash__"}
    ours = {name for name in vars(fake_gpu.DeviceArray) if name.startswith("__")} - own
    assert not [name for name in ours if not hasattr(cupy.ndarray, name)]


def test_a_misspelled_or_missing_function_is_found(cupy):
    uses = list(
        library_uses("xp.erfinv(x)\nxp.zeros(3, dtpye=int)\nxp.exp(x, where=mask)\nxp.take(x, i, mode='clip')", "f")
    )
    assert len(objections(cupy, uses)) == 4


# --- known traps -----------------------------------------------------------------------------------------------------

TRAPS = {  # what must not be written where arrays may be on a device: name, keyword (None: the call itself), why
    ("sum", "where"): "CuPy's reductions take no where=",
    ("mean", "where"): "CuPy's reductions take no where=",
    ("max", "where"): "CuPy's reductions take no where=",
    ("min", "where"): "CuPy's reductions take no where=",
    ("max", "initial"): "CuPy's reductions take no initial=",
    ("take", "mode"): "CuPy's take has no mode=",
    ("reshape", "shape"): "CuPy's reshape has no shape=",
    ("errstate", None): "CuPy's errstate knows other errors",
    ("sliding_window_view", None): "it waits for the device; as_strided does not",
    ("scatter_add", None): "it does not know float64",
    ("add_at", None): "a scatter is slow, and adds in another order each time",
    ("nonzero", None): "it waits for the device",
    ("unique", None): "it waits for the device",
    ("item", None): "it waits for the device",
    ("tolist", None): "it waits for the device",
}


def trapped(uses):
    return [
        f"{use.where}: {use.name}({keyword or ''}): {why}"
        for use in uses
        for (name, keyword), why in TRAPS.items()
        if use.name.rpartition(".")[2] == name and (keyword is None or keyword in use.keywords)
    ]


def test_no_known_trap_in_the_engine():
    assert trapped(METHODS) == []


def test_traps_are_found():
    source = "x.sum(where=m)\nx.take(i, mode='clip')\nx.reshape(shape=s)\nxp.errstate(all='ignore')\nloss.item()"
    assert len(trapped(method_uses(source, "f"))) == 5


def test_draws_are_made_on_the_host():
    """CuPy's Generator has no normal, permutation or choice, and would give other numbers for the same seed."""
    assert not [use for use in USES if use.name.startswith("random")]


def test_calls_are_read_as_they_are_written():
    found = set(library_uses("xp.zeros((2, 3), dtype=int); y = xp.inf; xp.stack(*z); array_namespace(x).exp(x)", "f"))
    assert found == {
        Use("zeros", "f:1", 1, ("dtype",)),
        Use("inf", "f:1", None),
        Use("stack", "f:1", None),
        Use("exp", "f:1", 1),
    }
