"""Files that are either whole or not there, and folders that one process at a time writes into.

A file is written under a temporary name, flushed to the disk, then renamed. A reader (or a run that is resumed after a
power cut) never meets half a file, because renaming within one folder is atomic on every file system minires runs on.

A folder is locked through a file in it, by the operating system: the lock of a process that died is gone with it.
"""

from __future__ import annotations

import errno
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

TEMPORARY = ".tmp"
"""The ending of unfinished files; whoever finds one may delete it."""


def atomic_write(path: str | os.PathLike[str], write: Callable[[BinaryIO], object]) -> None:
    """Let `write` fill a file that appears at `path` only when it is complete, replacing what was there.

    Raises OSError (disk full, folder not writable; a device or a pipe, which no file may replace) with the old file
    untouched and the temporary one removed.
    """
    target = Path(path)
    if target.exists() and not target.is_file() and not target.is_dir():
        raise OSError(errno.EINVAL, "no file, but a device or a pipe", os.fspath(target))
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name[:50]}.", suffix=TEMPORARY, dir=target.parent)
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
    except OSError as error:  # its text is to name the file that was asked for, not the temporary one, or none at all
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, os.fspath(target)) from None
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


LOCK = ".lock"
"""The file by which a folder is locked; its text says who holds it. It is removed when the lock is released."""


NAMED_AFTER = 10.0
"""Seconds by which whoever locked a folder has written who it is, on a busy machine, too."""


class FolderInUse(FileExistsError):
    """Another process, or another thread of this one, is writing into the folder; the text says which."""


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Within the block nobody else gets `folder`. Unfinished files that dead processes left in it are removed first.

    Raises FolderInUse, saying who holds it; OSError where the folder cannot be written. Where the file system knows no
    locks, there is none.
    """
    with _open_lock(folder) as file:
        with suppress(OSError):
            file.truncate(0)
            file.write(
                f"process {os.getpid()} on {platform.node()} since {time.strftime('%Y-%m-%d %H:%M:%S')}".encode()
            )
            file.flush()
        for path in folder.glob(f".*{TEMPORARY}"):
            with suppress(OSError):
                path.unlink()
        try:
            yield
        finally:
            with suppress(OSError):  # Windows removes no open file: it stays, and does no harm
                (folder / LOCK).unlink()


def _open_lock(folder: Path) -> BinaryIO:
    """The lock file, open and locked."""
    path = folder / LOCK
    while True:
        file = path.open("a+b")
        if not _lock(file):
            holder = _holder(file)
            file.close()
            raise FolderInUse(f"{folder} is in use by {holder}: wait for it to end, or choose another folder")
        try:
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except FileNotFoundError:
            pass  # removed by its holder after we opened it: our lock is on a file that nobody else will find
        file.close()


def _holder(file: BinaryIO) -> str:
    """Who wrote into the lock file. A holder locks it first and writes a moment later: that moment is waited for."""
    until = time.monotonic() + NAMED_AFTER
    while True:
        file.seek(0)
        holder = file.read(200).decode(errors="replace")
        if holder or time.monotonic() > until:
            return holder or "another process"
        time.sleep(0.01)


def _lock(file: BinaryIO) -> bool:
    """Lock the file for this open handle. False where somebody has it; True, too, where there are no locks."""
    try:
        if os.name == "nt":
            import msvcrt

            file.seek(1 << 20)  # a locked byte cannot be read: one beyond the text
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except (ImportError, OSError):
        return True
    return True
