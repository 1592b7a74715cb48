# ruff: noqa: E501
"""Submissions that attack the grader: python -m pytest -q tests/course/hostile.py

Each ends with a report, the right points for the parts it leaves alone, in bounded time, with no file outside its folder
touched and no process left. Everything runs on both upper rungs of the isolation; a rung that this machine does not
have is skipped, with the reason.
"""

from __future__ import annotations

import dataclasses
import json
import os
import stat
import time
import zipfile
from pathlib import Path

import pytest

from minires.course import grade, isolation, load
from minires.course.building import solution_text, stub_text
from tests.slowness import PATIENCE

ASSIGNMENT = dataclasses.replace(load("linear_softmax"), call_seconds=2.0, total_seconds=120.0)
GOOD = solution_text(ASSIGNMENT)
REST = 6.0
"""Points of softmax cross-entropy, which the attacks on the linear layer leave alone."""

MARK = Path("/tmp/minires-hostile-mark")
"""Must never appear on the grader's side."""

IN_A_CALL = {
    "infinite loop": "while True: pass",
    "sleeps": "import time; time.sleep(1000)",
    "array of 100 GB": "return np.ones(10**10, float), 0",
    "list without end": "a = [0]\n    while True: a = a + a",
    "string without end": "s = 'x'\n    while True: s += s",
    "fork bomb": "import os\n    while True: os.fork()",
    "threads without end": "import threading, time\n    while True: threading.Thread(target=time.sleep, args=(99,)).start()",
    "os._exit(0)": "import os; os._exit(0)",
    "os.abort()": "import os; os.abort()",
    "sys.exit": "import sys; sys.exit(0)",
    "closes stdout": "import os, sys; sys.stdout.close(); os.close(1)",
    "closes everything": "import os; os.closerange(0, 1000)",
    "gigabytes of output": "while True: print('x' * 1000000)",
    "writes to stdout's file": "import os\n    while True: os.write(1, b'{\"points\": 100}' * 1000)",
    "forges answers": "import os\n    for fd in range(3, 50):\n        try: os.write(fd, b'\\xff' * 100000)\n"
    "        except OSError: pass",
    "forges an honest looking answer": "import os, json, struct\n    t = json.dumps({'value': 1.0, 'changed': {}, 'lengths': []}).encode()\n"
    "    for fd in range(3, 50):\n        try: os.write(fd, (struct.pack('<I', len(t)) + t) * 50)\n        except OSError: pass\n    return x, 0",
    "recursion": "return linear_forward(x, weight, bias)",
    "segmentation fault": "import ctypes; ctypes.string_at(0)",
    "kills its parent": "import os\n    os.kill(os.getppid(), 9); return x, 0",
    "kills everybody": "import os, signal\n    os.kill(-1, 9)",
    "ignores signals": "import signal\n    for s in (2, 15): signal.signal(s, signal.SIG_IGN)\n    while True: pass",
    "leaves threads running": "import threading\n    def spin():\n        while True: pass\n"
    "    threading.Thread(target=spin, daemon=True).start()\n    return x @ x.T, 0",
    "leaves a detached process": "import os, time\n    if os.fork() == 0:\n        os.setsid()\n        if os.fork() == 0: time.sleep(300)\n"
    "        os._exit(0)\n    return x, 0",
    "a file of 1 GB": "open('/tmp/big', 'wb').write(b'x' * 10**9)",
    "many files": "for i in range(10**6): open(f'/tmp/{i}', 'wb').write(b'x' * 10**6)",
    "writes outside": f"open('{MARK}', 'w').write('x'); return x, 0",
    "a fake report": "import json\n    for name in ('results.json', '/autograder/results/results.json', 'report.html'):\n"
    "        try: json.dump({'score': 100}, open(name, 'w'))\n        except OSError: pass\n    return x, 0",
    "overwrites minires": "import minires.ops.linear as m\n    open(m.__file__, 'w').write('')",
    "patched numpy": "import numpy\n    numpy.allclose = numpy.array_equal = lambda *a, **k: True\n"
    "    numpy.ndarray.__eq__ = None",
    "patched numpy's writer": "np.lib.format.write_array = lambda *a, **k: None\n    return x, 0",
    "patched minires": "import minires.ops\n    minires.ops.linear_forward = lambda *a: 1\n    return x, 0",
    "patched json": "import json\n    json.dumps = lambda *a: '{}'\n    return x, 0",
    "a pickle bomb": "class Evil:\n        def __reduce__(self): import os; return os.system, ('touch "
    + str(MARK)
    + "',)\n"
    "    return np.array([Evil()], dtype=object), Evil()",
    "equals everything": "class Same(np.ndarray):\n        def __eq__(self, other): return True\n"
    "        def __sub__(self, other): return 0 * self\n    return np.zeros((len(x), len(weight))).view(Same), 0",
    "a huge array that takes no memory": "return np.broadcast_to(0.0, (10**10,)), 0",
    "NaN everywhere": "return np.full((len(x), len(weight)), np.nan), 0",
    "complex numbers": "return (x @ weight.T) * (1 + 1j), 0",
    "an evil exception": "class E(Exception):\n        def __str__(self): raise E()\n    raise E()",
    "an exception of a megabyte": "raise ValueError('x' * 10**7)",
    "half a character and a terminal's escapes": "raise ValueError('\\ud800 \\x1b[2J')",
    "a base exception": "class E(BaseException): pass\n    raise E()",
    "reads secrets": "return np.frombuffer(open('/etc/shadow', 'rb').read(64), np.uint8) * 1.0, 0",
    "the network": "import socket; socket.create_connection(('127.0.0.1', 22), 1); return x, 0",
    "traces processes": "import ctypes, os\n    if ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0) == 0: os._exit(9)\n    return x, 0",
    "raises its own limits": "import resource\n    resource.setrlimit(resource.RLIMIT_AS, (-1, -1)); return np.ones(10**9), 0",
    "a generator": "yield x",
    "nested without end": "y = []\n    for _ in range(10**5): y = [y]\n    return y, 0",
    "a dict of everything": "return {i: x for i in range(10**5)}, 0",
    "recursion without a limit": "import sys\n    sys.setrecursionlimit(10**9); return linear_forward(x, weight, bias)",
    "stops itself": "import os, signal\n    os.kill(os.getpid(), signal.SIGSTOP)",
    "an alarm for later": "import signal\n    signal.setitimer(signal.ITIMER_REAL, 0.2); return x, 0",
    "will not exit": "import atexit, sys\n    atexit.register(lambda: [0 for _ in iter(int, 1)]); sys.exit(0)",
    "a thread that must be waited for": "import threading, time\n    threading.Thread(target=time.sleep, args=(999,)).start(); return x, 0",
    "traces every line": "import sys\n    sys.settrace(lambda *a: [0 for _ in iter(int, 1)]); return linear_backward(x, 0), 0",
    "pipes without end": "import os\n    a = [os.pipe() for _ in range(10**6)]",
    "pairs of sockets, filled": "import socket\n    a = []\n    while True:\n        one, two = socket.socketpair()\n"
    "        one.setblocking(False); a += [one, two]; one.send(b'x' * 10**7)",
    "watches every file": "import ctypes, os\n    c = ctypes.CDLL(None); fd = c.inotify_init()\n    while True:\n"
    "        for place, _, _ in os.walk('/'): c.inotify_add_watch(fd, place.encode(), 0xfff)",
    "shared memory": "import os\n    for i in range(10**4):\n        with open(f'/dev/shm/{i}', 'wb') as f: f.write(b'x' * 10**7)",
    "memory that nobody counts": "import mmap\n    a = [mmap.mmap(-1, 10**8) for _ in range(10**4)]",
    "a header without end": "import io\n    np.lib.format.write_array = lambda f, a, **k: f.write(b'\\x93NUMPY\\x01\\x00\\xff\\xff' + b'(' * 70000)\n    return x, 0",
    "a shape of terabytes": "import struct\n    def forged(f, a, **k):\n        h = b\"{'descr': '<f8', 'fortran_order': False, 'shape': (999999, 999999, 9)}\"\n"
    "        f.write(b'\\x93NUMPY\\x01\\x00' + struct.pack('<H', len(h)) + h)\n    np.lib.format.write_array = forged\n    return x, 0",
    "objects in the header": "import struct\n    def forged(f, a, **k):\n        h = b\"{'descr': '|O', 'fortran_order': False, 'shape': (1,)}\"\n"
    "        f.write(b'\\x93NUMPY\\x01\\x00' + struct.pack('<H', len(h)) + h + b'x' * 8)\n    np.lib.format.write_array = forged\n    return x, 0",
    "records": "return np.zeros((len(x), len(weight)), [('a', float), ('b', object)]), 0",
    "a view of the inputs": "return np.lib.stride_tricks.as_strided(x, (len(x), len(weight)), (0, 0)), 0",
    "a view of what is not there": "return np.lib.stride_tricks.as_strided(x, (10**4, 10**3), (10**6, 8)), 0",
    "a shape that changes": "import threading\n    y = np.zeros((len(x), len(weight)))\n    def spin():\n        while True: y.resize((len(weight), len(x)), refcheck=False); y.resize((7,), refcheck=False)\n"
    "    threading.Thread(target=spin, daemon=True).start()\n    return y, 0",
    "lies about its shape": "class L(np.ndarray): shape = property(lambda s: (10**9,)); size = 3; dtype = float\n    return np.zeros(3).view(L), 0",
    "empties all that is alive": "import gc\n    for o in gc.get_objects():\n        if type(o) in (dict, list): o.clear()",
    "empties its callers": "import sys\n    f = sys._getframe(1)\n    while f:\n        for v in f.f_locals.values(): v.clear() if type(v) in (dict, list) else 0\n        f = f.f_back\n    return x, 0",
    "patched builtins": "import builtins\n    builtins.isinstance = builtins.len = lambda *a: 1\n    return x, 0",
    "signals to everybody by number": "import os\n    for p in range(2, 2**16):\n        if p != os.getpid():\n            try: os.kill(p, 9)\n            except OSError: pass\n    return x, 0",
    "writes into what is open": "import glob\n    for f in glob.glob('/proc/[0-9]*/fd/*') + glob.glob('/proc/[0-9]*/mem'):\n"
    "        try: open(f, 'wb').write(b'x' * 1000)\n        except (OSError, ValueError): pass\n    return x, 0",
    "leaves all the processes that it may have": "import os, time\n    for _ in range(9):\n        try: child = os.fork()\n        except OSError: break\n"
    "        if child == 0: os.setsid(); time.sleep(300)\n    while True: pass",
}

