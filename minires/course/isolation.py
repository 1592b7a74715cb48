"""What keeps a submission away from the grader and its machine, in rungs.

    bubblewrap   namespaces of its own: a file system of the interpreter and an empty /tmp, no network, no other process
    user         another user id, Landlock and seccomp where the kernel has them (needs root, as in a grading container)
    none         the limits of the process alone; only where the instructor says `--trust`

On both upper rungs memory, processes and the size of files are limited, and everything the submission started is killed
in the end. Every report says on which rung it ran. `available()` tries a rung on this machine before it is used.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

import minires
from minires.course import confine

RUNGS = ("bubblewrap", "user", "none")


def uid_of(slot: int) -> int:
    """A user id that is nobody's: another one for each grading process and each slot in it (of at most 8).

    Everything a user runs is killed in the end, so that two gradings on one machine must not share one.
    """
    return 20_000 + (8 * os.getpid() + slot) % 40_000


SYSTEM = ("/usr", "/lib", "/lib64", "/lib32", "/bin", "/etc/ld.so.cache", "/etc/localtime")
"""What the interpreter and its libraries need of the system, read-only."""

CPU_LISTS = ("/sys/devices/system/cpu", "/proc/cpuinfo", "/proc/meminfo", "/proc/self")
SCRATCH = 64 << 20
"""Bytes that a submission may write in all (bubblewrap)."""

DEEP = 6
"""Levels of folders in which minires is looked for: /opt/conda/envs/NAME/lib/python3.12/site-packages has that many."""

STAGE = "/course"
"""Where bubblewrap shows the staged files."""


class NoIsolation(Exception):
    """No rung can be used on this machine."""


class Rung(Protocol):
    """One way to run a command on staged files."""

    name: str

    def wrap(self, command: list[str]) -> list[str]:
        """The command, isolated."""

    def inside(self, path: Path) -> str:
        """A staged file's path as the command sees it."""

    def clean_up(self) -> None:
        """Kills what is left."""


@dataclass
class Bubblewrap:
    """Namespaces of its own. As root, the uid is real; as somebody else, it is mapped."""

    stage: Path
    slot: int = 0
    name = "bubblewrap"

    def wrap(self, command: list[str]) -> list[str]:
        root = os.geteuid() == 0
        spaces = ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
        if not root:
            spaces += ["--unshare-user", "--uid", "65534", "--gid", "65534"]
        shown = ["--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev", "--size", str(SCRATCH), "--perms", "1777"]
        shown += ["--tmpfs", "/tmp"]
        for path in SYSTEM:
            shown += _shown(path)
        for path in _interpreter():
            shown += [*_parents(path), "--ro-bind", path, path]
        for path in engines():
            shown += ["--tmpfs", path] if os.path.isdir(path) else ["--ro-bind", "/dev/null", path]
        shown += ["--ro-bind", str(self.stage), STAGE, "--remount-ro", "/", "--chdir", "/tmp"]
        rights = ["--cap-drop", "ALL"]
        rights += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"] if root else []
        plan = {"uid": uid_of(self.slot) if root else None, "seccomp": confine.has_seccomp()}
        own = [sys.executable, "-I", f"{STAGE}/confine.py", json.dumps(plan)]
        closed = ["--die-with-parent", "--new-session", "--clearenv", "--setenv", "HOME", "/tmp"]
        closed += ["--setenv", "OPENBLAS_NUM_THREADS", "1", "--setenv", "PATH", "/usr/bin:/bin"]
        return ["bwrap", *spaces, *shown, *rights, *closed, "--", *own, *command]

    def inside(self, path: Path) -> str:
        return f"{STAGE}/{path.relative_to(self.stage)}"

    def clean_up(self) -> None:
        """The process namespace dies with its first process; as root, this makes sure of it at once."""
        if os.geteuid() == 0:
            kill_all_of(uid_of(self.slot))


@dataclass
class OtherUser:
    """Another user id, without namespaces, for containers that forbid them. It can write no file at all."""

    stage: Path
    slot: int = 0
    name = "user"

    def wrap(self, command: list[str]) -> list[str]:
        shown = [p for p in (*SYSTEM, *_interpreter(), *CPU_LISTS, "/dev/urandom") if Path(p).exists()]
        locked = confine.landlock_version() > 0
        hidden = {os.path.realpath(path) for path in engines()}
        read, listed = _around(shown, hidden)
        plan = {
            "uid": uid_of(self.slot),
            "read": [*read, str(self.stage)],
            "list": listed,
            "write": ["/dev/null"],
            "landlock": locked,
            "seccomp": confine.has_seccomp(),
            "read_anything": locked and not _readable_by_all(self.stage),
            "folder": "/",
        }
        return [sys.executable, "-I", confine.__file__, json.dumps(plan), *command]

    def inside(self, path: Path) -> str:
        return str(path)

    def clean_up(self) -> None:
        """Kills every process of the user, however it detached itself."""
        kill_all_of(uid_of(self.slot))


def kill_all_of(uid: int) -> None:
    """Kills every process of a user, from a process of that user: kill(-1) spares nobody but its caller."""
    code = f"import os; os.setgid({uid}); os.setuid({uid}); os.kill(-1, 9)"
    subprocess.run([sys.executable, "-I", "-c", code], stderr=subprocess.DEVNULL, check=False, timeout=120)


