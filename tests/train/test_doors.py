"""What training refuses, what it leaves as it was, and what it does not lose."""

import json
import signal
import threading
import warnings

import numpy as np
import pytest

from minires import compile, nn, optim
from minires.checkpoint import CheckpointError, checkpoints, read, save_checkpoint
from minires.data import Augmentation, Split
from minires.files import FolderInUse, locked_folder
from minires.train import SettingsDiffer, TrainingDiverged, TrainingInterrupted, evaluate, first_nonfinite, fit
from tests.slowness import PATIENCE

from .test_fit import bits, interrupt_at, small_data, small_model, train, without_times

ONES, LABELS = np.ones((4, 1, 8, 8), np.float32), np.arange(4)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"batch_size": 0}, ValueError, "batch_size is 0"),
        ({"batch_size": 2.5}, TypeError, r"batch_size is 2\.5; expected a whole number"),
        ({"batch_size": "32"}, TypeError, "batch_size is '32'"),
        ({"seed": -1}, ValueError, "seed is -1"),
        ({"seed": None}, TypeError, "seed is None"),
        ({"epochs": True}, TypeError, "epochs is True"),
        ({"schedule": optim.Cosine}, TypeError, "schedule is the class Cosine"),
        ({"schedule": lambda: 0.1}, TypeError, "schedule is a function; expected None or a function of the step"),
        ({"report": lambda: None}, TypeError, "report is a function; expected None or a function of one argument"),
        ({"schedule": 0.1}, TypeError, r"schedule is 0\.1; expected None or a function"),
        ({"schedule": lambda step: float("nan")}, ValueError, "schedule gave nan for step 0"),
        ({"schedule": lambda step: -0.1}, ValueError, r"schedule gave -0\.1 for step 0"),
        ({"schedule": lambda step: "fast"}, TypeError, "schedule gave 'fast' for step 0"),
        ({"augmentation": Augmentation}, TypeError, "augmentation is the class Augmentation"),
        ({"optimizer": optim.SGD}, TypeError, "optimizer is the class SGD"),
        ({"report": "print"}, TypeError, "report is 'print'"),
        ({"resume": np.arange(4)}, TypeError, "resume is .*; expected True or False"),
        ({"compile": "no"}, TypeError, "compile is 'no'; expected True or False"),
        ({"other_engine": 2}, TypeError, "other_engine is 2; expected True or False"),
        ({"config": {"a": object()}}, TypeError, "config cannot be written as JSON"),
        ({"frozen": ("conv_1",)}, ValueError, "frozen holds 'conv_1'.*did you mean 'conv1'"),
        ({"frozen": "layer9"}, ValueError, "frozen holds 'layer9'.*no such layer"),
        ({"frozen": 3}, TypeError, "frozen is 3"),
        ({"config": {"lr": float("nan")}}, TypeError, "config cannot be written as JSON"),
        ({"resume": True}, ValueError, "resume is True and folder is None"),
        ({"folder": ""}, ValueError, "folder is ''"),
        ({"folder": "a\0b"}, ValueError, "folder is 'a"),
        (
            {"frozen": ("conv1", "bn1", "layer1", "layer2", "layer3", "linear")},
            ValueError,
            "frozen leaves no parameter",
        ),
    ],
)
def test_settings_that_make_no_sense(options, error, says):
    model = small_model()
    before = bits(model)
    with pytest.raises(error, match=says):
        train(model, **options)
    assert bits(model) == before


