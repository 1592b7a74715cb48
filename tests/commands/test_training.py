"""`minires train`, `evaluate`, `convert` and `data`, as a user calls them."""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from minires import checkpoint, cli, nn
from minires.commands import train
from minires.data import NAMES, count_batches
from minires.recipes import DEFAULTS, Settings, build_schedule, fit_arguments, he2015
from minires.threads import num_threads
from tests.slowness import measured

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"
SMALL = ("--width", "4", "--epochs", "2", "--batch-size", "128")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def minires(*arguments):
    return cli.main([str(argument) for argument in arguments])


def refused(capsys, *arguments):
    """The one sentence that a wrong call gets."""
    assert minires(*arguments) == 2
    sentence = capsys.readouterr().err
    assert sentence.count("\n") == 1
    return sentence


def test_train_leaves_everything_behind(here, capsys):
    assert minires("train", *SMALL) == 0
    output = capsys.readouterr().out
    assert "epoch   2/2" in output and "test loss, accuracy" in output and "images/s" in output
    run = here / "runs" / "digits-resnet8"
    assert (run / "curves.png").read_bytes()[:4] == b"\x89PNG"
    assert len(json.loads((run / "history.json").read_text())["epochs"]) == 2
    weights, metadata = checkpoint.read(run / "weights.npz")
    assert metadata["run"]["width"] == 4 and weights["conv1.weight"].shape == (4, 1, 3, 3)
    assert minires("train", *SMALL, "--seed", 1) == 0
    assert (here / "runs" / "digits-resnet8-2" / "weights.npz").exists()


def test_evaluate_repeats_the_table(here, capsys):
    minires("train", *SMALL, "--out", "run", "--model", "plain8")
    accuracy = re.search(r"test loss, accuracy *│ [\d.]+, ([\d.]+)%", capsys.readouterr().out)[1]
    newest = checkpoint.checkpoints(here / "run")[0]  # which a killed run has, and no weights.npz
    for call in (["run/weights.npz"], [newest], ["copy.safetensors", "--data", "digits", "--plain"]):
        if call[0] == "copy.safetensors":
            assert minires("convert", "run/weights.npz", "copy.safetensors", "--head", "fc") == 0
        assert minires("evaluate", "--weights", *call) == 0
        assert f"{accuracy}%" in capsys.readouterr().out


def test_a_checkpoint_is_weights_too_but_no_folder_of_a_run(here, capsys):
    minires("train", *SMALL, "--out", "run")
    newest = checkpoint.checkpoints(Path("run"))[0]
    capsys.readouterr()
    assert "--resume takes the folder of a run: --resume run" in refused(capsys, "train", "--resume", newest)
    assert minires("convert", newest, "w.safetensors") == 0
    found, expected = checkpoint.read_weights("w.safetensors"), checkpoint.read_weights("run/weights.npz")
    assert found.keys() == expected.keys() and all(np.array_equal(found[name], expected[name]) for name in found)
    assert minires("train", *SMALL, "--weights", newest, "--out", "second") == 0


def test_sigterm_saves_and_says_how_to_go_on(here):
    command = [sys.executable, "-m", "minires", "train", "--width", "4", "--epochs", "200", "--out", "run"]
    command += ["--data-dir", "my data"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    with open("errors", "w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment)
    assert process.stdout.readline().startswith("epoch   1/200")
    process.send_signal(signal.SIGTERM)
    output = process.stdout.read()
    assert process.wait() == 128 + signal.SIGTERM and Path("errors").read_text() == ""
    assert "stopped by SIGTERM" in output and "python -m minires train --resume run --data-dir 'my data'" in output
    _, _, state = checkpoint.load_checkpoint(here / "run")
    assert state["epoch"] >= 1


def test_resume_takes_the_settings_of_the_run_and_no_others(here, capsys):
    minires("train", *SMALL, "--out", "run")
    before = (here / "run" / "weights.npz").read_bytes()
    assert minires("train", "--resume", "run") == 0
    assert (here / "run" / "weights.npz").read_bytes() == before
    capsys.readouterr()
    assert "lr was 0.1, is 0.2" in refused(capsys, "train", "--resume", "run", "--lr", "0.2")
    assert "no --out" in refused(capsys, "train", "--resume", "run", "--out", "other")
    assert "holds a run already" in refused(capsys, "train", "--out", "run")
    assert "no checkpoint" in refused(capsys, "train", "--resume", "nowhere")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--model", "resnet9"], "N = 6n + 2"),
        (["--recipe", "he2015"], "made for --data cifar10"),
        (["--freeze"], "needs --weights"),
        (["--weights", "missing.npz"], "no such file"),
        (["--data", "mnist", "--data-dir", "nowhere"], "minires data mnist"),
        (["--hold-out", "2000"], "1442 images"),
    ],
)
def test_wrong_options_get_a_sentence(here, capsys, arguments, says):
    assert says in refused(capsys, "train", *arguments)
    assert not (here / "runs").exists()


