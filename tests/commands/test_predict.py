"""`minires predict`: a table at once, a measurement beside it, a picture, and sentences for what makes no sense."""

import re

import numpy as np
import pytest

from minires import cli, init
from minires.theory import predict


def run(capsys, *arguments):
    code = cli.main(["predict", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def flat(text):
    """Without the line breaks of a terminal."""
    return " ".join(text.split())


def test_a_prediction_alone(capsys):
    code, out, _ = run(capsys, "--model", "resnet8", "--input", "1x8x8")
    assert code == 0
    assert "layer3.0" in out and "layer3.0.conv2" not in out
    assert re.search(
        r"he_normal, predicted: steady: the signal grows \S+ times from the stem to the last block; the gradient", out
    )


def test_a_row_for_every_layer(capsys):
    code, out, _ = run(capsys, "--model", "resnet8", "--input", "1x8x8", "--layers")
    assert code == 0
    assert "layer3.0.conv2" in out and "BatchNorm2d" in out
    assert "approximate" in out and "exact, an expectation that holds at any width" in out


def test_initializers_stand_side_by_side(capsys):
    """Small weights lose the signal, block by block; BatchNorm makes the initializers alike."""
    names = ("he_normal", "normal:0.01")
    options = ("--model", "plain8", "--input", "1x8x8", "--init", *names)
    _, out, _ = run(capsys, *options, "--no-batchnorm")
    cells = next(line for line in out.splitlines() if "layer3.0" in line).replace("│", "|").split("|")
    signals = [float(cells[2].split()[0]), float(cells[4].split()[0])]
    assert signals[0] > 1e3 * signals[1]
    _, out, _ = run(capsys, *options)
    cells = next(line for line in out.splitlines() if "layer3.0" in line).replace("│", "|").split("|")
    assert float(cells[2].split()[0]) == pytest.approx(float(cells[4].split()[0]), rel=0.01)


def test_several_initializers_measured_and_drawn(capsys, tmp_path):
    from matplotlib.image import imread

    picture = tmp_path / "signal.png"
    options = ("--model", "plain14", "--no-batchnorm", "--input", "1x8x8", "--measure", "3", "--plot", str(picture))
    code, out, _ = run(capsys, *options, "--init", "he_normal", "normal:0.01")
    assert code == 0
    assert "he_normal, predicted: steady" in out
    assert re.search(r"normal:0.01, predicted: dies by layer \d", out)
    assert out.count("obey their laws (3 networks)") == 2
    assert np.ptp(imread(picture)[..., :3]) > 0.5


def test_a_departure_is_an_exit_code(capsys, monkeypatch):
    """Laws of another initializer than the one that is measured."""
    monkeypatch.setattr("minires.theory.predict", lambda model, x, weight: predict(model, x, weight=init.LeCunNormal()))
    options = ("--model", "plain8", "--no-batchnorm", "--input", "1x8x8", "--measure", "16")
    code, out, _ = run(capsys, *options)
    assert code == 1
    assert "is the first layer that departs" in out and "departs" in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [(("--model", "resnet21"), "expected resnetN or plainN"), (("--model", "vgg"), "expected resnetN or plainN")],
)
def test_a_model_that_there_is_not(capsys, arguments, sentence):
    code, _, error = run(capsys, *arguments)
    assert code == 2
    assert sentence in error


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--input", "3x32"), "channels x height x width"),
        (("--input", "0x8x8"), "channels x height x width"),
        (("--init", "magic"), "unknown initializer"),
        (("--measure", "0"), "at least 1"),
    ],
)
def test_options_that_make_no_sense(capsys, arguments, sentence):
    with pytest.raises(SystemExit) as stop:
        run(capsys, *arguments)
    assert stop.value.code == 2
    assert sentence in capsys.readouterr().err


def test_constant_weights_have_no_forecast(capsys):
    _, out, _ = run(capsys, "--model", "plain8", "--input", "1x8x8", "--init", "constant:0.1")
    assert "no forecast: Constant weights are not random" in out


def test_the_learning_rates_that_will_train(capsys):
    options = (
        "--model",
        "plain20",
        "--no-batchnorm",
        "--input",
        "1x8x8",
        "--init",
        "he_normal",
        "normal:0.01",
        "normal:1",
    )
    code, out, _ = run(capsys, *options, "--lr", "0.02", "--steps", "230")
    assert code == 0
    low, high = map(
        float, re.search(r"he_normal, training: learning rates from (\S+) to (\S+) will train it", out).groups()
    )
    assert 0.002 < low < 0.02 < high <= 1
    assert re.search(r"he_normal, training: .* in 230 steps; 0.02: will move", out)
    assert "normal:0.01, training: no rate up to 1 is sure to train it, in 230 steps; 0.02: too small to move" in out
    assert "normal:1, training: no rate up to 1 is sure to train it, in 230 steps; 0.02: too large to be stable" in out
    assert "dirac, training: no law" in run(capsys, "--model", "plain8", "--input", "1x8x8", "--init", "dirac")[1]