@pytest.mark.parametrize(
    ("data", "error", "says"),
    [
        ("digits", TypeError, "data is a str"),
        ((np.ones((4, 1, 8, 8), np.float32), [0.0, 1.0, 2.0, 3.0]), TypeError, "y_train has dtype float64"),
        ((np.ones((4, 1, 8, 8), np.float32), np.eye(4, dtype=int)), ValueError, r"y_train has shape \(4, 4\)"),
        ((np.ones((4, 1, 8, 8), np.float32), [0, 1]), ValueError, "there are 2 labels"),
        ((np.ones((0, 1, 8, 8), np.float32), np.zeros(0, int)), ValueError, "at least one"),
        (([[1.0]], [0]), TypeError, "x_train is a list"),
        ((np.array([["a"]], object), np.array([0])), TypeError, "x_train has dtype object; expected numbers"),
        ((1, 2, 3), TypeError, "data is 3 things"),
        (
            ((ONES, LABELS), (ONES, LABELS)),
            TypeError,
            r"data is 2 pairs; expected .*\(x_train, y_train, x_test, y_test\)",
        ),
        ((ONES, ONES, LABELS, LABELS), ValueError, "images in the place of labels; expected the order"),
        ((ONES, LABELS, ONES[..., :4], LABELS), ValueError, r"x_test \(1, 8, 4\) of float32; expected the same"),
        ((ONES, LABELS, ONES.astype(float), LABELS), ValueError, "x_test .* of float64; expected the same"),
        ((ONES, LABELS, ONES, LABELS + 8), ValueError, r"y_test: labels hold 11; expected 0\.\.9"),
        ((ONES, LABELS - 1), ValueError, "y_train: labels hold -1"),
        ((ONES[:, :, 0], LABELS), ValueError, "conv1: x has shape"),
        ((np.ma.masked_array(ONES, ONES > 0), LABELS), TypeError, "x_train: expected a plain array, got a MaskedArray"),
        (
            (ONES, np.ma.masked_array(LABELS, LABELS > 1)),
            TypeError,
            "y_train: expected a plain array, got a MaskedArray",
        ),
    ],
)
def test_data_that_is_none(data, error, says, tmp_path):
    """Said before anything is computed; and no folder is left that would be "a run already" at the next try."""
    model = small_model()
    before = bits(model)
    with pytest.raises(error, match=says):
        fit(model, data, epochs=1, folder=tmp_path / "run")
    assert bits(model) == before and model.training and not (tmp_path / "run").exists()


def test_numbers_of_numpy_are_numbers_in_a_file_too(tmp_path):
    data = small_data(40, 20)
    options = {"epochs": np.int64(1), "batch_size": np.int32(20), "seed": np.int64(3), "log_every": np.int8(2)}
    fit(small_model(), data, schedule=lambda step: np.float32(0.1), folder=tmp_path / "run", **options)
    assert json.loads((tmp_path / "run" / "history.json").read_text())["epochs"][0]["lr"] == float(np.float32(0.1))


def test_fit_compiles_by_itself():
    with pytest.raises(TypeError, match=r"model is a Compiled; expected the model itself: fit\(model, \.\.\., compile"):
        fit(compile(small_model()), small_data(), epochs=1)


def test_a_model_without_parameters_is_not_called_frozen():
    with pytest.raises(ValueError, match="model has no parameter to train"):
        fit(nn.Sequential(nn.Flatten()), small_data(), epochs=1)


def test_evaluation_names_its_own_arguments():
    x, y = small_data(40, 20)[:2]
    for arguments, says in (((x.tolist(), y), "^x is a list"), ((x, np.eye(10)[y]), r"^y has .*: y\.argmax\(axis=1\)")):
        with pytest.raises((TypeError, ValueError), match=says):
            evaluate(small_model(), *arguments)


def test_a_class_is_no_model():
    with pytest.raises(TypeError, match=r"model is the class Linear, not an object of it; expected Linear"):
        fit(nn.Linear, small_data(), epochs=1)
    with pytest.raises(TypeError, match=r"expected a minires\.nn\.Layer"):
        evaluate(None, *small_data()[2:])


def test_labels_may_be_a_list():
    data = small_data(64, 20)
    one, two = small_model(), small_model()
    fit(one, data, epochs=1)
    fit(two, [data.x_train, data.y_train.tolist(), data.x_test, tuple(data.y_test.tolist())], epochs=1)
    assert bits(one) == bits(two)


def test_frozen_may_be_one_name_or_a_generator():
    before = small_model().state_dict()
    for frozen in ("conv1", (name for name in ("conv1",)), ["conv1"]):
        model = small_model()
        train(model, epochs=1, frozen=frozen)
        assert np.array_equal(model.conv1.weight.value, before["conv1.weight"])
        assert not np.array_equal(model.linear.weight.value, before["linear.weight"])


