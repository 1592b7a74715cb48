"""A tutorial executed as the notebook that `minires tutorial` writes; needs nbclient and ipykernel."""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbclient import NotebookClient

from minires.commands.tutorial import notebook
from minires.tutorial import folder
from tests.slowness import PATIENCE


def test_batchnorm_runs_as_a_notebook(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    monkeypatch.delenv("MPLBACKEND", raising=False)  # Jupyter's own one shows pictures in the page
    text = next(folder().glob("06_*.py")).read_text(encoding="utf-8")
    book = nbformat.reads(notebook(text), as_version=4)
    nbformat.validate(book)
    options = {"timeout": PATIENCE, "startup_timeout": PATIENCE, "resources": {"metadata": {"path": str(tmp_path)}}}
    NotebookClient(book, kernel_name="python3", **options).execute()
    outputs = [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]
    printed = "".join(output.get("text", "") for output in outputs)
    assert "Question 6.1: the law says (-1, 1)" in printed and "Exercise 6.2: open" in printed
    assert any("image/png" in output.get("data", {}) for output in outputs)