def test_a_folder_that_cannot_be_written_is_said_at_once(here, capsys):
    (here / "file").write_text("")
    assert minires("train", *SMALL, "--out", "file/run") == 1
    assert "cannot write into file/run" in capsys.readouterr().err


def test_results_go_elsewhere_when_the_folder_is_full(here, capsys, monkeypatch):
    real = checkpoint.write_weights

    def full(path, *arguments):
        if Path(path).name == "weights.npz" and "run" in Path(path).parts:
            raise OSError(28, "No space left on device")
        return real(path, *arguments)

    monkeypatch.setattr("minires.checkpoint.write_weights", full)
    monkeypatch.setattr("tempfile.tempdir", str(here / "elsewhere"))
    (here / "elsewhere").mkdir()
    assert minires("train", *SMALL, "--out", "run") == 1
    captured = capsys.readouterr()
    assert "results not written into run" in captured.err and "No space left" in captured.err
    assert [path.name for path in (here / "elsewhere").glob("*/weights.npz")] == ["weights.npz"]


def test_a_disk_that_is_really_full(here):
    """Files may not grow beyond 40 kB: the first checkpoint does not fit, and the run does not start."""
    resource = pytest.importorskip("resource")
    done = subprocess.run(
        [sys.executable, "-m", "minires", "train", *SMALL, "--out", "run"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "cannot write into run: File too large" in done.stderr
    assert not list(Path("run").glob("*.npz")) and not list(Path("run").glob("*.tmp"))


def test_divergence_is_a_sentence_and_the_history_stays(here, capsys):
    assert minires("train", *SMALL, "--no-batchnorm", "--lr", "1e9", "--out", "run") == 1
    assert "first layer whose output is not finite" in capsys.readouterr().err
    assert json.loads((here / "run" / "history.json").read_text())["steps"]


def test_weights_start_a_run_and_freeze_keeps_them(here, capsys):
    minires("train", *SMALL, "--out", "first")
    start = checkpoint.read_weights("first/weights.npz")
    assert minires("train", *SMALL, "--weights", "first/weights.npz", "--freeze", "--out", "second") == 0
    end = checkpoint.read_weights("second/weights.npz")
    changed = {name for name in start if not np.array_equal(start[name], end[name])}
    assert changed == {"linear.weight", "linear.bias"}
    capsys.readouterr()
    assert "does not fit" in refused(capsys, "train", "--weights", "first/weights.npz", "--width", "8")


def test_he2015_is_the_papers_recipe():
    """Section 4.2: 64k steps, 0.1, a tenth after 32k and 48k; batch 128, momentum 0.9, decay 1e-4; pad 4 and flip."""
    settings = he2015("resnet20", train_images=45_000)
    per_epoch = count_batches(45_000, 128)
    assert 64_000 <= settings.epochs * per_epoch < 64_000 + per_epoch
    assert (settings.batch_size, settings.pad, settings.flip, settings.warmup) == (128, 4, True, 0)
    schedule = build_schedule(settings, 64_000)
    assert [schedule(s) for s in (0, 31_999, 32_000, 47_999)] == pytest.approx([0.1, 0.1, 0.01, 0.01])
    assert schedule(48_000) == schedule(63_999) == pytest.approx(0.001)
    optimizer = fit_arguments(settings, nn.resnet(8, width=4), Digits())["optimizer"]
    assert (optimizer.momentum, optimizer.weight_decay, optimizer.decay_all) == (0.9, 1e-4, True)


class Digits:
    x_train = range(45_000)


def test_110_layers_warm_up():
    schedule = build_schedule(he2015("resnet110", 45_000), 64_000)
    assert 0.01 <= schedule(0) < 0.011 and schedule(200) < 0.1 and schedule(400) == pytest.approx(0.1)


def test_every_setting_is_an_option():
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    assert set(Settings.__dataclass_fields__) <= {action.dest for action in parser._actions}
    assert set(train.DATA) == set(NAMES) == set(DEFAULTS)


def test_data_lists_what_is_there(capsys, tmp_path):
    assert minires("data", "--data-dir", tmp_path) == 0
    output = capsys.readouterr().out
    assert "in the package" in output and "python -m minires data cifar10" in output


def test_data_without_a_server_gets_a_sentence(capsys, tmp_path):
    pytest.importorskip("pooch")
    sentence = refused(capsys, "data", "mnist", "--data-dir", tmp_path, "--url", "http://127.0.0.1:9")
    assert "train-images-idx3-ubyte.gz: not downloaded" in sentence


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--weights", "missing.npz"], "no such file"),
        (["--weights", "w.npz"], "does not say what it was trained on"),
        (["--weights", "w.npz", "--data", "nowhere"], "neither a folder nor one of"),
        (["--weights", "w.npz", "--data", "."], "no data set that minires knows"),
        (["--weights", "w.npz", "--data", "digits"], "images of 3 channels"),
    ],
)
def test_evaluate_refuses_with_a_sentence(here, capsys, arguments, says):
    checkpoint.write_weights("w.npz", nn.resnet(8, width=4).state_dict())
    assert says in refused(capsys, "evaluate", *arguments)


