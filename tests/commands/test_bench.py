"""`minires bench`: tables, files and wrong options."""

from __future__ import annotations

import json

import pytest

from minires import cli
from minires.bench import measure, report
from minires.bench.cases import Case
from minires.bench.measure import EngineFailed, Result, Run

TINY = ["bench", "--models", "resnet8,resnet14", "--batches", "2", "--repeats", "1", "--threads", "2"]


@pytest.fixture(autouse=True)
def _own_threads(monkeypatch):
    """The command sets this variable for its process, which here is that of all tests."""
    monkeypatch.setenv("MINIRES_NUM_THREADS", "2")


@pytest.fixture
def alone(monkeypatch):
    """Only minires and its products: what else is installed here would take its time."""
    monkeypatch.setattr(measure, "engines_for", lambda device: ["minires", "products"])


def test_tables_json_and_picture_of_a_tiny_run(alone, capsys, tmp_path):
    files = ["--json", str(tmp_path / "new" / "times.json"), "--plot", str(tmp_path / "times.png")]
    assert cli.main([*TINY, "--only", "train,layers", *files]) == 0
    shown = capsys.readouterr().out
    for text in ("Training step", "resnet14 training step", "3x3 layer 64x8x8", "minires ÷ products", "kernels"):
        assert text in shown
    found = json.loads((tmp_path / "new" / "times.json").read_text())
    assert found["cases"][0]["name"] == "resnet8 training step, batch 2"
    assert all(len(case["seconds"]["minires"]) == 1 for case in found["cases"])
    assert found["threads"] == 2
    assert (tmp_path / "times.png").read_bytes().startswith(b"\x89PNG")


def test_profile_names_layers_and_types(capsys):
    assert cli.main([*TINY, "--profile", "--markdown"]) == 0
    shown = capsys.readouterr().out
    assert "| layer3.0.bn2 | BatchNorm2d |" in shown
    assert "| 7 | Conv2d |" in shown


def test_markdown_is_a_table_for_a_readme():
    """By hand: 300 ms against 240, 250 and 200 of PyTorch are 1.25, 1.2 and 1.5 of its time."""
    seconds = {"minires": [0.3, 0.3, 0.3], "torch": [0.24, 0.25, 0.2], "dezero": [3.6]}
    run = Run([Result(Case("train", 100, 20), seconds, {"minires": 300e6, "torch": 250e6})], {"NumPy": "2"}, ["none"])
    times, memory = (table.markdown().splitlines() for table in report.times_tables(run))
    assert times[0].split(" | ")[2:] == [
        "minires ms",
        "ms/image",
        "PyTorch ms",
        "minires ÷ PyTorch",
        "dezero ÷ minires |",
    ]
    assert times[1] == "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    to = "\N{EN DASH}"
    assert times[2] == f"| resnet20 training step | 100 | 300 | 3 | 240 | 1.25 (1.23{to}1.38) | 12.0 (12.0{to}12.0) |"
    assert memory[2] == "| resnet20 training step | 100 | 300 | 250 | 1.20 |"
    assert report.explanation(run, 2, "cpu")[-1] == "Not measured: none"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--models", "resnet21"], "expected resnet20, resnet56"),
        (["--models", "vgg"], "expected resnet20, resnet56"),
        (["--batches", "32,0"], "at least 1"),
        (["--only", "train,test"], "'test'; expected some of train, infer, layers"),
        (["--threads", "0"], "at least 1"),
        (["--device", "tpu"], "device is 'tpu'"),
        (["--images", "100"], "--images goes with --epoch"),
        (["--epoch", "--images", "100"], "20 steps of 128: 2560"),
        (["--only", "layers", "--plot", "x.png"], "--only layers leaves them out"),
    ],
)
def test_wrong_options_get_a_sentence(options, expected, capsys):
    try:
        code = cli.main(["bench", *options])
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    assert expected in capsys.readouterr().err


def test_minires_that_fails_ends_the_command(monkeypatch, capsys):
    def fail(*args, **kwargs):
        raise EngineFailed("minires, resnet20 training step, batch 32: its process ended with exit code -9")

    monkeypatch.setattr(measure, "measure", fail)
    assert cli.main(["bench"]) == 2
    assert "exit code -9" in capsys.readouterr().err
