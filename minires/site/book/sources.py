"""What Sphinx reads: all pages in one folder, so that their addresses are short and every link is a plain name."""

from __future__ import annotations

import ast
import re
import shutil
from importlib.resources import as_file, files
from pathlib import Path

from minires.site.book.docstrings import markdown
from minires.site.book.reference import PACKAGES, reference
from minires.tutorial import as_notebook

DERIVATIONS = {
    "ops/linear": "linear",
    "ops/conv": "conv",
    "ops/batchnorm": "batchnorm",
    "ops/layernorm": None,
    "ops/groupnorm": None,
    "ops/activation": "relu",
    "ops/pooling": "maxpool",
    "ops/dropout": None,
    "ops/softmax": None,
    "ops/loss": "softmax",
    "nn/residual": "residual",
    "optim": "sgd",
}
"""Modules whose docstring derives what their code computes, and the stepper's page about it."""


def write_sources(root: Path, out: Path) -> None:
    """Writes the pages of the book from the checkout `root` into the new folder `out`."""
    out.mkdir(parents=True)
    tutorials = sorted(path for path in (root / "tutorials").glob("[0-9]*.py"))
    for path in tutorials:
        _tutorial(out, path)
    shutil.copytree(root / "tutorials" / "figures", out / "figures")
    derivations = [_derivation(out, root, module, lesson) for module, lesson in DERIVATIONS.items()]
    tables = {path: _evidence_name(path.relative_to(root)) for path in sorted((root / "tests").rglob("*.md"))}
    evidence = sorted(_evidence(out, path, tables) for path in tables)
    references = []
    for package in PACKAGES:
        name = f"reference-{package.rpartition('.')[2]}"
        (out / f"{name}.md").write_text(reference(package))
        references.append(name)
    (out / "index.md").write_text(
        INDEX
        + _contents("Tutorials", [path.stem for path in tutorials])
        + _contents("Derivations", derivations)
        + _contents("Evidence", evidence)
        + _contents("Reference", references)
    )
    with as_file(files("minires.site") / "book") as here:
        shutil.copy(here / "conf.py", out)
        (out / "_static").mkdir()
        for name in ("book.css", "book.js"):
            shutil.copy(here / name, out / "_static")


INDEX = """# minires, the book

A deep-learning engine in which nothing is hidden: every forward and backward pass is written by hand on plain arrays,
every gradient can be checked, and every initializer comes with the laws of what it does to the signal.

The tutorials ask you to predict first, and then run. **Run this page** on each of them starts Python in your browser:
every cell can be changed and run again, and nothing has to be installed. The derivations are the engine's own
docstrings, with the code they explain and the pages that step through it. The tables of evidence say how each claim was
measured, with its seed, its date and its command.

![Eleven initializers in four networks: signal by layer, loss, accuracy](figures/compare.png)
"""


def _contents(caption: str, pages: list[str]) -> str:
    return "\n".join(["\n```{toctree}", f":caption: {caption}", ":maxdepth: 1", "", *pages, "```\n"])


def _tutorial(out: Path, path: Path) -> None:
    """A tutorial as a notebook that says its number, which kernel runs it and what colors its code."""
    import jupytext

    notebook = as_notebook(path.read_text(encoding="utf-8"))
    title = notebook.cells[0]
    title.source = title.source.replace("# ", f"# {path.stem[:2]} ", 1)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}
    jupytext.write(notebook, out / f"{path.stem}.ipynb")


def _derivation(out: Path, root: Path, module: str, lesson: str | None) -> str:
    """The page of one module: its docstring, the stepper's page, the code of its functions."""
    source = (root / "minires" / f"{module}.py").read_text()
    tree = ast.parse(source)
    text = ast.get_docstring(tree)
    title = re.split(r"[.:(]", text)[0].strip()
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    names |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    parts = [f"# {title}", markdown(text, names)]
    if lesson:
        parts.append(
            f"## Step by step\n\n```{{raw}} html\n"
            f'<iframe class="stepper" loading="lazy" src="../stepper/{lesson}.html" title="{title}, step by step">'
            f'</iframe>\n<p><a href="../stepper/{lesson}.html">The same on a page of its own</a></p>\n```'
        )
    parts.append(
        f"## The code\n\n`minires/{module}.py`, whole: what is read is what runs.\n\n```python\n{_code(source)}\n```"
    )
    name = f"derivation-{module.replace('/', '-')}"
    (out / f"{name}.md").write_text("\n\n".join(parts) + "\n")
    return name


def _code(source: str) -> str:
    """A module without its docstring, which stands above."""
    return "\n".join(source.split("\n")[ast.parse(source).body[0].end_lineno :]).strip()


def _evidence_name(path: Path) -> str:
    """tests/theory/evidence/forward.md -> evidence-theory-forward."""
    words = [word for word in path.with_suffix("").parts if word not in ("tests", "evidence", "README")]
    return "-".join(["evidence", *words]).replace("_", "-")


def _evidence(out: Path, path: Path, tables: dict[Path, str]) -> str:
    """A page of measurements; its links to other such pages lead to those of the book, all others are just names."""

    def link(found: re.Match) -> str:
        text, target = found[1], found[2]
        if target.startswith("http"):
            return found[0]
        name = tables.get((path.parent / target.partition("#")[0]).resolve())
        return f"[{text}]({name}.md)" if name else text

    page = re.sub(r"\[([^\]]*)\]\(([^)]*)\)", link, path.read_text())
    if not re.search(r"^## ", page, re.M):  # a page in which no level is left out
        page = re.sub(r"^##(#+ )", r"#\1", page, flags=re.M)
    (out / f"{tables[path]}.md").write_text(page)
    return tables[path]