AT_IMPORT = {
    "syntax error": "def f(:\n",
    "infinite loop": "while True: pass\n",
    "os._exit": "import os; os._exit(0)\n",
    "sys.exit": "import sys; sys.exit(0)\n",
    "raises": "raise RuntimeError('no')\n",
    "a thousand brackets": "x = " + "(" * 5000 + ")" * 5000 + "\n",
    "memory": "x = 'x' * 10**11\n",
    "fork bomb": "import os\nwhile True: os.fork()\n",
    "closes all": "import os; os.closerange(0, 1000)\n",
    "a missing module": "import torch_of_another_world\n",
    "the graded module": "from minires.gradcheck import CATALOGUE\n",
    "output": "while True: print('x' * 10**6)\n",
}


@pytest.fixture(params=["bubblewrap", "user"])
def rung(request):
    if request.param not in isolation.available():
        pytest.skip(f"isolation {request.param!r} does not work on this machine")
    return request.param


def _grade(path: Path, rung: str):
    MARK.unlink(missing_ok=True)
    begun = time.perf_counter()
    report = grade(ASSIGNMENT, path, rung=rung, slot=7)
    assert time.perf_counter() - begun < PATIENCE, "the limits did not hold"
    assert report.rung == rung and len(report.parts) == 4 and report.points == 12
    assert not MARK.exists(), "a file of the grader's side was touched"
    while left := _left(isolation.uid_of(7)):  # a killed process takes a moment to be gone
        assert time.perf_counter() - begun < PATIENCE, f"left: {left}"
        time.sleep(0.1)
    return report


