"""Files that are whole or not there: `minires.files`."""

import itertools
import os
import re
import stat
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from minires import files
from minires.files import LOCK, FolderInUse, atomic_write, atomic_write_text, locked_folder
from tests.slowness import PATIENCE

ROOT = Path(__file__).resolve().parents[1]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "f"
    atomic_write_text(path, "old")

    def fail(file):
        file.write(b"new, but")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match=re.escape(f"No space left on device: '{path}'") + "$"):
        atomic_write(path, fail)
    with pytest.raises(OSError, match=re.escape(f"'{tmp_path / 'nowhere' / 'f'}'")):
        atomic_write_text(tmp_path / "nowhere" / "f", "")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["f"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_no_file_takes_the_place_of_a_device_or_a_pipe(tmp_path):
    """Renaming over /dev/full would remove it for everybody, where root does it."""
    os.mkfifo(tmp_path / "pipe")
    os.symlink(tmp_path / "pipe", tmp_path / "link")
    for name in ("pipe", "link"):
        with pytest.raises(OSError, match=f"no file, but a device or a pipe: .*{name}"):
            atomic_write_text(tmp_path / name, "text")
    assert (tmp_path / "pipe").is_fifo() and sorted(os.listdir(tmp_path)) == ["link", "pipe"]


def test_the_longest_name_that_a_folder_takes(tmp_path):
    atomic_write_text(tmp_path / ("a" * 251 + ".npz"), "text")
    atomic_write_text(tmp_path / ("ä" * 120 + ".npz"), "text")
    assert len(os.listdir(tmp_path)) == 2


def test_a_reader_never_meets_half_a_file(tmp_path):
    """One thread rewrites 4 MB again and again, another reads, at least twice: every time all of one version."""
    path, size, rounds = tmp_path / "f", 1 << 22, 40
    versions = [bytes([n]) * size for n in range(2)]
    atomic_write(path, lambda file: file.write(versions[0]))
    written, seen = threading.Event(), []

    def read():
        while not written.is_set():
            content = path.read_bytes()
            seen.append(len(content) == size and len(set(content[:: size // 64])) == 1)

    thread = threading.Thread(target=read)
    thread.start()
    for n in itertools.count():
        if (n >= rounds and len(seen) > 1) or not thread.is_alive():
            break
        atomic_write(path, lambda file, n=n: file.write(versions[n % 2]))
    written.set()
    thread.join()
    assert len(seen) > 1 and all(seen)


def test_others_may_read_what_they_may_read_of_any_file(tmp_path):
    (tmp_path / "usual").write_text("")
    atomic_write_text(tmp_path / "ours", "ä")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("usual", "ours")]
    assert modes[0] == modes[1] and (tmp_path / "ours").read_bytes() == "ä".encode()


HOLD = """
import sys, time
from pathlib import Path
from minires.files import locked_folder
with locked_folder(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


def holder(folder):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout.readline() == "locked\n"
    return process


def test_a_locked_folder_says_who_holds_it(tmp_path):
    process = holder(tmp_path)
    try:
        with (
            pytest.raises(FolderInUse, match=f"in use by process {process.pid} on .* since 2"),
            locked_folder(tmp_path),
        ):
            pass
    finally:
        process.communicate()
    with locked_folder(tmp_path), pytest.raises(FolderInUse), locked_folder(tmp_path):  # within one process, too
        pass
    assert os.listdir(tmp_path) == []


def test_a_holder_that_has_not_written_its_name_yet_is_waited_for(tmp_path, monkeypatch):
    """Between the lock and its text lies a moment in which another process may ask."""
    monkeypatch.setattr(files, "NAMED_AFTER", PATIENCE)  # where others use the machine, the writer may come late
    with (tmp_path / LOCK).open("a+b") as file:
        assert files._lock(file)

        def write_late():
            time.sleep(0.3)
            file.write(b"process 7 on a slow machine since 2026")
            file.flush()

        thread = threading.Thread(target=write_late)
        thread.start()
        with pytest.raises(FolderInUse, match="in use by process 7 on a slow machine"), locked_folder(tmp_path):
            pass
        thread.join()


def test_a_holder_that_never_writes_its_name_is_another_process(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "NAMED_AFTER", 0.05)
    with (tmp_path / LOCK).open("a+b") as file:
        assert files._lock(file)
        with pytest.raises(FolderInUse, match="in use by another process"), locked_folder(tmp_path):
            pass


def test_the_lock_of_a_dead_process_is_gone_and_its_unfinished_files_are_removed(tmp_path):
    process = holder(tmp_path)
    process.kill()
    process.communicate()
    (tmp_path / ".weights.npz.abc.tmp").write_bytes(b"half")
    (tmp_path / "mine.tmp").write_bytes(b"not ours")
    assert (tmp_path / LOCK).exists()
    with locked_folder(tmp_path):
        assert sorted(os.listdir(tmp_path)) == [LOCK, "mine.tmp"]


def test_of_many_that_ask_at_once_one_gets_the_folder(tmp_path):
    """Again and again, as holders release it: never two at a time. Each asks until it has had it 25 times."""
    inside, most, done = [], [], []

    def work():
        had = 0
        while had < 25:
            with suppress(FolderInUse), locked_folder(tmp_path):
                inside.append(1)
                most.append(len(inside))
                inside.pop()
                had += 1
        done.append(had)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1 and done == [25] * 4
