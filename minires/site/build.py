"""Writes the folder of the site: pages, the packages for the browser, Pyodide or its address, the book."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from ast import get_docstring, parse
from collections.abc import Callable
from html import escape
from importlib.resources import as_file, files
from pathlib import Path

import minires
from minires import __version__
from minires.site.pyodide import SiteError, copy_pyodide, default_url, lock_text, pyodide_files
from minires.site.wheels import PACKAGES, write_wheel

MARK = "minires-site.json"
"""A file that only this program writes: a folder that has it may be replaced."""

PAGES = {"front.html": "index.html", "playground.html": "playground/index.html", "stepper.html": "stepper/index.html"}
"""Files of `static` that stand elsewhere in the site. `service-worker.js` rules the folder that it is in, the first."""

CHECKS = (
    *("linear", "relu", "leaky_relu", "tanh", "sigmoid", "conv2d", "batchnorm", "max_pool2d", "avg_pool2d"),
    *("global_avg_pool2d", "dropout", "softmax_cross_entropy", "mse"),
)
PROGRAMS = ("step", "step_network", "compare", "train", "predict", "fault", "gradcheck", "command_line")

CHECK_AT_HOME = """

if __name__ == "__main__":
    from minires import gradcheck

    print(gradcheck.check_file(__file__, like="{op}"))
"""


def build_site(
    out: Path, *, pyodide: str | Path | None = None, book: bool = True, told: Callable[[str], object] = print
) -> None:
    """Writes the site into the folder `out`, replacing an older one only when the new one is complete.

    pyodide: a folder with an unpacked release, which is then copied into the site; or an address to load it from
    (default: Pyodide's content network). book: whether to build the book, which runs the tutorials. told hears what is
    being done.

    Raises SiteError for what cannot be built and for a folder that holds something else; OSError.
    """
    out = out.resolve()
    if out.exists() and any(out.iterdir()) and not (out / MARK).is_file():
        raise SiteError(f"{out} holds something that is no site of minires: choose an empty or a new folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as room:
        site = Path(room) / "site"
        told("pages")
        _write_pages(site, book)
        told("packages")
        wheels = _write_wheels(site / "static" / "wheels")
        _write_runtime(site, pyodide, wheels)
        told("pages of the stepper")
        _write_lessons(site / "stepper")
        if book:
            from minires.site.book import build_book

            build_book(site / "book", told)
        _write_service_worker(site)
        (site / MARK).write_text(json.dumps({"minires": __version__}))
        site.chmod(0o755)
        if out.exists():
            shutil.rmtree(out)
        site.replace(out)


def _write_pages(site: Path, book: bool) -> None:
    picture = Path(minires.__file__).parents[1] / "tutorials" / "figures" / "compare.png"
    parts = {"book": book, "no book": not book, "picture": picture.is_file()}
    with as_file(files("minires.site") / "static") as static:
        shutil.copytree(static, site / "static")
    for name, place in PAGES.items():
        (site / place).parent.mkdir(parents=True, exist_ok=True)
        text = (site / "static" / name).read_text()
        for part, wanted in parts.items():
            text = re.sub(f"<!-- {part} -->(.*?)<!-- /{part} -->", r"\1" if wanted else "", text, flags=re.S)
        (site / place).write_text(text)
        (site / "static" / name).unlink()
    if picture.is_file():
        shutil.copy(picture, site / "static")
    (site / "static" / "examples.json").write_text(json.dumps(examples(), indent=1))


def examples() -> list[dict[str, str]]:
    """What the playground offers: name, kind (check or run), group, title, about, source; op and tail for a check."""
    return [
        *(_example("check", op, "Check your backward") for op in CHECKS),
        *(_example("run", name, "Run an experiment") for name in PROGRAMS),
    ]


def _example(kind: str, name: str, group: str) -> dict[str, str]:
    text = (files("minires.site") / "examples" / f"{kind}_{name}.py").read_text()
    docstring = parse(text).body[0]
    title, _, about = get_docstring(parse(text)).partition("\n\n")
    source = "\n".join(text.split("\n")[docstring.end_lineno :]).lstrip("\n")
    found = {"name": f"{kind}-{name}".replace("_", "-"), "kind": kind, "group": group, "title": title}
    found |= {"about": " ".join(about.split()), "source": source}
    return found | ({"op": name, "tail": CHECK_AT_HOME.format(op=name)} if kind == "check" else {})


def _write_wheels(folder: Path) -> list[Path]:
    folder.mkdir()
    return [folder / write_wheel(name, folder) for name in PACKAGES]


def _write_runtime(site: Path, pyodide: str | Path | None, wheels: list[Path]) -> None:
    """runtime.json: every file that the worker loads, with its size and hash; and Pyodide itself, if it is a folder."""
    loaded = [
        {"name": file.name, "size": file.size, "sha256": file.sha256, "later": file.later} for file in pyodide_files()
    ]
    for wheel in wheels:
        data = wheel.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        loaded.append({"name": wheel.name, "size": len(data), "sha256": digest, "wheel": True})
    address = "../pyodide/"
    if isinstance(pyodide, Path):
        copy_pyodide(pyodide, site / "pyodide")
    else:
        address = (pyodide or default_url()).rstrip("/") + "/"
    runtime = {"version": __version__, "pyodide": address, "files": loaded}
    (site / "static" / "runtime.json").write_text(json.dumps(runtime, indent=1))
    (site / "static" / "pyodide-lock.json").write_text(lock_text())


def _write_lessons(folder: Path) -> None:
    """The stepper's lessons, each a page that stands alone, and the list of them."""
    from minires.stepper import LESSONS, page
    from minires.stepper.lessons import lesson

    entries = []
    for name in LESSONS:
        (folder / f"{name}.html").write_text(page(name))
        told = lesson(name)
        entries.append(f'<dt><a href="{name}.html">{escape(told.TITLE)}</a></dt><dd>{escape(told.ABOUT)}</dd>')
    index = folder / "index.html"
    index.write_text(index.read_text().replace("LESSONS", "\n".join(entries)))


def _write_service_worker(site: Path) -> None:
    """With a name for its cache that changes whenever a file of the site does, so that nobody keeps an old one."""
    digest = hashlib.sha256()
    for path in sorted(path for path in site.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(site).as_posix()}\0".encode() + path.read_bytes())
    script = site / "static" / "service-worker.js"
    (site / "service-worker.js").write_text(script.read_text().replace("VERSION", digest.hexdigest()[:16]))
    script.unlink()
