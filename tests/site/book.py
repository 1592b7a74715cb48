"""The whole site with its book: `python -m pytest tests/site/book.py`. Needs `pip install 'minires[site]'`.

Building it runs every tutorial that has changed since the last time.
"""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from minires.site import build_site

for name in ("sphinx", "myst_nb", "furo", "jupytext", "ipykernel"):
    pytest.importorskip(name)


class Links(HTMLParser):
    """What a page refers to, what it loads, and the names of its places."""

    def __init__(self, text):
        super().__init__()
        self.links, self.loaded, self.places = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.places |= {found[name] for name in ("id", "name") if found.get(name)}
        if found.get("href"):
            (self.links if tag == "a" else self.loaded).append(found["href"])
        self.loaded += [found[name] for name in ("src", "poster") if found.get(name)]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site. A warning of Sphinx, or a tutorial that fails, ends it here."""
    folder = tmp_path_factory.mktemp("site") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPLBACKEND", "Agg")  # as `minires site` has set it
        build_site(folder)
    return folder


@pytest.fixture(scope="module")
def pages(site):
    return {path: Links(path.read_text()) for path in site.rglob("*.html")}


def test_the_book_has_its_parts(site):
    names = {path.stem for path in (site / "book").glob("*.html")}
    tutorials = {path.stem for path in Path("tutorials").glob("[0-9]*.py")}
    assert tutorials <= names and {"derivation-ops-conv", "reference-ops", "evidence-theory", "search"} <= names


def test_every_link_leads_somewhere(site, pages):
    for page, found in pages.items():
        for link in found.links + found.loaded:
            parts = urlsplit(link)
            if parts.scheme or link.startswith("#playground"):
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            assert target.is_file(), (page.relative_to(site), link)
            if parts.fragment and target.suffix == ".html" and "=" not in parts.fragment:
                assert parts.fragment in pages[target].places, (page.relative_to(site), link)


def test_pages_load_nothing_from_elsewhere(site, pages):
    for page, found in pages.items():
        elsewhere = [what for what in found.loaded if urlsplit(what).scheme not in ("", "data")]
        assert elsewhere == [], page.relative_to(site)


def test_tutorials_show_their_figures_and_formulas_are_typeset(site):
    for path in Path("tutorials").glob("[0-9]*.py"):
        text = (site / "book" / f"{path.stem}.html").read_text()
        assert "cell_output" in text, path
        assert ("<img" in text) == ("plt." in path.read_text() or "draw" in path.read_text()), path
        prose = re.sub(r"<(pre|code|script|style)\b.*?</\1>", "", text.partition("<article")[2], flags=re.S)
        assert "$" not in prose and "\\frac" not in prose, f"{path}: a formula is left as it was typed"
