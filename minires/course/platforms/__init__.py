"""An assignment as the package that a course platform takes. Each carries minires' own wheel.

gradescope    a zip to upload as the autograder; submissions run isolated, as another user
classroom50   a bundle with autograder.py; it is readable by students, so its hidden numbers are no secret
nbgrader      a course folder: source notebook with solutions and hidden tests, nbgrader_config.py
otter         an autograder zip for `otter run` and Gradescope, with the tests
pytest        a folder in which plain pytest grades a submission
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path

from minires.course.declaration import Assignment
from minires.files import atomic_write


def package(a: Assignment, platform: str, out: Path) -> list[Path]:
    """Writes the package of `platform` into the folder `out`; the files. ValueError for an unknown platform."""
    if platform not in ("gradescope", "classroom50", "nbgrader", "otter", "pytest"):
        raise ValueError(f"there is no package for {platform!r}")
    return importlib.import_module(f"minires.course.platforms.{platform}").write(a, out)


def write_files(out: Path, files: Mapping[str, str | bytes], executable: tuple[str, ...] = ()) -> list[Path]:
    """Writes files below a folder, each whole or not at all."""
    written = []
    for name, content in files.items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = content.encode() if isinstance(content, str) else content
        atomic_write(path, lambda file, data=data: file.write(data))
        if name in executable:
            path.chmod(0o755)
        written.append(path)
    return written


def declared(a: Assignment) -> tuple[str, dict[str, str]]:
    """(what names the assignment inside a package, the file that declares it, if it is not as minires has it)."""
    if a.file:
        path = Path(a.file)
        return path.name, {path.name: path.read_text(encoding="utf-8")}
    if a.secret == Assignment.secret:
        return a.name, {}
    name = f"{a.name}_assignment.py"
    return name, {name: WITH_SECRET.format(name=a.name, secret=a.secret)}


WITH_SECRET = '''"""minires' assignment {name}, with hidden numbers of its own."""

from dataclasses import replace

from minires.course import load

ASSIGNMENT = replace(load({name!r}), secret={secret!r})
'''