def test_an_optimizer_of_another_model_or_of_frozen_parameters_is_refused():
    model = small_model()
    with pytest.raises(ValueError, match="parameters are not this model's"):
        train(model, optimizer=optim.SGD(small_model().parameters()))
    with pytest.raises(ValueError, match=r"optimizer moves conv1\.weight, which frozen"):
        train(model, optimizer=optim.SGD(model.parameters()), frozen=("conv1",))


@pytest.mark.parametrize("part", ["x_train", "y_train", "x_test", "y_test"])
def test_a_run_is_not_resumed_with_other_data(tmp_path, part):
    train(small_model(), tmp_path, epochs=1)
    data = small_data()
    changed = getattr(data, part).copy()
    changed[[0, 1]] = changed[[1, 0]]
    options = {"batch_size": 32, "schedule": optim.Cosine(0.1, 21), "seed": 1, "augmentation": Augmentation(pad=1)}
    with pytest.raises(SettingsDiffer, match="crc32"):
        fit(small_model(), data._replace(**{part: changed}), epochs=1, folder=tmp_path, resume=True, **options)


def test_a_run_is_not_resumed_with_other_layers_of_the_same_size(tmp_path):
    train(small_model(), tmp_path, epochs=1)
    other = small_model()
    other.bn1.momentum = 0.5
    for model in (other, nn.resnet(8, width=4, in_channels=1, activation=nn.Tanh)):
        with pytest.raises(SettingsDiffer, match="layers_crc32"):
            train(model, tmp_path, epochs=1, resume=True)


def test_a_run_is_not_resumed_with_an_optimizer_of_fewer_parameters(tmp_path):
    train(small_model(), tmp_path, epochs=1)
    model = small_model()
    with pytest.raises(SettingsDiffer, match="trained_parameters was"):
        train(model, tmp_path, epochs=1, resume=True, optimizer=optim.SGD(model.linear))


def halved_after(step, factor=0.5):
    return lambda now: 0.1 * (factor if now >= step else 1)


def test_a_run_is_not_resumed_with_a_function_that_gives_other_rates(tmp_path):
    train(small_model(), tmp_path, epochs=1, schedule=halved_after(2))
    train(small_model(), tmp_path, epochs=1, schedule=halved_after(2), resume=True)
    with pytest.raises(SettingsDiffer, match=r"learning rate of step 3 was 0\.05, is 0\.02"):
        train(small_model(), tmp_path, epochs=1, schedule=halved_after(2, 0.2), resume=True)


def test_a_schedule_is_described_without_memory_addresses(tmp_path):
    train(small_model(), tmp_path, epochs=1, schedule=optim.Warmup(halved_after(9), 3))
    described = json.loads((tmp_path / "history.json").read_text())["config"]["schedule"]
    assert described == "Warmup(schedule=halved_after.<locals>.<lambda>, steps=3, start=0.0)"
    train(small_model(), tmp_path, epochs=1, schedule=optim.Warmup(halved_after(9), 3), resume=True)


@pytest.mark.parametrize("training", [True, False])
def test_evaluation_leaves_the_model_as_it_was(training):
    model = small_model().train(training)
    model.layer1.eval()
    modes = [layer.training for _, layer in model.named_layers()]
    state = bits(model)
    evaluate(model, *small_data()[2:])
    assert first_nonfinite(model, small_data().x_test) is None
    assert [layer.training for _, layer in model.named_layers()] == modes and bits(model) == state


def test_first_nonfinite_draws_nothing_from_dropout():
    dropout = nn.Dropout(0.5, rng=3)
    state = dropout.rng.bit_generator.state
    first_nonfinite(nn.Sequential(nn.Flatten(), dropout), small_data().x_test)
    assert dropout.rng.bit_generator.state == state


def test_weights_that_are_nan_are_named():
    model = small_model()
    model.layer2.parameters()[0].value[0, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match=r"layer2\.0\.conv1\.weight holds NaN or infinity"):
        evaluate(model, *small_data()[2:])


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("layer1.0.bn1.running_mean", np.nan, "running_mean holds NaN or infinity"),
        ("bn1.running_var", np.inf, "running_var holds NaN or infinity"),
        ("bn1.running_var", -1, "running_var holds a negative variance"),
    ],
)
def test_running_statistics_that_make_no_sense_are_named(name, value, says):
    model = small_model()
    state = model.state_dict()
    state[name][0] = value
    model.load_state_dict(state)
    with pytest.raises(ValueError, match=says):
        evaluate(model, *small_data()[2:])
    with pytest.raises(ValueError, match=says):
        train(model)


