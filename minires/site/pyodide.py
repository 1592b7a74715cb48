"""The pinned release of Pyodide: which files the site needs, and the hashes they must have.

`pyodide-lock.json` is the lock file of npm's package `pyodide`, cut to NumPy, matplotlib and what they need, with the
sizes of the files and the hashes of the four runtime files added. The browser checks every file against it, too.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple


class SiteError(Exception):
    """The site cannot be built: a sentence that says what is missing or wrong."""


class PyodideFile(NamedTuple):
    """One file of the release. `later`: needed for pictures only, so the page loads it after the rest."""

    name: str
    size: int
    sha256: str
    later: bool


@cache
def lock_text() -> str:
    """The lock file, as the browser gets it."""
    return (files("minires.site") / "pyodide-lock.json").read_text()


def version() -> str:
    """Pyodide's version."""
    return json.loads(lock_text())["info"]["version"]


def default_url() -> str:
    """Where Pyodide's own releases can be loaded from."""
    return f"https://cdn.jsdelivr.net/pyodide/v{version()}/full/"


def pyodide_files() -> list[PyodideFile]:
    """All files of the release that the site loads: first the runtime and NumPy, later matplotlib."""
    lock = json.loads(lock_text())
    first, later = [*lock["runtime"], lock["packages"].pop("numpy")], lock["packages"].values()
    return [
        PyodideFile(entry["file_name"], entry["size"], entry["sha256"], group is later)
        for group in (first, later)
        for entry in group
    ]


def copy_pyodide(source: Path, target: Path) -> None:
    """Copies the files from the folder `source`. SiteError for one that is missing or is not the pinned one."""
    target.mkdir(parents=True)
    for file in pyodide_files():
        path = source / file.name
        if not path.is_file():
            raise SiteError(f"{source} has no {file.name}; expected the unpacked release {version()} of Pyodide")
        if hashlib.sha256(path.read_bytes()).hexdigest() != file.sha256:
            raise SiteError(f"{path} is not the file of Pyodide {version()}: its SHA-256 differs from the lock file's")
        shutil.copyfile(path, target / file.name)
