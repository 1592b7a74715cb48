"""Starts a command as another user, with fewer rights. Runs as root, needs the standard library only.

    python -I confine.py '{"uid": 65534, "write": ["/tmp/x"], "read": ["/usr", ...], "landlock": true, ...}' command ...

In order: a user of its own, no new privileges, no file beside those named (Landlock), no network, no tracing of other
processes (seccomp), then the command. Each step that the kernel does not have is left out; `isolation.py` asks which
there are before it relies on them.

Sources: Landlock, Linux Documentation/userspace-api/landlock.rst; seccomp(2), bpf(2); capabilities(7) on ambient sets.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import struct
import sys

LIBC = ctypes.CDLL(None, use_errno=True) if os.name == "posix" else None

# --- Landlock: which files -----------------------------------------------------------------------------------------

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same on every architecture
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
FILE_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1}
"""All rights on files that a version of Landlock knows; the last one for later versions."""


def landlock_version() -> int:
    """The version of Landlock in the kernel, 0 if there is none."""
    return max(LIBC.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), 1), 0)


def landlock(read: list[str], write: list[str], listed: list[str]) -> bool:
    """From now on only `read` can be read, `write` written and, beside these, `listed` listed; False where the kernel
    cannot."""
    version = landlock_version()
    if not version:
        return False
    rights = FILE_RIGHTS[min(version, 3)]
    attributes = ctypes.create_string_buffer(struct.pack("<Q", rights))
    ruleset = LIBC.syscall(CREATE_RULESET, attributes, ctypes.c_size_t(8), 0)
    if ruleset < 0:
        return False
    allowed = [(path, EXECUTE | READ_FILE | READ_DIR) for path in read] + [(path, rights) for path in write]
    allowed += [(path, READ_DIR) for path in listed]
    for path, access in allowed:
        try:
            handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        if not os.path.isdir(path):
            access &= EXECUTE | READ_FILE | WRITE_FILE
        rule = ctypes.create_string_buffer(struct.pack("<Qi", access, handle))
        if LIBC.syscall(ADD_RULE, ruleset, 1, rule, 0):
            return False
        os.close(handle)
    return LIBC.syscall(RESTRICT_SELF, ruleset, 0) == 0


# --- seccomp: which system calls -----------------------------------------------------------------------------------

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
FORBIDDEN = {  # name: number on x86_64, on aarch64
    "socket": (41, 198),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "bpf": (321, 280),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
    "memfd_create": (319, 279),
}
ALLOW, ERRNO_EPERM, KILL = 0x7FFF0000, 0x00050001, 0x80000000


def seccomp() -> bool:
    """From now on the calls above fail with EPERM; False where the kernel or the machine is another."""
    machine = platform.machine()
    if machine not in ARCHITECTURES:
        return False
    numbers = [both[machine == "aarch64"] for both in FORBIDDEN.values()]
    load, equal, at_least, answer = 0x20, 0x15, 0x35, 0x06
    program = [
        (load, 0, 0, 4),  # the architecture
        (equal, 1, 0, ARCHITECTURES[machine]),
        (answer, 0, 0, KILL),
        (load, 0, 0, 0),  # the number of the call
    ]
    if machine == "x86_64":
        program += [(at_least, 0, 1, 0x40000000), (answer, 0, 0, ERRNO_EPERM)]  # the x32 twins of all calls
    for number in numbers:
        program += [(equal, 0, 1, number), (answer, 0, 0, ERRNO_EPERM)]
    program.append((answer, 0, 0, ALLOW))
    code = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *line) for line in program))
    filter_ = ctypes.create_string_buffer(struct.pack("<HxxxxxxQ", len(program), ctypes.addressof(code)))
    return LIBC.prctl(22, 2, filter_, 0, 0) == 0


def has_seccomp() -> bool:
    """Whether the kernel filters system calls, asked without changing anything."""
    return platform.machine() in ARCHITECTURES and LIBC.prctl(21, 0, 0, 0, 0) >= 0


# --- the user ------------------------------------------------------------------------------------------------------

READ_ANYTHING = 1 << 2  # CAP_DAC_READ_SEARCH


def become(uid: int, read_anything: bool) -> None:
    """Another user for good. read_anything: it may read what file modes forbid; only sensible under Landlock."""
    if read_anything:
        LIBC.prctl(8, 1, 0, 0, 0)  # keep capabilities over the change of user
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    if read_anything:
        header = ctypes.create_string_buffer(struct.pack("<Ii", 0x20080522, 0))
        data = ctypes.create_string_buffer(struct.pack("<6I", READ_ANYTHING, READ_ANYTHING, READ_ANYTHING, 0, 0, 0))
        if LIBC.capset(header, data) or LIBC.prctl(47, 2, 2, 0, 0):
            raise OSError("capabilities cannot be set")


def main() -> None:
    """Confines this process as its first argument says, and becomes the command that follows."""
    plan, command = json.loads(sys.argv[1]), sys.argv[2:]
    if plan.get("uid") is not None:
        become(plan["uid"], bool(plan.get("read_anything")))
    os.umask(0o077)
    if LIBC.prctl(38, 1, 0, 0, 0):
        raise OSError("no_new_privs cannot be set")
    if plan.get("landlock") and not landlock(plan["read"], plan["write"], plan["list"]):
        raise OSError("Landlock cannot be used")
    if plan.get("seccomp") and not seccomp():
        raise OSError("seccomp cannot be used")
    if plan.get("folder"):
        os.chdir(plan["folder"])
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
