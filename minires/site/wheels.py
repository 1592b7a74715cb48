"""Wheels of what is installed here, for the browser: minires itself and the pure Python packages that it imports."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import minires

PACKAGES = ("minires", "rich", "threadpoolctl")
"""What minires needs in the browser besides Pyodide's NumPy and matplotlib. All of it is pure Python."""

WHEEL = "Wheel-Version: 1.0\nGenerator: minires site\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
NOT_COPIED = ("RECORD", "INSTALLER", "REQUESTED", "WHEEL", "direct_url.json")


def write_wheel(name: str, folder: Path) -> str:
    """Packs the package `name` as it is importable here, the same files into the same bytes; gives the wheel's name."""
    stem = f"{name}-{_version(name)}"
    contents = dict(sorted(_package(name)))
    contents |= {f"{stem}.dist-info/{file}": data for file, data in _metadata(name)}
    contents[f"{stem}.dist-info/WHEEL"] = WHEEL.encode()
    record = f"{stem}.dist-info/RECORD"
    contents[record] = "".join([*(_record(path, data) for path, data in contents.items()), f"{record},,\n"]).encode()
    file = f"{stem}-py3-none-any.whl"
    with ZipFile(folder / file, "w", ZIP_DEFLATED) as wheel:
        for path, data in contents.items():
            wheel.writestr(ZipInfo(path), data, ZIP_DEFLATED)
    return file


def _version(name: str) -> str:
    return minires.__version__ if name == "minires" else distribution(name).version


def _package(name: str) -> Iterator[tuple[str, bytes]]:
    """(path in the wheel, bytes) of the files of a package, or of a module that is a single file."""
    spec = find_spec(name)
    if not spec.submodule_search_locations:
        yield f"{name}.py", Path(spec.origin).read_bytes()
        return
    root = Path(spec.submodule_search_locations[0])
    for path in root.rglob("*"):
        if path.is_file() and not {"__pycache__", "node_modules"} & set(path.parts):
            yield f"{name}/{path.relative_to(root).as_posix()}", path.read_bytes()


def _metadata(name: str) -> Iterator[tuple[str, bytes]]:
    """(file, bytes) of the metadata, licences included; of a checkout that is not installed, the least needed."""
    try:
        found = [file for file in distribution(name).files or () if file.parts[0].endswith(".dist-info")]
    except PackageNotFoundError:
        found = []
    for file in found:
        if file.name not in NOT_COPIED:
            yield "/".join(file.parts[1:]), file.locate().read_bytes()
    if not found:
        yield "METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {_version(name)}\n".encode()


def _record(path: str, data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"{path},sha256={digest},{len(data)}\n"
