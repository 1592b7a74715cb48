"""The book: tutorials, derivations, evidence and reference as pages of Sphinx, built without a network.

`sources.py` writes what Sphinx reads; `conf.py` says how; `mathml.py` typesets formulas without a script.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import minires
from minires.site.book.sources import write_sources
from minires.site.pyodide import SiteError

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "minires" / "tutorials"
"""What the tutorials printed and drew, so that only those that changed are run again."""

INLINE = "module://matplotlib_inline.backend_inline"
"""matplotlib's backend that puts pictures into a notebook. The command line has chosen another one, for files."""


def build_book(out: Path, told: Callable[[str], object]) -> None:
    """Builds the book into the folder `out`. Raises SiteError where Sphinx or the tutorials are missing or complain."""
    root = Path(minires.__file__).parents[1]
    if not (root / "tutorials").is_dir():
        raise SiteError(
            "the tutorials are not here: build the book from minires' own folder, or leave it out: --no-book"
        )
    missing = [name for name in ("sphinx", "myst_nb", "furo", "jupytext", "ipykernel") if find_spec(name) is None]
    if missing:
        raise SiteError(
            f"the book needs {', '.join(missing)}: pip install 'minires[site]', or leave the book out: --no-book"
        )
    with tempfile.TemporaryDirectory(prefix="minires-book-") as room:
        source = Path(room) / "source"
        told("book: pages")
        write_sources(root, source)
        told("book: running the tutorials that changed, then Sphinx")
        command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html"]
        command += ["-d", str(Path(room) / "doctrees"), str(source), str(out)]
        settings = {"PYTHONPATH": str(root), "MINIRES_BOOK_CACHE": str(CACHE), "MPLBACKEND": INLINE}
        environment = {**os.environ, **settings}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode:
            raise SiteError(f"the book is not built:\n{(done.stderr or done.stdout).strip()[-4000:]}")
    (out / ".buildinfo").unlink(missing_ok=True)
    for page in out.glob("*.html"):
        page.write_text(_accessible(page.read_text()))


def _accessible(page: str) -> str:
    """With what Sphinx's pages lack: headings have a level, and code that scrolls can be reached by the keyboard."""
    page = page.replace('class="caption" role="heading">', 'class="caption" role="heading" aria-level="2">')
    return page.replace("<pre>", '<pre tabindex="0">')
