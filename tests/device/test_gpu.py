"""On a real GPU: every op and layer has the host's numbers, and what is made of them runs there.

`pytest -m gpu` runs these alone. Without CuPy or a device they skip, saying why; the fake GPU is tested in any case.
"""

import numpy as np
import pytest

import minires
from minires import gradcheck, init, nn, optim, theory, train
from minires.backend import device_namespace, to_device, to_numpy
from minires.data import load_digits
from tests.device.test_kernels import KERNELS, arguments, declared
from tests.nn.cases import BLOCKS, LAYERS, NETWORKS
from tests.nn.cases import CASES as LAYER_CASES
from tests.ops.cases import CASES as OP_CASES

pytestmark = pytest.mark.gpu
TOLERANCE = {"float32": 1e-4, "float64": 1e-10, "complex128": 1e-10}


@pytest.fixture(scope="module", autouse=True)
def cupy():
    try:
        return device_namespace("cuda")
    except RuntimeError as reason:
        pytest.skip(str(reason))


def close(got, expected, what=""):
    """Equal to the dtype's tolerance, relative to the largest entry (at least 1)."""
    expected = np.asarray(expected)
    assert type(got).__module__.startswith("cupy") and got.dtype == expected.dtype, what
    scale = max(1.0, np.abs(expected).max(initial=0.0))
    error = np.abs(to_numpy(got) - expected).max(initial=0.0) / scale
    assert error <= TOLERANCE[expected.dtype.name], f"{what}: {error:.1e}"


def upstream(y):
    return np.asarray(np.random.default_rng(1).standard_normal(np.shape(y))).astype(y.dtype)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("case", OP_CASES, ids=lambda case: case.name)
def test_every_op_has_the_hosts_numbers(case, dtype):
    inputs = [array.astype(dtype) if array.dtype.kind == "f" else array for array in case.inputs()]
    y, cache = case.forward(*inputs)
    dy = upstream(y)
    y_there, cache_there = case.forward(*(to_device(array, "cuda") for array in inputs))
    close(y_there, y, "forward")
    expected = case.gradients(dy, cache)
    for i, got in enumerate(case.gradients(to_device(dy, "cuda"), cache_there)):
        assert (got is None) == (expected[i] is None)
        if got is not None:
            close(got, expected[i], f"gradient of input {i}")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", LAYER_CASES, ids=lambda case: case.name)
def test_every_layer_has_the_hosts_numbers(case, dtype):
    here, there, x = case.layer(dtype), case.layer(dtype).to("cuda"), case.input(dtype)
    y = here.forward(x)
    dx = here.backward(upstream(y))
    close(there.forward(to_device(x, "cuda")), y, "y")
    close(there.backward(to_device(upstream(y), "cuda")), dx, "dx")
    for mine, theirs in zip(here.parameters(), there.parameters(), strict=True):
        close(theirs.grad, mine.grad, mine.name)
    for name, array in there.state_dict().items():
        close(array, here.state_dict()[name], name)


@pytest.mark.parametrize("options", [{}, {"block": nn.PreActBlock}, {"shortcut": "B"}, {"activation": nn.Tanh}])
def test_compiled_steps_and_inference_are_the_hosts(options):
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((8, 3, 11, 7)), rng.integers(0, 10, 8)
    here, there = (nn.resnet(8, width=4, **options).astype("float64") for _ in range(2))
    fast_here, fast_there = minires.compile(here), minires.compile(there.to("cuda"))
    for _ in range(3):
        loss, logits = fast_here.step(x, labels)
        loss_there, logits_there = fast_there.step(to_device(x, "cuda"), to_device(labels, "cuda"))
        close(loss_there, loss, "loss")
        close(logits_there, logits, "logits")
    close(fast_there.eval().infer(to_device(x, "cuda")), fast_here.eval().infer(x), "inference")
    for mine, theirs in zip(here.parameters(), there.parameters(), strict=True):
        close(theirs.grad, mine.grad, mine.name)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", KERNELS)
