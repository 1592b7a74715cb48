"""`minires tutorial`: the list, the notebooks and their first cell, and what it says to wrong use."""

from __future__ import annotations

import builtins
import json
import subprocess

import pytest

from minires.cli import main
from minires.commands import tutorial
from minires.tutorial import folder

TUTORIALS = sorted(folder().glob("[0-9][0-9]_*.py"))


def test_without_a_number_all_are_listed(capsys):
    assert main(["tutorial"]) == 0
    printed = capsys.readouterr().out
    assert all(path.stem[:2] in printed for path in TUTORIALS)
    assert "$" not in printed, "no formula of TeX in a terminal"


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_each_has_a_title_a_line_and_a_time(path):
    title, line, seconds = tutorial.summary(path.read_text(encoding="utf-8"))
    assert title and line.endswith((".", "?", "!")) and float(seconds.split()[0]) < 60


def test_a_formula_is_plain_in_the_list():
    text = "# %% [markdown]\n# # A title\n#\n# It is $0.5^{20}$, or {1}. More. Takes about 1 s.\n# %%\n"
    assert tutorial.summary(text)[1] == "It is 0.5^20, or {1}."


def test_notebooks_for_all(tmp_path, capsys):
    pytest.importorskip("jupytext")
    assert main(["tutorial", "--notebooks", str(tmp_path / "new" / "books")]) == 0
    assert {path.stem for path in (tmp_path / "new" / "books").iterdir()} == {path.stem for path in TUTORIALS}


def test_the_first_cell_installs_from_where_it_is_told(tmp_path):
    pytest.importorskip("jupytext")
    address = "git+https://example.org/somebody/minires"
    assert main(["tutorial", "5", "--notebooks", str(tmp_path), "--install", address]) == 0
    book = json.loads((tmp_path / "05_depth.ipynb").read_text(encoding="utf-8"))
    first, second = book["cells"][:2]
    assert first["cell_type"] == "code" and f'%pip install -q "{address}"' in "".join(first["source"])
    assert second["cell_type"] == "markdown" and "".join(second["source"]).startswith("# Depth")
    assert book["nbformat"] == 4


def test_without_an_address_it_only_imports_and_says_how_to_install():
    pytest.importorskip("jupytext")
    text = TUTORIALS[0].read_text(encoding="utf-8")
    first = "".join(json.loads(tutorial.notebook(text))["cells"][0]["source"])
    assert "%pip" not in first and "pip install -e ." in first and first.endswith("import minires")
    assert tutorial.notebook(text) == tutorial.notebook(text)


@pytest.mark.parametrize("what", ["minires", "minires==1.0", 'a/b"; rm', "a/{x}", "-r/x", "a/b\nimport os"])
def test_never_by_bare_name_and_never_out_of_its_quotes(what, capsys):
    with pytest.raises(SystemExit):
        main(["tutorial", "05", "--notebooks", "x", f"--install={what}"])
    assert "expected" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["77"], "there is no tutorial '77'; there are 01"),
        (["--open"], "say which one to open"),
        (["05", "--notebooks", "file.txt"], "cannot write into file.txt"),
    ],
)
def test_wrong_use_is_told(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.txt").write_text("x")
    assert main(["tutorial", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_without_jupytext_it_says_what_to_install(tmp_path, monkeypatch, capsys):
    real = builtins.__import__

    def without(name, *rest):
        if name == "jupytext":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    assert main(["tutorial", "05", "--notebooks", str(tmp_path)]) == 2
    assert "notebooks need jupytext: pip install jupytext" in capsys.readouterr().err


def test_open_starts_jupyter_where_it_is(tmp_path, monkeypatch, capsys):
    pytest.importorskip("jupytext")
    monkeypatch.chdir(tmp_path)
    started = []
    monkeypatch.setattr(tutorial, "find_spec", lambda name: name == "notebook")
    monkeypatch.setattr(
        subprocess, "run", lambda command, check: started.append(command) or subprocess.CompletedProcess(command, 0)
    )
    assert main(["tutorial", "05", "--open"]) == 0
    assert started[0][1:3] == ["-m", "notebook"] and started[0][3].endswith("05_depth.ipynb")
    monkeypatch.setattr(tutorial, "find_spec", lambda name: None)
    assert main(["tutorial", "05", "--open"]) == 2
    assert "there is no Jupyter here to open it" in capsys.readouterr().err
