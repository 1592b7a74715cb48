"""The training loop: it learns, repeats itself to the last bit, survives interruption, and names what went wrong."""

import json
import os
import signal
import threading
import warnings

import numpy as np
import pytest

from minires import nn, optim
from minires.backend import to_numpy
from minires.checkpoint import CheckpointError, checkpoints, read, save_checkpoint
from minires.data import Augmentation, Split, load_digits
from minires.train import SettingsDiffer, TrainingDiverged, TrainingInterrupted, evaluate, first_nonfinite, fit


def small_data(train=200, test=50):
    x_train, y_train, x_test, y_test = load_digits()
    return Split(x_train[:train], y_train[:train], x_test[:test], y_test[:test])


def small_model(**options):
    return nn.resnet(8, **{"width": 4, "in_channels": 1, "rng": 0, **options})


def dropping_model():
    """With a layer that owns a random generator."""
    rng = np.random.default_rng(5)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, rng=0),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.3, rng=rng),
        nn.Linear(256, 10, rng=1),
    )


def train(model, folder=None, **options):
    """A short run whose every setting can be replaced."""
    defaults = {
        "epochs": 3,
        "batch_size": 32,
        "schedule": optim.Cosine(0.1, 21),
        "seed": 1,
        "augmentation": Augmentation(pad=1),
        "folder": folder,
    }
    return fit(model, small_data(), **{**defaults, **options})


def bits(model):
    return {name: array.tobytes() for name, array in model.state_dict().items()}


def without_times(history):
    timed = ("seconds", "images_per_second")
    return history.steps, [{k: v for k, v in row.items() if k not in timed} for row in history.epochs]


def interrupt_at(step, number=signal.SIGINT):
    def report(now):
        if now.step == step and now.row is None:
            os.kill(os.getpid(), number)

    return report


def test_it_learns_and_says_how():
    model = small_model()
    history = train(model, epochs=8, schedule=optim.Cosine(0.1, 56))
    assert history.column("epoch") == [1, 2, 3, 4, 5, 6, 7, 8] and len(history.steps) == 56
    guessing, sigma = 0.1, np.sqrt(0.1 * 0.9 / 50)
    assert history.epochs[-1]["test_accuracy"] > guessing + 4.9 * sigma  # a false-alarm rate of 1e-6
    loss, accuracy = evaluate(model, *small_data()[2:])
    assert (loss, accuracy) == (history.epochs[-1]["test_loss"], history.epochs[-1]["test_accuracy"])


def test_the_first_steps_are_plain_gradient_descent():
    """Two epochs of fit against the same four steps written out."""
    from minires.data import batches

    data, model, twin, moves = small_data(64), small_model(), small_model(), Augmentation(pad=1)
    optimizer = optim.SGD(model.parameters(), 0.05)
    history = fit(model, data, epochs=2, batch_size=32, optimizer=optimizer, seed=9, augmentation=moves)
    optimizer, loss, losses = optim.SGD(twin.parameters(), 0.05), nn.SoftmaxCrossEntropy(), []
    for epoch in (0, 1):
        for x, y in batches(data.x_train, data.y_train, 32, seed=9, epoch=epoch, augmentation=moves):
            losses.append(float(loss.forward(twin.forward(x), y)))
            twin.zero_grad()
            twin.backward(loss.backward())
            optimizer.step()
    assert bits(model) == bits(twin)
    assert [row["loss"] for row in history.steps] == losses


def test_evaluation_weighs_every_image_alike():
    model, data = small_model(), small_data()
    losses = [evaluate(model, data.x_test, data.y_test, size) for size in (50, 7, 1)]
    assert np.ptp([loss for loss, _ in losses]) < 1e-6 and len({accuracy for _, accuracy in losses}) == 1


def test_same_seed_same_bits_and_another_seed_others():
    runs = [bits_of_run(seed) for seed in (3, 3, 4)]
    assert runs[0] == runs[1] != runs[2]


def bits_of_run(seed):
    model = small_model()
    history = train(model, seed=seed)
    return bits(model), without_times(history)


