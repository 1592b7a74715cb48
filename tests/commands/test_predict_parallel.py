"""`minires predict --parallel`: tables of 80 columns, sentences, the picture, and options that make no sense."""

from __future__ import annotations

import re

import numpy as np
import pytest

from minires import cli, nn
from minires.parallel.cost import Compute, Network, step, work_of

GIVEN = ("--compute", "2.5", "--network", "25e-6,8e-10")


@pytest.fixture(autouse=True)
def _no_ranks(monkeypatch):
    monkeypatch.delenv("PMI_SIZE", raising=False)
    monkeypatch.setenv("COLUMNS", "80")


def run(capsys, *arguments):
    try:
        code = cli.main(["predict", *arguments])
    except SystemExit as stop:
        code = stop.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_table_holds_the_formulas_numbers_in_80_columns(capsys):
    code, out, _ = run(capsys, "--parallel", "64", *GIVEN)
    assert code == 0
    assert max(len(line) for line in out.splitlines()) <= 80
    assert "…" not in out
    rows = [line.split() for line in out.splitlines() if re.fullmatch(r" *\d+ +\d+ .*%\s*", line)]
    assert [row[0] for row in rows] == ["1", "2", "4", "8", "16", "32", "64"] * 2
    work, line = work_of(nn.resnet20()), Network(25e-6, 8e-10)
    one, sixteen = (step(work, Compute(0.0, 2.5e-3), 128, n, line) for n in (1, 16))
    row = rows[4]
    assert float(row[2]) == pytest.approx(1000 * sixteen.compute, rel=0.01)
    assert float(row[3]) == pytest.approx(1000 * sixteen.norms, rel=0.01)
    assert float(row[4]) == pytest.approx(1000 * sixteen.gradients, rel=0.01)
    assert float(row[5]) == pytest.approx(1000 * sixteen.seconds, rel=0.01)
    assert float(row[6]) == pytest.approx(sixteen.speed_up(one), rel=0.01)
    assert row[7] == f"{sixteen.efficiency(one):.0%}"


def test_what_it_says(capsys):
    _, out, _ = run(capsys, "--parallel", "200", *GIVEN)
    said = " ".join(out.split())
    assert "128 ranks, a batch of 128: " in said and "A batch of 128 has work for 128 ranks." in said
    assert "Simulated message by message" in said
    assert "BatchNorm's synchronization: 38 sums" in said
    assert re.search(r"Gradients, 1\.08 MB in one sum: tree \S+, halving \S+, ring \S+ ms", said)
    assert re.search(r"Communication takes longer than compute (from|on no number)", said)
    assert "2.5 ms an image (given)" in said and "(given)." in said
    assert "BatchNorm's" not in run(capsys, "--parallel", "2", "--no-batchnorm", *GIVEN)[1]


def test_what_sums_take_beside_their_messages_counts(capsys):
    """38 sums of BatchNorm on two ranks, 10 and then 1,010 us each: 0.4 ms more, 38.4 ms."""
    said = [
        run(capsys, "--parallel", "2", "--compute", "2.5", "--network", f"1e-5,1e-12{more}")[1]
        for more in ("", ",1e-3,0")
    ]
    assert [re.search(r"38 sums, (\S+) ms", " ".join(each.split()))[1] for each in said] == ["0.380", "38.4"]
    assert "--network 1e-05,1e-12 (given)" in said[0] and "--network 1e-05,1e-12,0.001,0 (given)" in said[1]


def test_measured_and_assumed_where_nothing_is_given(capsys, monkeypatch):
    monkeypatch.setenv("MINIRES_NUM_THREADS", "1")
    code, out, _ = run(capsys, "--parallel", "2", "--model", "resnet8", "--batch", "16")
    said = " ".join(out.split())
    assert code == 0
    assert "measured now, 1 thread" in said and "assumed, 10 Gbit/s Ethernet" in said


def test_the_picture(capsys, tmp_path):
    from matplotlib.image import imread

    picture = tmp_path / "scaling.png"
    code, out, _ = run(capsys, "--parallel", "4", "--plot", str(picture), *GIVEN)
    assert code == 0 and str(picture) in out.replace("\n", "")
    assert np.ptp(imread(picture)[..., :3]) > 0.5


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--parallel", "0"), "at least 1 and at most 1024"),
        (("--parallel", "2", "--network", "1e-6"), "as in 2e-6,1e-10"),
        (("--parallel", "2", "--network", "1e-6,1e-9,1e-5"), "as in 2e-6,1e-10"),
        (("--parallel", "2", "--network", "1e-6,-1"), "above 0"),
        (("--parallel", "2", "--network", "a,b"), "'a' is not a number"),
        (("--parallel", "2", "--compute", "nothing.json"), "neither a number of ms nor a file"),
        (("--parallel", "2", "--compute", "-3"), "above 0"),
        (("--network", "1e-6,1e-9"), "go with --parallel P"),
        (("--parallel", "2", "--compute", "pyproject.toml"), "is not what bench --json writes"),
    ],
)
def test_options_that_make_no_sense(capsys, arguments, sentence):
    code, _, error = run(capsys, *arguments)
    assert code == 2
    assert sentence in error
