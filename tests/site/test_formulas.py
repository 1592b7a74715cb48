"""Every formula of a tutorial can be typeset as the book does it: by docutils, which knows a part of LaTeX."""

import re
from pathlib import Path

import pytest

latex2mathml = pytest.importorskip("docutils.utils.math.latex2mathml", reason="docutils is not installed")
TUTORIALS = sorted((Path(__file__).resolve().parents[2] / "tutorials").glob("[0-9][0-9]_*.py"))


def formulas(text):
    """All that stands between dollars in the markdown cells of a tutorial."""
    cells = [cell for cell in re.split(r"^# %%", text, flags=re.M) if cell.startswith(" [markdown]")]
    prose = "\n".join(re.sub(r"^# ?", "", "\n".join(cell.splitlines()[1:]), flags=re.M) for cell in cells)
    return [(a or b).strip() for a, b in re.findall(r"\$\$(.+?)\$\$|\$([^$]+?)\$", prose, flags=re.S)]


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_the_book_can_typeset_it(path):
    for formula in formulas(path.read_text(encoding="utf-8")):
        latex2mathml.tex2mathml(formula)


def test_formulas_are_found_and_unknown_ones_are_errors():
    assert formulas("# %% [markdown]\n# a $x^2$ and\n# $$y\n# = z$$\n# %%\ncost = '$3$'\n") == ["x^2", "y\n= z"]
    with pytest.raises(latex2mathml.MathError):
        latex2mathml.tex2mathml(r"\Big(")