def test_every_kernel_is_what_its_arrays_say(cupy, name, dtype):
    kernel = KERNELS[name]
    here = list(arguments(kernel, dtype, (5, 6, 7)))
    expected = kernel.plain(np, *here)
    kinds = [dtype if kind == "T" else "float64" for kind, _ in declared(kernel.stated[1])]
    found = [cupy.empty(y.shape, kind) for y, kind in zip(expected, kinds, strict=True)]
    kernel(cupy, *(to_device(array, "cuda") for array in here), *found)
    for got, y, kind in zip(found, expected, kinds, strict=True):
        close(got, y.astype(kind), name)


def test_arrays_of_host_and_device_do_not_mix():
    model = nn.resnet(8, width=4)
    with pytest.raises(TypeError, match="one library"):
        model.to("cuda").forward(np.zeros((4, 3, 8, 8), "float32"))


@pytest.mark.parametrize("weight", [init.HeNormal(), init.XavierUniform(), init.Orthogonal(), init.TruncatedNormal()])
def test_same_seed_same_weights_bit_for_bit(weight):
    here, there = nn.resnet(8, width=4), nn.resnet(8, width=4).to("cuda")
    for model in (here, there):
        init.initialize(model, weight, rng=3)
    for a, b in zip(here.parameters(), there.parameters(), strict=True):
        assert a.value.tobytes() == to_numpy(b.value).tobytes(), a.name


def test_five_steps_in_float64_are_the_hosts():
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((8, 3, 11, 7)), rng.integers(0, 10, 8)
    here, there = (nn.resnet(8, width=4, shortcut="B").astype("float64") for _ in range(2))
    there.to("cuda")
    for model, images, classes in ((here, x, labels), (there, to_device(x, "cuda"), to_device(labels, "cuda"))):
        loss, optimizer = nn.SoftmaxCrossEntropy(), optim.SGD(model.parameters(), 0.1, weight_decay=1e-3)
        for _ in range(5):
            loss.forward(model.forward(images), classes)
            model.zero_grad()
            model.backward(loss.backward())
            optim.clip_grad_norm(optimizer.parameters, 5.0)
            optimizer.step()
    for name, array in there.state_dict().items():
        close(array, here.state_dict()[name], name)


def test_a_residual_network_trains():
    """A few epochs on the digits end far above chance; the chance of 60 % correct by guessing is nil."""
    digits = load_digits()
    model = nn.resnet(8, width=8, in_channels=1)
    history = train.fit(model, digits, epochs=3, batch_size=64, device="cuda", log_every=5)
    assert history.column("test_accuracy")[-1] > 0.6


@pytest.mark.parametrize("case", [*LAYERS[:6], *BLOCKS[:4], BLOCKS[10]], ids=lambda case: case.name)
def test_gradcheck_passes_on_the_device(case):
    report = gradcheck.check_layer(case.layer().to("cuda"), to_device(case.input(), "cuda"))
    assert report.verdict == "pass", report


def test_check_model_passes_on_the_device():
    case = NETWORKS[0]
    report = gradcheck.check_model(
        case.layer().to("cuda"), to_device(case.input(), "cuda"), to_device(np.array([0, 4, 2, 2]), "cuda")
    )
    assert report.verdict == "pass", report


def test_measure_gives_the_hosts_numbers():
    model = nn.resnet(8, width=4).astype("float64")
    expected = theory.measure(model, (4, 3, 9, 7), seeds=2).samples
    for key, values in theory.measure(model.to("cuda"), (4, 3, 9, 7), seeds=2).samples.items():
        np.testing.assert_allclose(values, expected[key], rtol=1e-8, err_msg=str(key))


def test_out_of_memory_names_the_batch_size(cupy):
    """A limit on CuPy's pool stands in for a full card."""
    digits, pool = load_digits(), cupy.get_default_memory_pool()
    before = pool.get_limit()
    pool.free_all_blocks()
    pool.set_limit(size=pool.total_bytes() + 2**20)
    try:
        with pytest.raises(MemoryError, match="batch size is 512: try half of"):
            train.fit(nn.resnet(20, in_channels=1), digits, epochs=1, batch_size=512, device="cuda")
    finally:
        pool.set_limit(size=before)


def test_an_absent_device_is_a_sentence():
    with pytest.raises(RuntimeError, match="numbered from 0"):
        device_namespace("cuda:99")
