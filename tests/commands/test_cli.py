"""The command line itself: which commands there are, and what a wrong word gets."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest

from minires import cli, init
from minires.commands import (
    INITIALIZERS,
    CommandError,
    device,
    initializer,
    output_folder,
    positive_number,
    whole_number,
)
from tests.slowness import PATIENCE

ROOT = Path(__file__).resolve().parents[2]


def test_every_command_file_is_listed_and_says_what_it_does():
    files = {path.stem for path in (ROOT / "minires" / "commands").glob("[a-z]*.py")}
    parts = {name for name in files if name.partition("_")[0] in cli.COMMANDS and "_" in name}  # train_options: train's
    assert set(cli.COMMANDS) == files - parts
    for name in cli.COMMANDS:
        module = cli._module(name)
        assert module.HELP and "\n" not in module.HELP
        module.add_arguments(argparse.ArgumentParser())


@pytest.mark.parametrize("argv", [["--help"], *([name, "--help"] for name in cli.COMMANDS)], ids=" ".join)
def test_help_of_everything(argv, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(argv)
    assert stop.value.code == 0
    assert "usage: minires" in capsys.readouterr().out


def test_version(capsys):
    import minires

    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"minires {minires.__version__}\n"


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["inof"], "unknown command 'inof'; did you mean 'info'?"),
        (["zzz"], "unknown command 'zzz'; there are"),
        (["--loud"], "unknown command '--loud'"),
        (["info", "--loud"], "minires info: error: unrecognized arguments: --loud"),
    ],
)
def test_wrong_words_exit_with_2_and_a_sentence(argv, expected, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(argv)
    assert stop.value.code == 2
    assert expected in capsys.readouterr().err


def test_no_word_at_all_prints_the_help(capsys):
    assert cli.main([]) == 2
    assert "commands:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (CommandError("depth is 7"), 2, "minires info: depth is 7\n"),
        (OSError(28, "No space left on device"), 1, "minires info: [Errno 28] No space left on device\n"),
        (OSError(30, "Read-only file system", "ro/x.png"), 1, "minires info: ro/x.png: Read-only file system\n"),
        (KeyboardInterrupt(), 130, "minires info: stopped\n"),
    ],
)
def test_errors_become_one_line_on_stderr(error, code, text, monkeypatch, capsys):
    def fail(args):
        raise error

    monkeypatch.setattr("minires.commands.info.run", fail)
    assert cli.main(["info"]) == code
    assert capsys.readouterr().err == text


def test_a_bug_keeps_its_traceback(monkeypatch):
    def fail(args):
        raise ZeroDivisionError

    monkeypatch.setattr("minires.commands.info.run", fail)
    with pytest.raises(ZeroDivisionError):
        cli.main(["info"])


def test_a_reader_that_leaves_is_no_error():
    command = f"{sys.executable} -m minires info | true"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0
    assert done.stderr == ""


def test_info_names_versions_and_threads(capsys, monkeypatch):
    monkeypatch.setenv("MINIRES_NUM_THREADS", "3")
    assert cli.main(["info"]) == 0
    assert "3 (MINIRES_NUM_THREADS)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("parse", "text", "expected"),
    [
        (whole_number(1), "0", "expected a whole number of at least 1"),
        (whole_number(1, 9), "10", "at least 1 and at most 9"),
        (whole_number(1), "1.5", "'1.5' is not a whole number"),
        (positive_number, "-1", "expected a finite number above 0"),
        (positive_number, "inf", "expected a finite number above 0"),
        (positive_number, "nan", "expected a finite number above 0"),
        (positive_number, "fast", "'fast' is not a number"),
        (initializer, "he", "unknown initializer 'he'; there are zero, constant"),
        (initializer, "constant", "'constant' cannot be read"),
        (initializer, "normal:much", "'normal:much' cannot be read"),
        (initializer, "normal:nan", "'normal:nan' cannot be read"),
        (initializer, "normal:", "'normal:' cannot be read"),
        (initializer, "uniform:-1", "'uniform:-1' cannot be read"),
        (initializer, "dirac:3", "'dirac:3' cannot be read"),
        (device, "gpu", 'expected "cpu", "cuda" or "cuda:1"'),
    ],
)
def test_options_say_what_they_expect(parse, text, expected):
    with pytest.raises(argparse.ArgumentTypeError, match=expected.replace("(", r"\(")):
        parse(text)


def test_options_give_numbers():
    assert whole_number(1, 9)("9") == 9
    assert positive_number("1e-3") == 1e-3
    assert device("cpu") == "cpu"


def test_every_initializer_has_a_name_that_can_be_read():
    for name, cls in INITIALIZERS.items():
        text = "constant:0.5" if name == "constant" else name
        assert type(initializer(text)) is getattr(init, cls)
    assert initializer("normal:0.5") == init.Normal(0.5)
    assert initializer("constant:-1") == init.Constant(-1.0)


def test_output_folder_is_made_and_refused_where_a_file_stands(tmp_path):
    assert output_folder(tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(CommandError, match="cannot write into"):
        output_folder(tmp_path / "file" / "x")
    with pytest.raises(CommandError, match="cannot write into"):
        output_folder(tmp_path / "file")


@pytest.mark.skipif(os.name == "nt" or os.getuid() == 0, reason="root may write anywhere")
def test_output_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(CommandError, match="Permission denied"):
        output_folder(tmp_path / "new")


def test_ctrl_c_while_a_command_loads_is_no_traceback(monkeypatch, capsys):
    def interrupted(name):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_module", interrupted)
    assert cli.main(["predict"]) == 130 and capsys.readouterr().err == "minires predict: stopped\n"


def test_ctrl_c_while_minires_loads_is_no_traceback():
    code = """
import runpy, sys
class Interrupted:
    def find_spec(self, name, *rest):
        if name == "minires.cli":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupted())
runpy.run_module("minires", run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "minires: stopped\n")