@pytest.mark.parametrize("dtype", ["complex64", "int64", "bool"])
def test_weights_that_are_no_floating_point_numbers_get_a_sentence(here, capsys, dtype):
    state = nn.resnet(8, width=4, in_channels=1).state_dict()
    checkpoint.write_weights("w.npz", {name: array.astype(dtype) for name, array in state.items()})
    for command in (["evaluate", "--data", "digits"], ["train", *SMALL]):
        assert f"has dtype {dtype}" in refused(capsys, *command, "--weights", "w.npz")


def test_convert_says_what_the_target_cannot_hold(here, capsys):
    state = nn.resnet(8, width=4).state_dict()
    checkpoint.write_weights("w.npz", {name: array.astype("complex128") for name, array in state.items()})
    assert "safetensors does not know one of these dtypes: complex128" in refused(capsys, "convert", "w.npz")


def test_convert_does_not_overwrite_unasked(here, capsys):
    checkpoint.write_weights("w.npz", nn.resnet(8, width=4).state_dict())
    (here / "w.safetensors").write_text("mine")
    assert "name the target" in refused(capsys, "convert", "w.npz")
    assert (here / "w.safetensors").read_text() == "mine"


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the published weights and real images are not in {SHARED}")
def test_published_weights_on_a_folder_of_real_images(capsys):
    weights = SHARED / "pretrained" / "resnet20-cifar10.safetensors"
    assert minires("evaluate", "--weights", weights, "--data", SHARED / "cifar-10-batches-bin") == 0
    output = capsys.readouterr().out
    assert "932 of 1,017" in output and "0.37794" in output


def test_the_default_run_is_bit_identical(here):
    """Two processes, one seed; at the defaults but for the number of epochs."""
    for name in ("a", "b"):
        command = [sys.executable, "-m", "minires", "train", "--epochs", "2", "--out", name]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL)
    assert (here / "a" / "weights.npz").read_bytes() == (here / "b" / "weights.npz").read_bytes()


def test_the_defaults_reach_98_percent_in_a_minute(here):
    """Seed 0; seeds 0 to 4 run by `python -m tests.train.evidence digits`. A minute of each thread's processor."""
    with measured() as spent:
        assert minires("train", "--out", "run") == 0
    print(f"{spent.seconds:.1f} s of processor, the machine {spent.slowness:.1f} times as slow as ours")
    assert spent.there < 60 * num_threads()
    assert json.loads((here / "run" / "history.json").read_text())["epochs"][-1]["test_accuracy"] >= 0.98


