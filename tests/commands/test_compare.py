"""`minires compare`: what it says of signals that are known, and a small comparison from end to end."""

from __future__ import annotations

import csv
import json
import math
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from minires import cli, fake_gpu, init, nn
from minires.comparison import CHANCE, NETWORKS, Case, Run, Signal, build, halves, measure, rms, run_case
from minires.files import locked_folder
from minires.theory.forecast import Forecast

SMALL = ["compare", "--depth", "8", "--epochs", "1"]


def signal(activations, gradients):
    layers = [f"layer{i}" for i in range(len(activations))]
    return Signal(dict(zip(layers, activations, strict=True)), dict(zip(layers, gradients, strict=True)))


@pytest.mark.parametrize(
    ("activations", "gradients", "expected"),
    [
        ([1.0, 0.5, 0.2], [0.1, 0.1, 0.1], "steady"),
        ([0.1, 1e-2, 1e-4], [1.0, 1.0, 1.0], "dies by layer 3"),
        ([0.0, 0.0, 0.0], [0.0, 0.0, 1.0], "dies by layer 1"),
        ([1.0, 1e4, 1e8], [1.0, 1.0, 1.0], "explodes by layer 2"),
        ([1.0, math.nan, math.nan], [1.0, 1.0, 1.0], "explodes by layer 2"),
        ([1.0, math.inf, math.inf], [1.0, 1.0, 1.0], "explodes by layer 2"),
        ([1.0, 1.0, 1.0], [1e-9, 1e-6, 1e-2], "gradient dies by layer 2"),
        ([1.0, 1.0, 1.0], [1e6, 1.0, 1e-2], "gradient explodes by layer 1"),
        ([1.0, 1.0, 1.0], [math.nan, 1.0, 1.0], "gradient explodes by layer 1"),
    ],
)
def test_a_signal_says_where_it_dies_or_explodes(activations, gradients, expected):
    assert str(signal(activations, gradients)) == expected


@pytest.mark.parametrize(
    ("losses", "diverged", "accuracy", "expected"),
    [
        ((2.3, 1.5, 0.2), False, 0.9, "learned"),
        ((2.3, 2.2, 1.8), False, 0.2, "learns slowly"),
        ((9.0, 4.0, 3.0), False, 0.4, "learns slowly"),
        ((2.3, 2.31, 2.3), False, 0.1, "never left log(10)"),
        ((900.0, 2.31, 2.3), False, 0.1, "never left log(10)"),
        ((2.3, 1e6), False, 0.1, "diverged"),
        ((2.3, 1.0), True, math.nan, "diverged"),
    ],
)
def test_a_run_says_how_training_went(losses, diverged, accuracy, expected):
    foreseen = Forecast("steady", [], [])
    run = Run(Case("plain", "x", init.Zeros()), signal([1.0], [1.0]), foreseen, losses, diverged, accuracy)
    assert run.outcome == expected


def test_the_halves_share_no_image_and_hold_every_class():
    first, second = halves()
    images = {image.tobytes() for image in first.x_train}
    assert not images & {image.tobytes() for image in second.x_train}
    assert abs(len(first.x_train) - len(second.x_train)) <= 1
    assert np.bincount(first.y_train).min() >= 60 and np.bincount(second.y_train).min() >= 60
    assert np.array_equal(first.x_test, second.x_test)


def test_measure_agrees_with_the_arrays_and_leaves_the_model_alone():
    """The first activation and the last layer can be had without an observer; BatchNorm must not have moved."""
    data = halves()[1]
    x, y = data.x_train[:16], data.y_train[:16]
    model = build(Case("residual + BatchNorm", "he_normal", None, depth=8))
    before = model.state_dict()
    found, value = measure(model, x, y)
    assert all(np.array_equal(array, before[name]) for name, array in model.state_dict().items())
    assert all(not parameter.grad.any() for parameter in model.parameters())

    first = model.relu.forward(model.bn1.forward(model.conv1.forward(x)))
    loss = nn.SoftmaxCrossEntropy()
    assert value == float(loss.forward(model.forward(x), y))
    upstream = loss.backward()
    names = list(found.activations)
    assert names == ["relu", *(f"layer{i}.0.relu{j}" for i in (1, 2, 3) for j in (1, 2)), "linear"]
    assert names == list(found.gradients)
    assert found.activations["relu"] == rms(first)
    assert found.gradients["linear"] == rms(upstream)


def test_rms_of_huge_float32_numbers():
    assert rms(np.full(8, 1e30, np.float32)) == pytest.approx(1e30, rel=1e-6)


@pytest.mark.parametrize("network", NETWORKS)
def test_zero_weights_give_no_signal_and_never_leave_the_guess(network):
    run = run_case(Case(network, "zero", init.Zeros(), depth=8, width=2, epochs=1))
    assert str(run.signal) == "dies by layer 1"
    assert run.losses[0] == pytest.approx(CHANCE, rel=1e-6)
    assert run.outcome == "never left log(10)"


def test_a_case_on_a_device_is_the_same_run():
    """On the strict fake GPU: nothing mixes with the host's arrays, and the numbers are the host's.

    To rounding: the compiled step cuts a batch into pieces on the host alone.
    """
    runs = [
        run_case(Case("residual + BatchNorm", "he", init.HeNormal(), depth=8, width=2, epochs=1, device=device))
        for device in ("cpu", fake_gpu.device)
    ]
    assert runs[0].losses == pytest.approx(runs[1].losses, rel=1e-5)
    assert runs[0].accuracy == pytest.approx(runs[1].accuracy, abs=0.01)
    assert runs[0].signal == runs[1].signal


