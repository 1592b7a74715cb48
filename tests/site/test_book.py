"""The pages that Sphinx is given: docstrings in Markdown, the reference, and where their links lead."""

import ast
import inspect
from pathlib import Path

import pytest

from minires import init, nn
from minires.site.book import sources
from minires.site.book.docstrings import markdown
from minires.site.book.formulas import tex
from minires.site.book.reference import PACKAGES, reference

ROOT = Path(__file__).resolve().parents[2]

DOCSTRING = """A sum y = x_1 * x_2 over `a*b` and <x, y>.

Then formulas:

    y[i]   = sum of x

      further in
and so on.
"""


def test_a_docstring_keeps_its_signs_and_its_formulas():
    text = markdown(inspect.cleandoc(DOCSTRING))
    assert r"y = x\_1 \* x\_2 over `a*b` and \<x, y>" in text
    assert "```text\ny[i]   = sum of x\n\n  further in\n```" in text
    assert text.endswith("and so on.")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "dx[n, i] = sum over o of dy[n, o] w[o, i]",
            r"{\mathrm{dx}}_{{n},{i}}=\sum _{{o}}{\mathrm{dy}}_{{n},{o}}{w}_{{o},{i}}",
        ),
        ("y = x @ w.T", r"{y}={x}\,{w}^{\top}"),
        ("(var + eps)^(-1/2)", r"({\mathrm{var}}+{\varepsilon})^{-1/2}"),
        ("xhat_i * 2^k", r"{\mathrm{}\hat{x}}_{i}\cdot 2^{{k}}"),
        ("y = 1 where x > 0", r"{y}=1\text{ where }{x}>0"),
        ("dW = dy[n] @ cols[n].T", r"{\mathrm{dW}}={\mathrm{dy}}_{{n}}\,{\mathrm{cols}}_{{n}}^{\top}"),
    ],
)
def test_a_formula_of_a_docstring_in_tex(text, expected):
    assert tex(text, {"x", "w", "var", "cols", "W"}) == expected


def test_every_derivation_can_be_typeset(tmp_path):
    pytest.importorskip("docutils")
    for module in sources.DERIVATIONS:
        docstring = ast.get_docstring(ast.parse((ROOT / "minires" / f"{module}.py").read_text()))
        assert "<td>" in markdown(docstring, ())


@pytest.mark.parametrize("package", PACKAGES)
def test_the_reference_has_every_public_name_with_its_docstring(package):
    page = reference(package)
    assert page.count("\n## ") >= 2
    assert "<class" not in page and "<function" not in page and " object at 0x" not in page


def test_a_signature_is_short_and_whole():
    page = reference("minires.nn")
    assert "BasicBlock(\n    in_channels: int,\n    channels: int,\n    stride: int = 1,\n    *," in page
    assert "conv2d_forward(\n    x: Array,\n    weight: Array,\n    bias: Array | None = None,\n    *," in reference(
        "minires.ops"
    )
    assert "HeNormal(slope: float = 0.0, mode: str = 'fan_in')" in reference("minires.init")
    assert nn.BasicBlock.__doc__.splitlines()[0] in page.replace("\\", "")
    assert init.HeNormal.__doc__.splitlines()[0] in reference("minires.init").replace("\\", "")


def test_the_pages_link_to_each_other_and_every_derivation_is_there(tmp_path):
    pytest.importorskip("jupytext")
    pytest.importorskip("docutils")
    out = tmp_path / "source"
    sources.write_sources(ROOT, out)
    names = {path.stem for path in out.glob("*.*")}
    listed = [line for line in (out / "index.md").read_text().splitlines() if line and line in names]
    assert set(listed) == names - {"index", "conf"}
    assert sum(name.startswith("derivation-") for name in listed) == len(sources.DERIVATIONS)
    conv = (out / "derivation-ops-conv.md").read_text()
    assert conv.startswith("# Convolution\n") and "../stepper/conv.html" in conv and "def conv2d_backward" in conv
    theory = (out / "evidence-theory.md").read_text()
    assert "](evidence-theory-position.md)" in theory and "](position.md)" not in theory


def test_the_signature_of_what_python_generates_reads_like_a_written_one():
    text = "\n".join(map(reference, PACKAGES))
    assert "ForwardRef" not in text and ": '" not in text
    assert "Split(x_train: ndarray, y_train: ndarray, x_test: ndarray, y_test: ndarray)" in text
    assert "Fault(\n    name: str,\n" in text
