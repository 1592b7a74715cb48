"""Student code in a process of its own: what travels, what stays there, and every way in which it can end."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from minires.gradcheck import check_op, process, worker
from minires.gradcheck.runner import CallError, Kept, Limits, Opaque, Seeded, Stopped, Student
from tests.slowness import PATIENCE

FILE = """
import os, sys, time
import numpy as np

def linear_forward(x, w, b=None):
    return x @ w.T + (0 if b is None else b), (x, w)

def linear_backward(dy, cache):
    x, w = cache
    return dy @ w, dy.T @ x, dy.mean(axis=0)

def greedy(x):
    x *= 2
    return x

def late_change(dy, cache):
    cache[0][...] = 0
    return dy

def echo(*args, **options): return args, options
def out_of_range(x): return x[99]
def exits(x): os._exit(3)
def leaves(x): sys.exit("bye")
def loops(x):
    while True: pass
def sleeps(x): time.sleep(60)
def takes_memory(x): return np.zeros(10**11)
def floods(x):
    while True: print("x" * 100000)
def closes_all(x):
    os.closerange(0, 100)
def hangs_up_and_sleeps(x):
    os.closerange(0, 100); time.sleep(60)
def pickled(x): return np.array([print], dtype=object)
def thing(x): return {1, 2}, [object(), 3.5, "text", None, True]
def deep(x):
    y = []
    for _ in range(100): y = [y]
    return y
def draws(rng): return rng.standard_normal(2)
def reads(x): return input()
def forges(x):
    for fd in range(3, 20):
        try: os.write(fd, b"\\xff" * 100000)
        except OSError: pass
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    file = tmp_path_factory.mktemp("student") / "student.py"
    file.write_text(FILE)
    return file


@pytest.fixture
def student(path):
    with Student(path, Limits(call=PATIENCE, total=PATIENCE, printed=1 << 20)) as running:
        yield running


def test_a_check_through_the_process_says_what_a_direct_one_says(student):
    rng = np.random.default_rng(0)
    inputs = (rng.standard_normal((5, 4)), rng.standard_normal((3, 4)), rng.standard_normal(3))
    report = check_op(*student.pair("linear_forward", "linear_backward"), inputs, like="linear")
    assert report.verdict == "fail" and report.fault == "linear:dbias-mean" and student.starts == 1


def test_the_cache_stays_there_and_is_let_go(student):
    x, w = np.ones((2, 3)), np.ones((1, 3))
    for _ in range(5):
        y, cache = student.call("linear_forward", x, w, keep=True)
    assert isinstance(cache, Kept) and np.array_equal(y, [[3.0], [3.0]])
    assert np.array_equal(student.call("linear_backward", np.ones((2, 1)), cache)[1], [[2.0, 2.0, 2.0]])


def test_what_it_writes_into_its_arguments_shows_here(student):
    x = np.ones(3)
    student.call("greedy", x)
    assert np.array_equal(x, [2.0, 2.0, 2.0])
    x = np.ones((2, 3))
    _, cache = student.call("linear_forward", x, np.ones((1, 3)), keep=True)
    student.call("late_change", np.ones(1), cache)
    assert not x.any()


def test_values_travel_as_they_are(student):
    given = (3, 2.5, "text", None, True, (1, [2, {"pad": 1}]), np.float32([1, 2]), np.array(7), float("inf"))
    (args, options) = student.call("echo", *given, stride=(2, 1))
    assert args[:6] == given[:6] and args[8] == float("inf") and options == {"stride": (2, 1)}
    assert args[6].dtype == np.float32 and args[7].shape == ()
    assert np.array_equal(student.call("draws", Seeded(3)), np.random.default_rng(3).standard_normal(2))


def test_objects_do_not_travel(student):
    assert student.call("pickled", 0) == Opaque("an array of object")
    assert student.call("thing", 0) == (Opaque("set"), [Opaque("object"), 3.5, "text", None, True])
    assert "Opaque" in repr(student.call("deep", 0))


def test_an_exception_names_its_line(student):
    with pytest.raises(CallError, match=r"index 99 is out of bounds .* \(line \d+: def out_of_range") as caught:
        student.call("out_of_range", np.ones(3))
    assert (
        type(caught.value).__name__ == "IndexError"
        and caught.value.line == FILE.splitlines().index("def out_of_range(x): return x[99]") + 1
    )


@pytest.mark.parametrize(
    ("function", "told"),
    [
        ("exits", "ended with code 3"),
        ("loops", "more than 1 s and was stopped"),
        ("sleeps", "more than 1 s and was stopped"),
        ("floods", "printed more than 1 MB"),
        ("closes_all", "channel|ended"),
        ("hangs_up_and_sleeps", "closed the channel"),
        ("forges", "no result|channel"),
    ],
)
def test_a_call_that_ends_the_process_is_told_and_the_next_one_runs(student, function, told):
    patient = student.limits
    student.limits = replace(patient, call=1.0)
    with pytest.raises(Stopped, match=told):
        student.call(function, np.ones(3))
    student.limits = patient
    assert np.array_equal(student.call("greedy", np.ones(1)), [2.0]) and student.starts == 2