@pytest.mark.parametrize("part", ["x_train", "x_test"])
def test_images_that_are_nan_are_named_and_no_layer_is_blamed(part):
    data = small_data()
    images = getattr(data, part).copy()
    images[3, 0, 2, 2] = np.nan
    with pytest.raises(ValueError, match=f"{part} holds NaN or infinity"):
        fit(small_model(), data._replace(**{part: images}), epochs=1)


def test_a_model_is_not_evaluated_while_another_thread_trains_it():
    """Each would find it in the mode of the other."""
    model, started, go_on = small_model(), threading.Event(), threading.Event()
    asked = []

    def wait(now):
        asked.append(evaluate(model, *small_data()[2:]))  # the thread that trains it may
        started.set()
        go_on.wait(PATIENCE)

    thread = threading.Thread(target=lambda: train(model, epochs=1, report=wait))
    thread.start()
    started.wait(PATIENCE)
    try:
        with pytest.raises(ValueError, match="being trained or evaluated already"):
            evaluate(model, *small_data()[2:])
        with pytest.raises(ValueError, match="being trained or evaluated already"):
            first_nonfinite(model, small_data().x_test)
    finally:
        go_on.set()
        thread.join()
    assert asked
    evaluate(model, *small_data()[2:])


def test_a_model_is_trained_by_one_thread_at_a_time():
    model, started, go_on, found = small_model(), threading.Event(), threading.Event(), []

    def wait(now):
        started.set()
        go_on.wait(PATIENCE)

    thread = threading.Thread(target=lambda: found.append(train(model, epochs=1, report=wait)))
    thread.start()
    started.wait(PATIENCE)
    try:
        with pytest.raises(ValueError, match="being trained or evaluated already"):
            train(model, epochs=1)
        with pytest.raises(ValueError, match="being trained or evaluated already"):  # a part of it
            fit(nn.Sequential(nn.GlobalAvgPool2d(), model.linear), small_data(), epochs=1)
    finally:
        go_on.set()
        thread.join()
    assert len(found[0].epochs) == 1
    train(model, epochs=1)


def test_velocities_that_are_nan_are_named_and_no_layer_is_blamed():
    model = small_model()
    optimizer = optim.SGD(model)
    optimizer.velocities[0] = optimizer.velocities[0] * np.nan
    with pytest.raises(ValueError, match=r"the velocity of conv1\.weight holds NaN"):
        train(model, optimizer=optimizer)


def test_a_generators_state_that_was_edited_is_refused(tmp_path):
    def model():
        return nn.Sequential(nn.Flatten(), nn.Dropout(0.1), nn.Linear(64, 10))

    fit(model(), small_data(64, 20), epochs=1, folder=tmp_path)
    newest = checkpoints(tmp_path)[0]
    arrays, state = read(newest)
    state["generators"]["1.rng"]["state"]["state"] = -1
    save_checkpoint(tmp_path, state["epoch"], arrays, state)
    for path in checkpoints(tmp_path)[1:]:
        path.unlink()
    with pytest.raises((CheckpointError, SettingsDiffer)):
        fit(model(), small_data(64, 20), epochs=1, folder=tmp_path, resume=True)


def test_a_file_in_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(FileExistsError, match="run is a file; expected a folder"):
        train(small_model(), tmp_path / "run")


def test_a_wrong_number_of_threads_is_no_disagreement(monkeypatch):
    monkeypatch.setenv("MINIRES_NUM_THREADS", "many")
    with warnings.catch_warnings(), pytest.raises(ValueError, match="MINIRES_NUM_THREADS is 'many'"):
        warnings.simplefilter("error")
        train(small_model(), compile=True)


