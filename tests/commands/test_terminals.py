"""What arrives where it is printed: narrow and dumb terminals, pipes, old encodings, and outputs that are gone."""

import io
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from minires import cli, gradcheck, nn, ops
from minires.checkpoint import write_weights
from minires.terminal import Output, fitted

ROOT = Path(__file__).resolve().parents[2]
MINIRES = (sys.executable, "-m", "minires")
PREDICT = ("predict", "--layers", "--model", "resnet8", "--input", "1x8x8")
SMALL = ("train", "--epochs", "2", "--width", "2", "--batch-size", "256")


def environment(**changes):
    plain = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR", "FORCE_COLOR")}
    return {**plain, "PYTHONPATH": str(ROOT), "MINIRES_NUM_THREADS": "1", **changes}


def on_terminal(*arguments, columns=80, cwd=None, **changes):
    """What the command writes on a terminal of so many columns, without colors; its exit code must be 0."""
    pty, termios, fcntl = (pytest.importorskip(name) for name in ("pty", "termios", "fcntl"))
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    env = environment(**{"TERM": "xterm-256color", **changes})
    process = subprocess.Popen([*MINIRES, *arguments], stdout=theirs, stderr=theirs, cwd=cwd, env=env)
    os.close(theirs)
    text = b""
    try:
        while piece := os.read(ours, 1 << 16):
            text += piece
    except OSError:  # how Linux says that the other side is closed
        pass
    os.close(ours)
    assert process.wait() == 0, text
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text.decode()).replace("\r\n", "\n")


def in_shell(command, **changes):
    return subprocess.run(["bash", "-c", command], capture_output=True, env=environment(**changes))


def heads(text):
    """The titles of the columns of a folded table, each in one piece: what stands above the rule, column by column."""
    lines = text.splitlines()
    rule = next(i for i, line in enumerate(lines) if line.startswith("───"))
    first = next(i for i, line in enumerate(lines) if i >= rule - 3 and not re.search(r"signal|networks:", line))
    above = [line.ljust(400) for line in lines[first:rule]]
    columns, word = [], [""] * len(above)
    for letters in zip(*above, strict=True):
        if set(letters) == {" "} and any(word):
            columns.append("".join(word))
            word = [""] * len(above)
        word = [w + letter.strip() for w, letter in zip(word, letters, strict=True)]
    return columns


@pytest.mark.parametrize(
    ("columns", "measure"), [(80, ()), (60, ()), (80, ("--measure", "2")), (60, ("--measure", "2"))]
)
def test_predict_fits_and_names_its_columns(columns, measure):
    text = on_terminal(*PREDICT, *measure, columns=columns)
    assert max(map(len, text.splitlines())) <= columns and "…" not in text and "layer3.0.conv2" in text
    titles = "".join(heads(text))
    expected = ["layer", "forwardEy²", "dy²", "EdW²"] + ["verdict"] * bool(measure) + ["kind"] * (columns == 80)
    expected += ["batchvariance", "Edx²", "law"] * (columns == 80 and not measure)
    assert not [title for title in expected if title not in titles]


@pytest.mark.parametrize("columns", [60, 80])
def test_predict_has_room_for_every_initializer(columns):
    """Four of them do not stand side by side there: they come in several tables, each whole."""
    names = ("he_normal", "xavier_uniform", "zero", "orthogonal")
    text = on_terminal("predict", "--model", "resnet8", "--input", "1x8x8", "--init", *names, columns=columns)
    assert max(map(len, text.splitlines())) <= columns and "…" not in text
    tables = text.partition("rms of the signal")[2]
    assert all(name in tables for name in names) and tables.count("gradient ") >= 4
    assert tables.count("layer3.0") == tables.count("rms of the signal") + 1 >= 2


@pytest.mark.parametrize("columns", [60, 80])
def test_help_fits(columns):
    text = on_terminal("--help", columns=columns)
    assert max(map(len, text.splitlines())) <= columns and "convert" in text


def test_gradcheck_names_its_columns():
    report = gradcheck.check_op(ops.tanh_forward, lambda dy, y: (dy * y,), [np.arange(6.0).reshape(2, 3) / 7])
    screen = Console(width=80, file=io.StringIO())
    screen.print(report)
    assert report.verdict == "fail" and "…" not in screen.file.getvalue()


def test_a_dumb_terminal_gets_lines(tmp_path):
    text = on_terminal(*SMALL, cwd=tmp_path, TERM="dumb")
    assert re.search(r"epoch +1/2 .*test accuracy", text) and "\x1b" not in text


def test_the_live_line_shows_test_accuracy(tmp_path):
    text = on_terminal(*SMALL, cwd=tmp_path, columns=120)
    assert re.search(r"epoch +2/2 .*test \d+\.\d\d%", text) and "test accuracy" not in text.split("epoch")[1]


@pytest.mark.parametrize("encoding", ["cp1252", "gbk", "ascii"])
def test_old_encodings(encoding):
    done = in_shell(f"{' '.join(MINIRES)} {' '.join(PREDICT)}", PYTHONIOENCODING=encoding)
    assert done.returncode == 0 and done.stdout.isascii() and b"E y^2" in done.stdout and not done.stderr


def test_brackets_in_names_are_text(tmp_path, capsys):
    (tmp_path / "[bold]" / "[").mkdir(parents=True)
    write_weights(tmp_path / "[bold]" / "[" / "weights.npz", nn.resnet(8, width=2, in_channels=1).state_dict())
    assert cli.main(["evaluate", "--data", "digits", "--weights", str(tmp_path / "[bold]" / "[" / "weights.npz")]) == 0
    assert "[bold]/[/weights.npz" in re.sub(r"\s", "", capsys.readouterr().out)
    assert cli.main(["evaluate", "--data", "[/]", "--weights", str(tmp_path / "[/]")]) == 2
    assert "[/]" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["info >&-", "info >&- 2>&-", "--help >&-"])
def test_closed_outputs(command):
    done = in_shell(f"{' '.join(MINIRES)} {command}")
    assert done.returncode == 0 and b"Traceback" not in done.stderr and b"NoneType" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_under_the_output_is_a_sentence(tmp_path):
    done = in_shell(f"{' '.join(MINIRES)} info > /dev/full")
    assert done.returncode == 1 and done.stderr.decode().count("\n") == 1 and b"No space left" in done.stderr


@pytest.mark.parametrize("gone", ["| true", "> /dev/full"])
def test_a_training_goes_on_when_nobody_listens(tmp_path, gone):
    done = in_shell(f"cd {tmp_path}; {' '.join(MINIRES)} {' '.join(SMALL)} --out run {gone}")
    assert b"Traceback" not in done.stderr and b"cannot write into" not in done.stderr
    assert {"weights.npz", "history.json", "curves.png"} <= {path.name for path in (tmp_path / "run").iterdir()}


def test_output_never_raises():
    class Broken:
        encoding = "ascii"

        def write(self, text):
            raise BrokenPipeError

        def flush(self):
            raise ValueError("I/O operation on closed file")

    output = Output(Broken())
    assert output.write("²") == 1
    assert isinstance(output.problem, BrokenPipeError)
    output.flush()
    assert isinstance(output.problem, BrokenPipeError)
    nothing = Output(None)
    nothing.write("x")
    nothing.flush()
    assert not nothing.isatty() and not hasattr(nothing, "fileno") and nothing.problem is None


def test_a_wide_table_is_left_alone():
    from rich.table import Table

    table = Table("a", "b")
    table.add_row("1", "2")
    before = table.box
    assert fitted(table, 80).box is before and len(fitted(table, 60, ("a",)).columns) == 1