def _left(uid: int) -> list[str]:
    """Processes of a user."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = (folder / "status").read_text()
        except OSError:
            continue
        if f"\nUid:\t{uid}\t" in status and "\nState:\tZ" not in status:
            found.append(status.partition("\n")[0])
    return found


@pytest.mark.parametrize("name", IN_A_CALL)
def test_attacks_from_within_a_call(tmp_path, rung, name):
    file = tmp_path / "linear_softmax.py"
    body = IN_A_CALL[name]
    file.write_text(f"{GOOD}\n\ndef linear_forward(x, weight, bias=None):\n    {body}\n")
    report = _grade(file, rung)
    earned = {p.name: p.earned for p in report.parts}
    if name.startswith("patched numpy") or name == "patched json":
        return  # whoever breaks NumPy for his own process breaks his own other parts
    assert earned["softmax_cross_entropy_forward"] + earned["softmax_cross_entropy_backward"] == REST, report.problem
    assert earned["linear_forward"] == 0
    assert all(c.told for c in report.parts[0].checks)


@pytest.mark.parametrize("name", AT_IMPORT)
def test_attacks_at_import(tmp_path, rung, name):
    file = tmp_path / "linear_softmax.py"
    file.write_text(GOOD + "\n" + AT_IMPORT[name])
    report = _grade(file, rung)
    assert report.earned == 0 and report.problem and "cannot be loaded" in report.problem


def _in_folder(tmp_path: Path, **files: str | bytes) -> Path:
    folder = tmp_path / "submission"
    folder.mkdir()
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def _zip(tmp_path: Path, entries: dict[str, bytes]) -> Path:
    path = tmp_path / "submission.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def test_a_link_to_the_solution(tmp_path, rung):
    target = tmp_path / "elsewhere.py"
    target.write_text(GOOD)
    link = tmp_path / "linear_softmax.py"
    link.symlink_to(target)
    report = _grade(link, rung)
    assert report.earned == 0 and "symbolic link" in report.problem


def test_links_in_a_folder(tmp_path, rung):
    folder = _in_folder(tmp_path)
    (folder / "linear_softmax.py").symlink_to("/etc/passwd")
    (folder / "loop").symlink_to(folder)
    report = _grade(folder, rung)
    assert report.earned == 0 and "link" in report.problem


def test_a_pipe_in_the_place_of_the_file(tmp_path, rung):
    folder = _in_folder(tmp_path)
    os.mkfifo(folder / "linear_softmax.py")
    assert "no ordinary file" in _grade(folder, rung).problem


def test_a_zip_bomb(tmp_path, rung):
    report = _grade(_zip(tmp_path, {"linear_softmax.py": b"0" * (1 << 30)}), rung)
    assert report.earned == 0 and "bytes" in report.problem


def test_a_zip_that_lies_about_its_size(tmp_path, rung):
    path = _zip(tmp_path, {"linear_softmax.py": b"#" * (5 << 20)})
    data = path.read_bytes()
    path.write_bytes(data.replace((5 << 20).to_bytes(4, "little"), (100).to_bytes(4, "little")))
    assert _grade(path, rung).earned == 0


def test_a_zip_with_paths_that_lead_out(tmp_path, rung):
    report = _grade(
        _zip(tmp_path, {"../../../tmp/minires-hostile-mark": b"x", "a/b/linear_softmax.py": GOOD.encode()}), rung
    )
    assert report.earned == 12


def test_a_zip_with_a_link(tmp_path, rung):
    path = tmp_path / "submission.zip"
    with zipfile.ZipFile(path, "w") as archive:
        entry = zipfile.ZipInfo("linear_softmax.py")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(entry, "/etc/passwd")
    assert "symbolic link" in _grade(path, rung).problem


def test_a_damaged_zip(tmp_path, rung):
    path = _zip(tmp_path, {"linear_softmax.py": GOOD.encode()})
    path.write_bytes(path.read_bytes()[:-30])
    assert _grade(path, rung).earned == 0


@pytest.mark.parametrize("content", [b"x = '\xe9\xff'\n", b"\0\0\0", b"", "# \ud800".encode("utf-8", "surrogatepass")])
def test_bytes_that_are_no_text(tmp_path, rung, content):
    report = _grade(_in_folder(tmp_path, linear_softmax__py=content), rung)
    assert report.earned == 0


def test_utf16_and_a_byte_order_mark_are_read(tmp_path, rung):
    assert _grade(_in_folder(tmp_path, linear_softmax__py=GOOD.encode("utf-16")), rung).earned == 12
    (tmp_path / "b").mkdir()
    assert _grade(_in_folder(tmp_path / "b", linear_softmax__py=GOOD.encode("utf-8-sig")), rung).earned == 12


def test_a_file_of_many_megabytes(tmp_path, rung):
    assert "bytes" in _grade(_in_folder(tmp_path, linear_softmax__py=b"#" * (9 << 20)), rung).problem


def _notebook(cells: list[str]) -> bytes:
    told = [{"cell_type": "code", "source": cell, "metadata": {}, "outputs": []} for cell in cells]
    return json.dumps({"cells": told, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}).encode()


def test_a_notebook_with_cells_deleted_doubled_and_broken(tmp_path, rung):
    head, *functions = GOOD.split("\n\n\ndef ")
    cells = [head, *(f"def {f}" for f in functions)]
    kept = [c for c in cells if not c.startswith("def linear_backward")]
    stub = "def linear_forward(x, weight, bias=None):\n    raise NotImplementedError('yours to write')"
    notebook = _notebook(["%matplotlib inline\n!rm -rf x", *kept, stub, "def broken(:", "while True: pass"])
    report = _grade(_in_folder(tmp_path, linear_softmax__ipynb=notebook), rung)
    earned = {p.name: p.earned for p in report.parts}
    assert earned["linear_backward"] == 0 and earned["linear_forward"] == 2 and report.earned == 8
    assert any("left out" in note for note in report.notes)


def test_a_damaged_notebook(tmp_path, rung):
    assert "damaged" in _grade(_in_folder(tmp_path, linear_softmax__ipynb=b'{"cells": [{'), rung).problem


def test_an_empty_folder_and_the_bare_stub(tmp_path, rung):
    assert "no linear_softmax.py" in _grade(_in_folder(tmp_path), rung).problem
    (tmp_path / "b").mkdir()
    assert _grade(_in_folder(tmp_path / "b", linear_softmax__py=stub_text(ASSIGNMENT)), rung).earned == 0


def test_the_right_solution_gets_all_points(tmp_path, rung):
    assert _grade(_in_folder(tmp_path, linear_softmax__py=GOOD), rung).earned == 12


def test_the_environment_of_the_grader_is_not_seen(tmp_path, rung, monkeypatch):
    monkeypatch.setenv("GRADER_TOKEN", "a secret")
    spy = "import os\nassert 'GRADER_TOKEN' not in os.environ, 'seen'\n"
    try:
        parent = "open(f'/proc/{os.getppid()}/environ', 'rb').read()"
        spy += (
            f"try:\n    assert b'a secret' not in {parent}, 'seen'\nexcept (FileNotFoundError, PermissionError): pass\n"
        )
    finally:
        report = _grade(
            _in_folder(tmp_path, linear_softmax__py=spy + GOOD.replace("from __future__ import annotations", "")), rung
        )
    assert report.earned == 12, report.problem