def test_a_folder_in_use_is_refused(tmp_path):
    with locked_folder(tmp_path), pytest.raises(FolderInUse, match="in use by process"):
        train(small_model(), tmp_path)
    train(small_model(), tmp_path, epochs=1)
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_report_that_fails_costs_nothing(tmp_path):
    expected, model, calls = small_model(), small_model(), []
    history = train(expected)

    def report(now):
        calls.append(now)
        if now.row is not None:
            raise OSError(32, "Broken pipe")

    with pytest.warns(UserWarning, match=r"report failed \(BrokenPipeError.*training goes on without it"):
        found = train(model, tmp_path, report=report)
    assert bits(model) == bits(expected) and without_times(found) == without_times(history)
    assert len(calls) == 8  # seven steps, and the row that failed


def test_a_listener_that_ends_the_program_costs_no_epoch(tmp_path):
    def report(now):
        if now.row is not None:
            raise SystemExit

    with pytest.raises(SystemExit):
        train(small_model(), tmp_path, report=report)
    assert read(checkpoints(tmp_path)[0])[1]["epoch"] == 1


def test_resuming_completes_the_history_file(tmp_path):
    """As after a kill between the checkpoint and history.json."""
    train(small_model(), tmp_path)
    whole = (tmp_path / "history.json").read_text()
    content = json.loads(whole)
    content["epochs"], content["steps"] = content["epochs"][:1], content["steps"][:7]
    (tmp_path / "history.json").write_text(json.dumps(content))
    train(small_model(), tmp_path, resume=True)
    assert json.loads((tmp_path / "history.json").read_text()) == json.loads(whole)
    (tmp_path / "history.json").unlink()
    train(small_model(), tmp_path, resume=True)
    assert json.loads((tmp_path / "history.json").read_text()) == json.loads(whole)


def test_a_history_that_cannot_be_written_costs_itself_alone(tmp_path, monkeypatch):
    def full(path, text):
        raise OSError(28, "No space left on device")

    model, calls = small_model(), []

    def report(now):
        calls.append(now)
        monkeypatch.setattr("minires.train.saving.atomic_write_text", full)

    with pytest.warns(UserWarning, match=r"history\.json not written, training goes on"):
        train(model, tmp_path, report=report)
    _, state = read(checkpoints(tmp_path)[0])
    assert state["epoch"] == 3 and len(state["history"]["epochs"]) == 3


@pytest.mark.parametrize(
    "edit",
    [
        {"epoch": "two"},
        {"epoch": -1},
        {"epoch": 2},
        {"batch": 99},
        {"batch": True},
        {"seconds": float("nan")},
        {"history": []},
        {"history": {"steps": [], "epochs": [{}]}},
        {"history": {"steps": [{"step": "1", "loss": 1, "lr": 1}], "epochs": []}},
        {"generators": None, "versions": None},
        {"versions": {}},
        {"config": [1]},
    ],
)
def test_checkpoints_edited_by_hand_get_a_sentence(tmp_path, edit):
    train(small_model(), tmp_path, epochs=1)
    path = checkpoints(tmp_path)[0]
    arrays, state = read(path)
    save_checkpoint(tmp_path, 99, arrays, {**state, **edit})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises((CheckpointError, SettingsDiffer), match=r"no checkpoint of a run|other settings"):
            train(small_model(), tmp_path, epochs=1, resume=True)


def test_a_model_that_diverged_says_so_and_is_left_usable():
    model = small_model(batchnorm=False)
    with pytest.raises(TrainingDiverged):
        train(model, schedule=optim.Constant(1e9))
    train(small_model(), epochs=1)


def test_data_may_be_a_plain_tuple():
    data = small_data(64, 20)
    assert len(fit(small_model(), (data.x_train, data.y_train), epochs=1).epochs) == 1
    assert isinstance(data, Split)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")
def test_a_closed_terminal_saves_unless_the_run_was_to_outlive_it(tmp_path):
    before = signal.getsignal(signal.SIGHUP)
    try:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        with pytest.raises(TrainingInterrupted, match="SIGHUP after step 5"):
            train(small_model(), tmp_path, report=interrupt_at(5, signal.SIGHUP))
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
        assert len(train(small_model(), tmp_path / "nohup", report=interrupt_at(5, signal.SIGHUP)).epochs) == 3
    finally:
        signal.signal(signal.SIGHUP, before)