@dataclass
class Trusted:
    """No isolation beside the limits of the process."""

    stage: Path
    slot: int = 0
    name = "none"

    def wrap(self, command: list[str]) -> list[str]:
        return command

    def inside(self, path: Path) -> str:
        return str(path)

    def clean_up(self) -> None:
        """Nothing that could be done."""


_RUNGS = {"bubblewrap": Bubblewrap, "user": OtherUser, "none": Trusted}


@cache
def available() -> tuple[str, ...]:
    """The rungs that work here, each tried once on a process that imports NumPy."""
    found = []
    with staged() as stage:
        for name in ("bubblewrap", "user"):
            if name == "bubblewrap" and not shutil.which("bwrap"):
                continue
            if name == "user" and not (
                os.name == "posix" and os.geteuid() == 0 and (confine.landlock_version() or confine.has_seccomp())
            ):
                continue
            rung = _RUNGS[name](stage, 7)
            command = rung.wrap([sys.executable, "-P", "-c", "import numpy"])
            with contextlib.suppress(OSError, subprocess.SubprocessError):
                if subprocess.run(command, capture_output=True, timeout=120, check=False).returncode == 0:
                    found.append(name)
            rung.clean_up()
    return (*found, "none")


def choose(rung: str | None, trust: bool) -> str:
    """The rung to use: the one asked for, else the best one. Raises NoIsolation with what to do."""
    found = available()
    if rung is not None:
        if rung not in found:
            raise NoIsolation(f"isolation {rung!r} does not work on this machine; there is {', '.join(found)}")
        best = rung
    else:
        best = found[0]
    if best == "none" and not trust:
        raise NoIsolation(
            "this machine has neither bubblewrap (apt install bubblewrap) nor root with Landlock or seccomp "
            "to keep submissions apart from the grader; --trust runs them with limits of time and memory only"
        )
    return best


@contextmanager
def staged() -> Iterator[Path]:
    """A folder for one submission's files, readable by its user, removed in the end."""
    folder = Path(tempfile.mkdtemp(prefix="minires-stage-"))
    try:
        folder.chmod(0o755)
        shutil.copy(confine.__file__, folder / "confine.py")
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def isolated(rung: str, stage: Path, slot: int) -> Iterator[Rung]:
    """The rung, for commands on the files in `stage`; all their processes are gone afterwards."""
    made = _RUNGS[rung](stage, slot)
    try:
        yield made
    finally:
        made.clean_up()


@cache
def _interpreter() -> tuple[str, ...]:
    """The folders that Python and NumPy are read from."""
    import numpy

    folders = [sys.prefix, sys.base_prefix, sys.exec_prefix, str(Path(numpy.__file__).resolve().parents[1])]
    folders += [str(Path(sys.executable).resolve().parents[1])]
    kept: list[str] = []
    for folder in sorted({os.path.realpath(f) for f in folders} | set(folders), key=len):
        inside = any(folder == k or folder.startswith(k.rstrip("/") + "/") for k in (*kept, *SYSTEM))
        if not inside and folder != "/":
            kept.append(folder)
    return tuple(kept)


@cache
def engines() -> tuple[str, ...]:
    """Where minires itself lies in what a submission can read: whoever finds it there has the solution."""
    found = {str(Path(minires.__file__).resolve().parent)}
    for top in {os.path.realpath(path) for path in (*_interpreter(), *SYSTEM)}:
        for place, folders, files in os.walk(top):
            found |= {f"{place}/{name}" for name in folders if name == "minires"}
            found |= {f"{place}/{name}" for name in files if name.startswith("minires-")}  # a wheel, an archive
            if place.count("/") - top.count("/") >= DEEP:
                folders.clear()
    tops = tuple(f"{os.path.realpath(path)}/" for path in (*_interpreter(), *SYSTEM))
    return tuple(sorted(path for path in found if path.startswith(tops)))


def _around(paths: Iterable[str], hidden: set[str]) -> tuple[list[str], list[str]]:
    """(what may be read with all below it, folders that may only be listed), so that nothing of `hidden` is read."""
    read: list[str] = []
    listed: list[str] = []
    for path in paths:
        real = os.path.realpath(path)
        if real in hidden:
            continue
        if not any(other.startswith(f"{real}/") for other in hidden):
            read.append(path)
        elif real == os.path.abspath(path):  # a link to a folder gives no rights that the folder has not
            listed.append(path)
            inside = _around([entry.path for entry in os.scandir(path)], hidden)
            read += inside[0]
            listed += inside[1]
        else:
            inside = _around([real], hidden)
            read += inside[0]
            listed += inside[1]
    return read, listed


def _shown(path: str) -> list[str]:
    """bubblewrap's options for a path of the system: as a link where it is one, else read-only."""
    if os.path.islink(path):
        return ["--symlink", os.readlink(path), path]
    return [*_parents(path), "--ro-bind", path, path] if os.path.exists(path) else []


def _parents(path: str) -> list[str]:
    """Options that make the folders above a path, readable by everybody."""
    folders = [str(p) for p in reversed(Path(path).parents) if str(p) not in ("/", "/usr", "/tmp", "/dev", "/proc")]
    return [option for folder in folders for option in ("--perms", "0755", "--dir", folder)]


def _readable_by_all(stage: Path) -> bool:
    """Whether a stranger can reach the interpreter and the staged files through the modes of all folders above."""
    paths = [Path(p) for p in (*_interpreter(), str(stage))]
    return all(folder.stat().st_mode & 0o001 for path in paths for folder in (path, *path.parents))
