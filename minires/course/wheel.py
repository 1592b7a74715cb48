"""minires as a wheel, made from the package that is running: grading packages carry it, since the package index has
another project of the same name."""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from pathlib import Path

import minires

REQUIREMENTS = ("numpy>=2.0", "matplotlib>=3.9", "rich>=13", "threadpoolctl>=3.5")
"""As in pyproject.toml; a test holds the two together."""

LEFT_OUT = {"__pycache__"}
EPOCH = (2020, 1, 1, 0, 0, 0)
"""The date of all entries, so that the same package gives the same bytes."""


def wheel_name() -> str:
    """The file's name, as pip wants it."""
    return f"minires-{minires.__version__}-py3-none-any.whl"


def wheel() -> bytes:
    """The wheel (PEP 427), with all files of the installed package."""
    home = Path(minires.__file__).parent
    info = f"minires-{minires.__version__}.dist-info"
    files = {
        f"minires/{path.relative_to(home).as_posix()}": path.read_bytes()
        for path in sorted(home.rglob("*"))
        if path.is_file() and not LEFT_OUT & set(path.parts) and path.suffix != ".pyc"
    }
    files[f"{info}/METADATA"] = _metadata().encode()
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: minires\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{info}/entry_points.txt"] = b"[console_scripts]\nminires = minires.__main__:main\n"
    lines = [f"{name},{_digest(content)},{len(content)}" for name, content in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*lines, f"{info}/RECORD,,", ""]).encode()
    return zip_of(files)


def zip_of(files: dict[str, bytes], executable: tuple[str, ...] = ()) -> bytes:
    """A zip of these files; the same files give the same bytes."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.external_attr = (0o100755 if name in executable else 0o100644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            out.writestr(entry, content)
    return archive.getvalue()


def _digest(content: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def _metadata() -> str:
    lines = ["Metadata-Version: 2.1", "Name: minires", f"Version: {minires.__version__}", "Requires-Python: >=3.11"]
    return "\n".join([*lines, *(f"Requires-Dist: {r}" for r in REQUIREMENTS), ""])