def test_small_comparison_from_end_to_end(tmp_path, capsys, monkeypatch):
    starts = ["he_normal", "normal:1", "pretrained"]
    assert cli.main([*SMALL, "--init", *starts, "--out", str(tmp_path / "a")]) == 0
    out = capsys.readouterr().out
    assert all(word in out for word in (*NETWORKS, *starts, "explodes by layer", "accuracy"))

    assert (tmp_path / "a" / "compare.png").read_bytes().startswith(b"\x89PNG")
    with open(tmp_path / "a" / "compare.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    cases = {(row["network"], row["initializer"]) for row in rows}
    assert cases == {(network, name) for network in NETWORKS for name in starts}
    he = [row for row in rows if (row["network"], row["initializer"]) == ("residual", "he_normal")]
    assert next(row["layer"] for row in he if row["quantity"] == "activation_rms") == "relu"
    for quantity in ("activation_rms", "gradient_rms", "activation_rms_foreseen", "gradient_rms_foreseen"):
        assert [int(row["place"]) for row in he if row["quantity"] == quantity] == list(range(1, 9))
    assert {row["foreseen"] for row in he} == {"steady"}
    assert [row["place"] for row in he if row["quantity"] == "loss"] == ["0", "1"]
    accuracy = {(r["network"], r["initializer"]): float(r["value"]) for r in rows if r["quantity"] == "accuracy"}
    assert accuracy["residual + BatchNorm", "pretrained"] > 0.5
    assert math.isnan(accuracy["plain", "normal:1"])

    monkeypatch.setenv("MINIRES_NUM_THREADS", "1")  # another number of processes, the same numbers
    assert cli.main([*SMALL, "--init", *starts, "--out", str(tmp_path / "b")]) == 0
    assert (tmp_path / "a" / "compare.csv").read_bytes() == (tmp_path / "b" / "compare.csv").read_bytes()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--depth", "9"], "invalid depth 9; expected 8, 14, 20, 26, ... (6n + 2)"),
        (["--depth", "2"], "expected a whole number of at least 8"),
        (["--depth", "deep"], "'deep' is not a whole number"),
        (["--epochs", "0"], "expected a whole number of at least 1"),
        (["--lr", "0"], "expected a finite number above 0"),
        (["--init"], "expected at least one argument"),
        (["--init", "magic"], "unknown initializer 'magic'; there are pretrained, zero, constant"),
        (["--seed", "-1"], "expected a whole number of at least 0"),
        (["--device", "tpu"], 'expected "cpu", "cuda" or "cuda:1"'),
    ],
)
def test_wrong_options(words, expected, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["compare", *words])
    assert stop.value.code == 2
    assert expected in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_found_before_the_work(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert cli.main(["compare", "--out", str(tmp_path / "file")]) == 2
    assert "cannot write into" in capsys.readouterr().err


def test_a_start_that_fails_costs_itself_alone(tmp_path, capsys):
    """delta_orthogonal weights need as many outputs as inputs, which the head does not have."""
    assert cli.main([*SMALL, "--init", "zero", "delta_orthogonal", "--out", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    for network in NETWORKS:
        assert f"{network}, delta_orthogonal, seed 0 failed: ValueError: " in captured.err
    assert captured.out.count("never left") == len(NETWORKS)
    assert (tmp_path / "compare.png").exists()
    assert cli.main([*SMALL, "--init", "delta_orthogonal", "--out", str(tmp_path)]) == 2
    assert "no run came to an end" in capsys.readouterr().err


def test_a_stopped_comparison_goes_on_where_it_stopped(tmp_path):
    command = [sys.executable, "-m", "minires", *SMALL, "--init", "zero", "he_normal", "--out", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), "MINIRES_NUM_THREADS": "2"}
    runs = tmp_path / "runs.json"
    for _ in range(20):
        first = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while first.poll() is None and not runs.exists():
            time.sleep(0.02)
        first.terminate()
        _, said = first.communicate()
        assert runs.exists(), said
        kept = len(json.loads(runs.read_text())["runs"])
        if kept < 8:
            break
        runs.unlink()  # too late: it was finished, where this process had to wait
    assert first.returncode != 0 and 1 <= kept < 8
    again = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert f"{kept} of " in again.stderr and "runs were finished before" in again.stderr
    assert len(json.loads((tmp_path / "runs.json").read_text())["runs"]) >= 8
    assert (tmp_path / "compare.csv").exists() and (tmp_path / "compare.png").exists()


def test_slides(tmp_path, capsys):
    assert cli.main([*SMALL, "--init", "zero", "constant:0.01", "--figure", "slide", "--out", str(tmp_path)]) == 0
    names = {f"compare-{name}.png" for name in ("plain", "plain-batchnorm", "residual", "residual-batchnorm")}
    assert {path.name for path in tmp_path.glob("*.png")} == names
    said = capsys.readouterr().out
    assert all(f"figure: {tmp_path / name}" in said for name in names)


def test_a_folder_in_use_is_left_alone(tmp_path, capsys):
    with locked_folder(tmp_path):
        assert cli.main([*SMALL, "--init", "zero", "--out", str(tmp_path)]) == 2
    assert "is in use by process" in capsys.readouterr().err
