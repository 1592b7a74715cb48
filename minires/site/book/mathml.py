"""Formulas as MathML: browsers typeset it themselves, without a script, and screen readers can read it."""

from __future__ import annotations

import re

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator


def formula(node: nodes.math | nodes.math_block, **how: bool) -> str:
    """The formula as MathML. docutils sets the index of an accented letter below the letter; beside it, it is read."""
    text = re.sub(r"(\\(?:hat|bar|tilde|dot|vec)) ?(\{\w+\}|\w)_", r"\1{\2}{}_", node.astext())
    return tex2mathml(text, **how).replace(' accent="true"', "")  # browsers set an accent into the letter


def inline(self: HTML5Translator, node: nodes.math) -> None:
    self.body.append(formula(node))
    raise nodes.SkipNode


def block(self: HTML5Translator, node: nodes.math_block) -> None:
    self.body.append(f'<div class="math">{formula(node, as_block=True)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
