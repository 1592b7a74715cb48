"""Files that are whole or not there: `minires.files`."""

import os
import stat
import threading

import pytest

from minires.files import atomic_write, atomic_write_text


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "f"
    atomic_write_text(path, "old")

    def fail(file):
        file.write(b"new, but")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        atomic_write(path, fail)
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["f"]


def test_a_reader_never_meets_half_a_file(tmp_path):
    """One thread rewrites 4 MB again and again, another reads: every time it gets all of one version."""
    path, size, rounds = tmp_path / "f", 1 << 22, 40
    versions = [bytes([n]) * size for n in range(2)]
    atomic_write(path, lambda file: file.write(versions[0]))
    writing, seen = threading.Event(), []

    def read():
        while not writing.is_set():
            content = path.read_bytes()
            seen.append(len(content) == size and len(set(content[:: size // 64])) == 1)

    thread = threading.Thread(target=read)
    thread.start()
    for n in range(rounds):
        atomic_write(path, lambda file, n=n: file.write(versions[n % 2]))
    writing.set()
    thread.join()
    assert len(seen) > 1 and all(seen)


def test_others_may_read_what_they_may_read_of_any_file(tmp_path):
    (tmp_path / "usual").write_text("")
    atomic_write_text(tmp_path / "ours", "ä")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("usual", "ours")]
    assert modes[0] == modes[1] and (tmp_path / "ours").read_bytes() == "ä".encode()