def test_exceptions_that_would_leave_are_only_exceptions(student):
    for function, kind in (("leaves", "SystemExit"), ("takes_memory", "MemoryError"), ("reads", "EOFError")):
        with pytest.raises(CallError) as caught:
            student.call(function, np.ones(3))
        assert type(caught.value).__name__ == kind
    assert student.starts == 1


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="nothing stops a process here")
def test_a_process_that_does_not_read_cannot_block_us(path):
    """80 MB do not fit into the pipe to it."""
    with Student(path, Limits(call=0.5)) as student:
        os.kill(student._running().popen.pid, signal.SIGSTOP)
        with pytest.raises(Stopped, match=r"more than 0\.5 s"):
            student.call("sleeps", np.ones(10**7))


@pytest.mark.skipif(not shutil.which("ps"), reason="asks ps whether a process runs")
def test_a_loop_that_never_ends_ends_with_its_caller(path):
    """Killed, the caller stops nobody: the process itself has to see that nobody waits for it."""
    caller = f"""
import threading, time
from minires.gradcheck.runner import Student
with Student({str(path)!r}) as student:
    student.call("echo")
    threading.Thread(target=lambda: student.call("loops", 1), daemon=True).start()
    print(student._process.popen.pid, flush=True)
    time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", caller], stdout=subprocess.PIPE, text=True) as process:
        number = process.stdout.readline().strip()
        assert _runs(number)
        process.kill()
    end = time.monotonic() + PATIENCE
    while _runs(number):
        assert time.monotonic() < end, "it outlives its caller"
        time.sleep(0.05)


def _runs(number: str) -> bool:
    """Whether there is such a process, one that only waits to be buried left out."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", number], capture_output=True, text=True).stdout.strip()
    return bool(state) and not state.startswith("Z")


def test_while_the_machine_stands_still_no_time_passes(monkeypatch):
    times = iter([0, 0.05, 0.1, 60, 60.05])
    monkeypatch.setattr(process.time, "perf_counter", lambda: next(times))
    clock = process._Clock()
    assert [clock.now() for _ in range(4)] == pytest.approx([0.05, 0.1, 0.1 + process.GAP, 0.15 + process.GAP])


def test_all_calls_together_have_a_limit(path):
    with Student(path, Limits(call=0.4, total=0.9)) as student:
        for _ in range(4):
            with pytest.raises(Stopped) as caught:
                student.call("loops", 0)
        assert "used up" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("def f(:\n", "SyntaxError"),
        ("raise ValueError('no')\n", "ValueError"),
        ("import sys; sys.exit(1)\n", "SystemExit"),
        (b"x = 'caf\xe9'\n", "SyntaxError"),
        ("import no_such_module\n", "ModuleNotFoundError"),
    ],
)
def test_a_file_that_does_not_load(tmp_path, text, told):
    file = tmp_path / "numpy.py"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with Student(file) as student, pytest.raises(CallError) as caught:
        _ = student.functions
    assert type(caught.value).__name__ == told


def test_a_missing_file():
    with pytest.raises(FileNotFoundError):
        Student("no/such/file.py")


def _npy(shape: str, size: int = 16) -> bytes:
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + b"\0" * size


def test_an_array_is_held_against_its_bytes_before_memory_is_taken():
    assert worker.read_array(_npy("(2,)")).shape == (2,)
    for shape in ("(10**13,)", "(1000000000000,)", "(-2,)", "(2.0,)", "(3,)"):
        with pytest.raises((worker.ProtocolError, ValueError)):
            worker.read_array(_npy(shape))


@pytest.mark.parametrize(
    "header", ["[" * 100000, "{}", '{"lengths": [-1]}', '{"lengths": [1e9]}', "nonsense", "[1, 2]"]
)
def test_unlawful_messages(header):
    text = header.encode()
    with pytest.raises(worker.ProtocolError):
        worker.read_message(io.BytesIO(struct.pack("<I", len(text)) + text), 1 << 20)


def test_an_answer_too_long_is_not_read():
    text = json.dumps({"lengths": [1 << 40]}).encode()
    with pytest.raises(worker.ProtocolError):
        worker.read_message(io.BytesIO(struct.pack("<I", len(text)) + text), 1 << 20)


def test_imports_nothing_that_windows_or_a_browser_lacks():
    code = (
        "import sys\n"
        "for name in ('resource', 'fcntl', 'pwd', 'grp'): sys.modules[name] = None\n"
        "import minires.gradcheck.runner, minires.gradcheck.worker, minires.gradcheck.file_check\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