def test_a_folder_that_goes_away_costs_nothing(here, capsys, monkeypatch):
    """Removed after the first epoch: the run goes on, and its results are where they were to be."""
    import shutil

    from minires.commands.train_output import Display

    real = Display.show

    def remove(display, now):
        real(display, now)
        if now.row is not None and now.epoch == 1:
            shutil.rmtree("run")

    monkeypatch.setattr(Display, "show", remove)
    assert minires("train", *SMALL, "--out", "run") == 0
    assert "not written, training goes on" in capsys.readouterr().err
    assert len(json.loads((here / "run" / "history.json").read_text())["epochs"]) == 2
    assert (here / "run" / "weights.npz").exists()


@pytest.mark.parametrize("run", [None, 3, {"model": "resnet8"}, {"data": 3, "lr": "x", "init": "magic"}, {"other": 1}])
def test_a_checkpoint_edited_by_hand_is_a_sentence(here, capsys, run):
    minires("train", *SMALL, "--epochs", "1", "--out", "run")
    _, arrays, state = checkpoint.load_checkpoint(here / "run")
    state["config"]["run"] = run
    checkpoint.save_checkpoint(here / "run", 99, arrays, state)
    capsys.readouterr()
    assert refused(capsys, "train", "--resume", "run")


def test_pictures_of_ones_own_train_and_test(here, capsys):
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    for label, level in (("dark", 60), ("light", 190)):
        (here / "photos" / label).mkdir(parents=True)
        for i in range(15):
            pixels = rng.normal(level, 20, (16, 16, 3)).clip(0, 255).astype(np.uint8)
            image.fromarray(pixels).save(here / "photos" / label / f"{i}.png")
    assert minires("train", "--data", "photos", "--epochs", "3", "--width", "4", "--out", "run") == 0
    assert "resnet8 on photos" in capsys.readouterr().out
    assert checkpoint.read_weights("run/weights.npz")["linear.weight"].shape == (2, 16)
    assert minires("evaluate", "--weights", "run/weights.npz") == 0
    assert "of 6 test images" in capsys.readouterr().out
    assert minires("train", "--resume", "run") == 0
    assert "is a folder itself" in refused(capsys, "train", "--data", "photos", "--data-dir", "photos")


def test_near_names_are_suggested(here, capsys):
    for arguments, near in (
        (["train", "--data", "mnits"], "did you mean mnist?"),
        (["train", "--init", "he_norml"], "did you mean he_normal"),
        (["train", "--schedule", "cosin"], "did you mean 'cosine'?"),
        (["train", "--ecpohs", "3"], "did you mean --epochs?"),
        (["evaluate", "--weights", "w.npz", "--data", "cifar"], "did you mean cifar10"),
    ):
        checkpoint.write_weights("w.npz", nn.resnet(8, width=2).state_dict())
        try:
            assert minires(*arguments) == 2
        except SystemExit as stop:
            assert stop.code == 2
        assert near in capsys.readouterr().err


def test_a_run_goes_on_on_its_own_engine_unless_asked(here, capsys):
    assert minires("train", "--epochs", "1", "--out", "run", "--no-compile", "--width", "4") == 0
    message = refused(capsys, "train", "--resume", "run")
    assert "engine was 'definition on" in message and "--other-engine" in message
    assert minires("train", "--resume", "run", "--other-engine") == 0
    assert "other last bits" in capsys.readouterr().err


def test_an_edited_op_has_its_effect_in_a_training(here, capsys, monkeypatch):
    """compile notices that the definition computes something else; the command says so and trains by the definition."""
    from minires import ops

    monkeypatch.setattr(ops.relu_backward, "__code__", (lambda dy, cache: 1.01 * dy * (cache != 0)).__code__)
    assert minires("train", "--epochs", "1", "--out", "run", "--width", "4") in (0, 1)
    assert "training goes on by the definition" in capsys.readouterr().err
