"""`minires step`: the list of lessons, the page it writes, the walk in the terminal, and what it says to wrong use."""

import webbrowser

import pytest

from minires.cli import main
from minires.stepper import LESSONS


def test_without_a_lesson_all_are_listed(capsys):
    assert main(["step"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in LESSONS)


def test_a_page_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["step", "relu"]) == 0
    assert "runs/step/relu.html" in capsys.readouterr().out.replace("\\", "/")
    assert (tmp_path / "runs" / "step" / "relu.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert main(["step", "relu", "--out", "new/folder/mine.html"]) == 0
    assert (tmp_path / "new" / "folder" / "mine.html").is_file()


def test_open_opens_it(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or True)
    assert main(["step", "sgd", "--open", "--out", str(tmp_path / "a b.html")]) == 0
    assert opened == [(tmp_path / "a b.html").as_uri()]


def test_without_a_browser_it_says_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(webbrowser, "open", lambda address: False)
    assert main(["step", "sgd", "--open", "--out", str(tmp_path / "page.html")]) == 0
    assert "open the file yourself" in capsys.readouterr().out


def test_text_walks_through_without_waiting_where_nobody_types(capsys):
    assert main(["step", "linear", "--text"]) == 0
    printed = capsys.readouterr().out
    assert "[1/30] forward: Sample 0, output 0" in printed
    assert "[30/30] backward: dbias: output 1" in printed
    assert "> y = x @ weight.T" in printed


def test_text_stops_at_q(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    answers = iter(["", "q"])
    monkeypatch.setattr("builtins.input", lambda prompt="": next(answers))
    assert main(["step", "linear", "--text"]) == 0
    printed = capsys.readouterr().out
    assert "[2/30]" in printed and "[3/30]" not in printed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--open"], "name a lesson"),
        (["relu", "--text", "--open"], "--text writes no page"),
        (["relu", "--out", "."], "is a folder"),
    ],
)
def test_wrong_use_gets_a_sentence(arguments, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["step", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_an_unknown_lesson_is_an_error(capsys):
    with pytest.raises(SystemExit):
        main(["step", "pooling"])
    assert "maxpool" in capsys.readouterr().err