def test_looking_at_the_loss_less_often_changes_no_weight():
    one, five = small_model(), small_model()
    seen = [len(train(model, log_every=n).steps) for model, n in ((one, 1), (five, 5))]
    assert bits(one) == bits(five) and seen == [21, 6]


def test_the_device_is_waited_for_once_a_look(monkeypatch):
    """Whatever leaves the device passes `to_numpy`: the two sums at each look at the loss and at each test, no more."""
    waits = []
    for module in ("run", "evaluation"):
        monkeypatch.setattr(f"minires.train.{module}.to_numpy", lambda x: waits.append(np.shape(x)) or to_numpy(x))
    history = train(small_model(), log_every=7, epochs=2)
    assert len(history.steps) == 2 and waits == [(2,)] * 4


@pytest.mark.parametrize("make", [small_model, dropping_model])
@pytest.mark.parametrize(("number", "step"), [(signal.SIGINT, 1), (signal.SIGTERM, 10), (signal.SIGINT, 14)])
def test_an_interrupted_run_ends_with_the_same_bits(tmp_path, make, number, step):
    whole, model, resumed = make(), make(), make()
    expected = train(whole)
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(TrainingInterrupted, match=f"{signal.Signals(number).name} after step {step}"):
        train(model, tmp_path, report=interrupt_at(step, number))
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    found = train(resumed, tmp_path, resume=True)
    assert bits(resumed) == bits(whole)
    assert without_times(found) == without_times(expected)


def test_without_the_generators_a_resumed_run_would_differ(tmp_path, monkeypatch):
    """The check above can fail."""
    whole, resumed = dropping_model(), dropping_model()
    train(whole)
    with pytest.raises(TrainingInterrupted):
        train(dropping_model(), tmp_path, report=interrupt_at(10))
    monkeypatch.setattr("minires.train.run.Run.generators", lambda run: iter(()))
    train(resumed, tmp_path, resume=True)
    assert bits(resumed) != bits(whole)


def test_resuming_a_finished_run_changes_nothing(tmp_path):
    model, again = small_model(), small_model()
    history = train(model, tmp_path)
    assert without_times(train(again, tmp_path, resume=True)) == without_times(history)
    assert bits(again) == bits(model) and len(checkpoints(tmp_path)) == 2


def test_other_settings_are_named(tmp_path):
    train(small_model(), tmp_path, epochs=1)
    with pytest.raises(SettingsDiffer, match="batch_size was 32, is 16; epochs was 1, is 3; schedule was") as found:
        train(small_model(), tmp_path, batch_size=16, resume=True, schedule=None)
    assert found.value.names == ["batch_size", "epochs", "schedule"]
    with pytest.raises(SettingsDiffer, match="parameters"):
        train(small_model(width=5), tmp_path, epochs=1, resume=True)


def test_a_run_is_not_overwritten_and_nothing_is_resumed_from_nothing(tmp_path):
    train(small_model(), tmp_path / "run", epochs=1)
    with pytest.raises(FileExistsError, match="holds a run already"):
        train(small_model(), tmp_path / "run", epochs=1)
    with pytest.raises(CheckpointError, match="no checkpoint"):
        train(small_model(), tmp_path / "empty", resume=True)
    newest = checkpoints(tmp_path / "run")[0]
    _, state = read(newest)
    for wrong in ({"mine": 1}, {"config": state["config"]}, {**state, "history": 3}):
        save_checkpoint(tmp_path / "run", 99, {}, wrong)
        with pytest.raises((SettingsDiffer, CheckpointError, ValueError)):
            train(small_model(), tmp_path / "run", epochs=1, resume=True)


def test_history_is_valid_json_at_every_moment(tmp_path):
    seen = []

    def report(now):
        content = json.loads((tmp_path / "history.json").read_text())
        seen.append((len(content["epochs"]), len(content["steps"])))

    train(small_model(), tmp_path, report=report)
    assert seen[0] == (0, 0) and seen[-1] == (2, 14)
    content = json.loads((tmp_path / "history.json").read_text())
    assert content["config"]["batch_size"] == 32 and len(content["epochs"]) == 3 and "numpy" in content["versions"]


