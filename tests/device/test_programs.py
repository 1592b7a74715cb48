"""What is made of the engine, on the fake GPU: training loops, gradient checks, measurements, procedures."""

import numpy as np
import pytest

from minires import gradcheck, init, nn, ops, theory, train
from minires.backend import to_device, to_numpy
from minires.data import Split, load_digits
from minires.fake_gpu import device, waits
from minires.gradcheck.own_checks import own_checks
from tests.nn.cases import BLOCKS, LAYERS, NETWORKS

# --- training --------------------------------------------------------------------------------------------------------

EPOCHS, BATCH, IMAGES = 2, 40, 240
STEPS = EPOCHS * IMAGES // BATCH


@pytest.fixture(scope="module")
def digits():
    whole = load_digits()
    return Split(whole.x_train[:IMAGES], whole.y_train[:IMAGES], whole.x_test[:BATCH], whole.y_test[:BATCH])


def fit(digits, device, **options):
    model = nn.resnet(8, width=4, in_channels=1)
    return model, train.fit(model, digits, epochs=EPOCHS, batch_size=BATCH, device=device, **options)


def test_fit_trains_as_on_the_host(digits):
    here, expected = fit(digits, "cpu")
    there, history = fit(digits, device)
    np.testing.assert_allclose(history.column("train_loss"), expected.column("train_loss"), rtol=1e-4)
    for name, array in there.state_dict().items():
        np.testing.assert_allclose(to_numpy(array), here.state_dict()[name], rtol=0, atol=1e-3, err_msg=name)


@pytest.mark.parametrize("log_every", [1, 3])
def test_fit_waits_once_a_logged_step(digits, log_every):
    """And once an epoch for the test images."""
    before = waits.count
    fit(digits, device, log_every=log_every)
    assert waits.count - before <= STEPS // log_every + EPOCHS


def test_a_loss_that_is_not_finite_stops_a_run_there_too(digits):
    with pytest.raises(train.TrainingDiverged, match=r"linear|conv|bn"):
        broken = Split(digits.x_train * np.float32(1e38), digits.y_train, digits.x_test, digits.y_test)
        fit(broken, device, log_every=3)


def test_out_of_memory_names_the_batch_size_and_what_to_try(digits, monkeypatch):
    """CuPy's OutOfMemoryError is a MemoryError, as the fake GPU's is here."""

    def full(*args, **options):
        raise MemoryError("out of memory allocating 2,147,483,648 bytes")

    monkeypatch.setattr(device, "full", full)
    with pytest.raises(MemoryError, match=rf"batch size is {BATCH}: try half of"):
        fit(digits, device)


def test_evaluate(digits):
    model = nn.resnet(8, width=4, in_channels=1)
    expected = train.evaluate(model, digits.x_test, digits.y_test)
    there = train.evaluate(model.to(device), digits.x_test, digits.y_test, device=device)
    np.testing.assert_allclose(there, expected, rtol=1e-5)


# --- gradient checks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "case", [LAYERS[0], LAYERS[2], LAYERS[4], LAYERS[12], BLOCKS[4], BLOCKS[10]], ids=lambda c: c.name
)
def test_check_layer_checks_the_devices_passes(case):
    report = gradcheck.check_layer(case.layer().to(device), to_device(case.input(), device))
    assert report.verdict == "pass", report


def test_check_model_checks_the_devices_passes():
    case = NETWORKS[0]
    x, labels = to_device(case.input(), device), to_device(np.array([0, 4, 2, 2]), device)
    report = gradcheck.check_model(case.layer().to(device), x, labels)
    assert report.verdict == "pass", report


def test_a_fault_that_the_device_alone_has_is_found(monkeypatch):
    """The check must run there: on the host this backward is right."""

    def faulty(self, dy, cache):
        dx = ops.tanh_backward(dy, cache)
        return dx if isinstance(dx, np.ndarray) else dx * 1.01

    monkeypatch.setattr(nn.Tanh, "_backward", faulty)
    x = np.random.default_rng(0).standard_normal((4, 3))
    assert gradcheck.check_layer(nn.Tanh(), x).verdict == "pass"
    assert gradcheck.check_layer(nn.Tanh(), to_device(x, device)).verdict == "fail"


# --- measurements and procedures -------------------------------------------------------------------------------------


def test_measure_gives_the_hosts_numbers():
    here, there = nn.resnet(8, width=4).astype("float64"), nn.resnet(8, width=4).astype("float64").to(device)
    expected = theory.measure(here, (4, 3, 9, 7), seeds=2)
    measured = theory.measure(there, (4, 3, 9, 7), seeds=2)
    assert expected.samples and measured.samples.keys() == expected.samples.keys()
    for key, values in expected.samples.items():
        np.testing.assert_allclose(measured.samples[key], values, rtol=1e-9, err_msg=str(key))


def test_lsuv_gives_the_hosts_weights():
    x = np.random.default_rng(0).standard_normal((8, 3, 9, 9))
    here, there = nn.resnet(8, width=4).astype("float64"), nn.resnet(8, width=4).astype("float64").to(device)
    init.lsuv(here, x)
    init.lsuv(there, to_device(x, device))
    for a, b in zip(here.parameters(), there.parameters(), strict=True):
        np.testing.assert_allclose(to_numpy(b.value), a.value, rtol=1e-9, err_msg=a.name)


@pytest.mark.parametrize("procedure", [init.zero_gamma, init.fixup])
def test_procedures_on_models(procedure):
    here, there = nn.resnet(8, width=4), nn.resnet(8, width=4).to(device)
    for model in (here, there):
        procedure(model)
    for a, b in zip(here.parameters(), there.parameters(), strict=True):
        assert np.array_equal(to_numpy(b.value), a.value), a.name


def test_the_commands_checks_run_there():
    """`minires gradcheck --device`: a sample of its list; the whole of it takes half a minute."""
    sample = ("conv2d", "batchnorm", "softmax_cross_entropy", "nn.MaxPool2d", "nn.Dropout")
    reports = {name: check() for name, check in own_checks(0, device) if name in sample}
    assert {name: report.verdict for name, report in reports.items()} == dict.fromkeys(sample, "pass")
