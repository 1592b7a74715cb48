"""Files that are either whole or not there: written under a temporary name, flushed to the disk, then renamed.

A reader (or a run that is resumed after a power cut) never meets half a file, because renaming within one folder is
atomic on every file system minires runs on.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

TEMPORARY = ".tmp"
"""The ending of unfinished files; whoever finds one may delete it."""


def atomic_write(path: str | os.PathLike[str], write: Callable[[BinaryIO], object]) -> None:
    """Let `write` fill a file that appears at `path` only when it is complete, replacing what was there.

    Raises OSError (disk full, folder not writable) with the old file untouched and the temporary one removed.
    """
    target = Path(path)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=TEMPORARY, dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())  # mkstemp makes files that only their owner can read
        os.replace(name, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise
    _sync_folder(target.parent)


def atomic_write_text(path: str | os.PathLike[str], text: str) -> None:
    """`atomic_write` of a string, as UTF-8. Raises OSError as it does."""
    atomic_write(path, lambda file: file.write(text.encode()))


def _umask() -> int:
    mask = os.umask(0)  # there is no way to read it without setting it
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    """Make the renaming itself survive a power cut, where the system lets a folder be opened (not on Windows)."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