@pytest.mark.parametrize("log_every", [1, 4])
def test_divergence_names_the_first_layer_and_the_step(log_every):
    """The weights of one layer become huge after the second step: it is that layer that is named, at the third."""
    model = small_model(batchnorm=False)

    def sabotage(step):
        if step == 2:
            layer = dict(model.named_layers())["layer2.0.conv2"]
            layer.weight.value = layer.weight.value * np.float32(1e38)
        return 0.0

    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # NumPy's own remarks are not for the user
        with pytest.raises(TrainingDiverged, match=r"at step 3; .*: layer2\.0\.conv2 \(Conv2d\)") as found:
            train(model, schedule=sabotage, log_every=log_every)
    assert found.value.step == 3 and not np.isfinite(found.value.loss)


def test_divergence_leaves_a_history(tmp_path):
    with pytest.raises(TrainingDiverged):
        train(small_model(batchnorm=False), tmp_path, schedule=optim.Constant(1e6))
    assert json.loads((tmp_path / "history.json").read_text())["steps"]


def test_first_nonfinite_is_none_where_all_is_well():
    assert first_nonfinite(small_model(), small_data().x_test) is None


def test_frozen_layers_stay_as_they_are():
    model = small_model()
    before = model.state_dict()
    train(model, frozen=("conv1", "bn1", "layer1"))
    after = model.state_dict()
    changed = {name.split(".")[0] for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {"layer2", "layer3", "linear"}


def test_a_folder_that_cannot_be_written_shows_at_the_start(tmp_path):
    (tmp_path / "file").write_text("")
    model, steps = small_model(), []
    with pytest.raises(OSError):
        train(model, tmp_path / "file" / "run", report=steps.append)
    assert not steps


def test_a_disk_that_fills_up_is_a_warning_and_nothing_is_lost(tmp_path, monkeypatch):
    """From the second save on there is no space; the run goes on, and the first checkpoint is still there."""
    expected = small_model()
    train(expected)
    saves = []

    def full(folder, step, arrays, state):
        saves.append(step)
        if len(saves) > 1:
            raise OSError(28, "No space left on device", str(folder))
        return save_checkpoint(folder, step, arrays, state)

    monkeypatch.setattr("minires.checkpoint.save_checkpoint", full)
    model = small_model()
    with pytest.warns(UserWarning, match="not written, training goes on: .*No space left"):
        train(model, tmp_path)
    assert bits(model) == bits(expected) and len(checkpoints(tmp_path)) == 1


def test_an_interruption_that_cannot_be_saved_is_an_error(tmp_path, monkeypatch):
    real, saves = save_checkpoint, []

    def full(*arguments):
        saves.append(1)
        if len(saves) > 1:
            raise OSError(28, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr("minires.checkpoint.save_checkpoint", full)
    with pytest.raises(OSError, match="No space left"):
        train(small_model(), tmp_path, report=interrupt_at(3))


def test_fit_works_in_a_thread(tmp_path):
    """Signals are the main thread's business; elsewhere the run simply does without them."""
    found = []
    thread = threading.Thread(target=lambda: found.append(train(small_model(), tmp_path, epochs=1)))
    thread.start()
    thread.join()
    assert len(found[0].epochs) == 1


@pytest.mark.parametrize(("options", "says"), [({"epochs": -1}, "epochs is -1"), ({"log_every": 0}, "log_every is 0")])
def test_settings_out_of_range(options, says):
    with pytest.raises(ValueError, match=says):
        train(small_model(), **options)


def test_a_compiled_run_learns_what_a_plain_one_does():
    plain, compiled = small_model(), small_model()
    losses = [train(model, compile=model is compiled).column("train_loss") for model in (plain, compiled)]
    np.testing.assert_allclose(*losses, rtol=1e-3)
    assert compiled.training is plain.training
