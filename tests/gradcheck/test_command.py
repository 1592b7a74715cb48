"""`minires gradcheck`: the list, a planted fault, the pictures. (The whole demo runs in the suite of evidence.)"""

from __future__ import annotations

import pytest

from minires.cli import main
from minires.gradcheck import CATALOGUE, own_checks


def test_list(capsys):
    assert main(["gradcheck", "--list"]) == 0
    printed = capsys.readouterr().out
    assert f"{len(CATALOGUE)} typical faults" in printed and "conv2d:dx-kernel-not-flipped" in printed


def test_a_planted_fault_is_shown_to_be_caught(capsys):
    assert main(["gradcheck", "--fault", "batchnorm:dx-mean-path-missing"]) == 1
    printed = capsys.readouterr().out
    assert "diagnosis: batchnorm:dx-mean-path-missing" in printed
    assert "the fault was caught and named" in printed


def test_an_unknown_fault_gets_a_suggestion(capsys):
    assert main(["gradcheck", "--fault", "relu:gate-from-x"]) == 2
    assert "did you mean relu:gate-from-dy" in capsys.readouterr().err


def test_plot(tmp_path, capsys):
    assert main(["gradcheck", "--plot", str(tmp_path / "v.png")]) == 0
    assert (tmp_path / "v.png").read_bytes()[:4] == b"\x89PNG"
    assert "best step predicted" in capsys.readouterr().out


def test_the_demo_exits_with_1_if_anything_fails(monkeypatch, capsys):
    from minires.gradcheck import check_op

    def two_checks(seed, device):
        x = [[1.0, 2.0, 3.0]] * 4
        yield "right", lambda: check_op(lambda x: (x**2, x), lambda dy, x: 2 * x * dy, x_array(x))
        yield "wrong", lambda: check_op(lambda x: (x**2, x), lambda dy, x: x * dy, x_array(x))

    def x_array(x):
        import numpy as np

        return np.array(x)

    monkeypatch.setattr(own_checks, "own_checks", two_checks)
    assert main(["gradcheck"]) == 1
    assert "1 of 2 pass" in capsys.readouterr().out
    monkeypatch.setattr(own_checks, "own_checks", lambda seed, device: list(two_checks(seed, device))[:1])
    assert main(["gradcheck"]) == 0


@pytest.mark.parametrize("section", ["ops", "layers"])
def test_the_demo_covers_everything(section):
    from minires import nn
    from minires.gradcheck.definitions import DEFINITIONS

    names = [name for name, _ in own_checks.own_checks(0, "cpu")]
    if section == "ops":
        assert set(DEFINITIONS) <= set(names)
    else:
        layers = {n for n, found in vars(nn).items() if isinstance(found, type) and issubclass(found, nn.Layer)}
        without_gradient = {"Layer", "ResidualBlock", "Subsample", "Identity", "Sequential", "ResNet"}
        assert {n for n in layers - without_gradient if not any(n in name for name in names)} == set()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--ties", "first"], "these options are for a file"),
        (["--layout", "columns"], "these options are for a file"),
        (["--hints", "0"], "these options are for a file"),
        (["--list", "--html", "page.html"], "--list and --plot make none"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(words, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["gradcheck", *words]) == 2
    assert told in " ".join(capsys.readouterr().err.split())
