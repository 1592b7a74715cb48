"""The formulas of the derivations, written in docstrings as the code writes them, as typeset mathematics.

    dx[n, i] = sum over o of dy[n, o] weight[o, i]          dx = dy @ weight

becomes two formulas side by side. A word is a name if the module's code uses it; all other words stay words.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from html import escape

TOKEN = re.compile(r"->|[A-Za-z_][\w.]*[A-Za-z0-9_]|[A-Za-z]|\d+(?:\.\d+)?|\S")

FUNCTIONS = ("exp", "log", "tanh", "max", "min")
SHORT_WORDS = ("of", "at", "as", "is", "so", "we", "in", "or", "to", "it", "by", "if", "no")
GREEK = {"mu": r"\mu", "eps": r"\varepsilon", "delta": r"\delta"}
SIGNS = {"@": r"\,", "*": r"\cdot ", "->": r"\to ", **{sign: f"\\{sign}" for sign in "{}%#&"}}


def typeset(lines: list[str], names: Collection[str]) -> str:
    """The lines of a block as HTML, a row a line; `names` are the identifiers of the code."""
    rows = []
    for line in lines:
        if line.strip():
            line = re.sub(r"(?<=\S)\s+([=+]|of)\s+", r" \1 ", line.strip())
            cells = "".join(f"<td>{_cell(part, names)}</td>" for part in re.split(r"\s{2,}", line))
            rows.append(f"<tr>{cells}</tr>")
    return f'<div class="formulas" tabindex="0"><table role="presentation">{"".join(rows)}</table></div>'


def _cell(text: str, names: Collection[str]) -> str:
    """One formula; or text, where most of it is words."""
    words = [token for token in TOKEN.findall(text) if token.isalpha() and len(token) > 1]
    prose = [word for word in words if not _is_name(word, names) and word not in ("sum", "over", "of", *FUNCTIONS)]
    formula = "=" in text or re.search(r"[@*/]|^\([A-Z],", text)
    if not formula or len(prose) > 3:
        return escape(text)
    from docutils.utils.math.latex2mathml import tex2mathml

    return tex2mathml(tex(text, names))


def tex(text: str, names: Collection[str]) -> str:
    """A formula of a docstring in TeX."""
    return "".join(_translated(TOKEN.findall(text), names))


def _translated(tokens: list[str], names: Collection[str]) -> Iterator[str]:
    tokens = tokens[:]
    while tokens:
        token = tokens.pop(0)
        if token in ("sum", "mean", "max") and tokens[:1] in (["of"], ["over"]):
            yield from _big(token, tokens, names)
        elif token == "[":
            yield f"_{{{''.join(_translated(_until(tokens, '[', ']'), names))}}}"
        elif token == "^":
            power = _until(tokens[1:], "(", ")") if tokens[:1] == ["("] else tokens[:1]
            del tokens[: len(power) + 2 if tokens[:1] == ["("] else 1]
            yield f"^{{{''.join(_translated(power, names))}}}"
        elif token == "." and tokens[:1] == ["T"]:
            yield r"^{\top}" + tokens.pop(0)[1:]
        elif token[0].isalpha():
            yield _word(token, names)
        else:
            yield SIGNS.get(token, token)


def _big(token: str, tokens: list[str], names: Collection[str]) -> Iterator[str]:
    """sum over n, o of ...; mean of ...: the operator; what stands behind "of" follows."""
    sign = r"\sum " if token == "sum" else rf"\operatorname{{{token}}}\,"
    below: list[str] = []
    if tokens.pop(0) == "over":
        while tokens and tokens[0] != "of":
            below.append(tokens.pop(0))
        if tokens:
            tokens.pop(0)
    yield sign + (f"_{{{''.join(_translated(below, names))}}}" if below else "")


def _is_name(word: str, names: Collection[str]) -> bool:
    """Whether a word is a name: of the code, of a gradient (d and a name), or one of two letters that is no word."""
    known = (*names, *FUNCTIONS, *GREEK)
    short = len(word) == 2 and word not in SHORT_WORDS
    return word in known or short or (word[0] == "d" and (len(word) == 2 or word[1:] in known))


def _until(tokens: list[str], opening: str, closing: str) -> list[str]:
    """Takes the tokens up to the closing bracket off the list, and the bracket, too."""
    inside, depth = [], 1
    while tokens:
        token = tokens.pop(0)
        depth += (token == opening) - (token == closing)
        if depth == 0:
            break
        inside.append(token)
    return inside


def _word(word: str, names: Collection[str]) -> str:
    base, transposed = (word[:-2], r"^{\top}") if word.endswith(".T") else (word, "")
    base, _, below = base.partition("_")
    if not below and len(base) > 1 and not _is_name(base, names):
        return rf"\text{{ {base} }}"
    if base in FUNCTIONS:
        sign = rf"\{base} "
    elif base.endswith("hat") and len(base) > 3:
        rest = base[:-3]
        sign = rf"\mathrm{{{rest[:-1]}}}\hat{{{rest[-1]}}}"
    else:
        sign = GREEK.get(base) or (base if len(base) == 1 else rf"\mathrm{{{base}}}")
    return f"{{{sign}}}" + (f"_{{{below}}}" if below else "") + transposed
