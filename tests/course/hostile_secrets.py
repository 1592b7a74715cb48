# ruff: noqa: E501
"""Submissions that look for the solution, carry hidden inputs out, or bend what they are held against:
python -m pytest -q tests/course/hostile_secrets.py

Like `hostile.py`, on both upper rungs of the isolation.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import minires
from minires.course import grade, isolation
from minires.course.wheel import wheel, wheel_name
from tests.course.hostile import ASSIGNMENT, GOOD, REST, _grade, _in_folder, _notebook, rung  # noqa: F401 - a fixture

FINDER = """
def linear_forward(x, weight, bias=None):
    import os, sys
    for top in ["/course", PREFIX]:
        for place, _, files in os.walk(top):
            wheels = [os.path.join(place, f) for f in files if f.startswith("minires") and f.endswith((".whl", ".zip"))]
            parents = [os.path.dirname(os.path.dirname(place))] if place.endswith("minires/ops") else []
            for found in wheels + parents:
                for name in [n for n in sys.modules if n.startswith("minires")]:
                    del sys.modules[name]
                sys.path.insert(0, found)
                try:
                    import minires.ops
                    return minires.ops.linear_forward(x, weight, bias)
                except (NotImplementedError, OSError, ImportError, AttributeError):
                    sys.path.remove(found)
    raise LookupError("nothing found")
"""


@pytest.fixture(params=["installed", "a wheel"])
def engine_nearby(request, tmp_path, monkeypatch):
    """minires among the packages that the interpreter reads, as where a platform has installed it."""
    prefix = tmp_path / "prefix"
    packages = prefix / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    packages.mkdir(parents=True)
    if request.param == "installed":
        shutil.copytree(Path(minires.__file__).parent, packages / "minires")
    else:
        (packages / wheel_name()).write_bytes(wheel())
    before = isolation._interpreter()
    monkeypatch.setattr(isolation, "_interpreter", lambda: (*before, str(prefix)))
    monkeypatch.setattr(isolation, "engines", isolation.engines.__wrapped__)
    return GOOD + FINDER.replace("PREFIX", repr(str(prefix)))


def test_the_engine_is_not_found(tmp_path, rung, engine_nearby):  # noqa: F811
    """Who searches is told where to look, so that the search ends in time."""
    report = _grade(_in_folder(tmp_path, linear_softmax__py=engine_nearby), rung)
    assert "nothing found" in report.parts[0].checks[0].told
    assert report.parts[0].earned == 0 and report.parts[2].earned + report.parts[3].earned == REST


def test_it_would_be_found(tmp_path, rung, engine_nearby, monkeypatch):  # noqa: F811
    """The test above can fail."""
    monkeypatch.setattr(isolation, "engines", lambda: ())
    assert _grade(_in_folder(tmp_path, linear_softmax__py=engine_nearby), rung).parts[0].earned == 2


SEEN = "'k' + str(314158 + 1)"
CARRIERS = {
    "the name of an exception": f"raise type({SEEN}, (Exception,), {{}})()",
    "the text of an exception": f"raise ValueError({SEEN})",
    "the name of a class": f"return type({SEEN}, (), {{}})(), 0",
    "the field of a record": f"return np.zeros(3, [({SEEN}, float)]), 0",
    "a shape": "return np.empty((0, 314158 + 1)), 0",
    "the number of wrong entries": "y = x @ weight.T + (0 if bias is None else bias)\n    y.flat[:3] += 1\n    return y, 0",
    "the number of values": "return (x,) * (313 + 1)",
    "a line of the file that is none": "import __main__\n    __main__.told = lambda *a: {'kind': 'ValueError', 'text': '', 'line': 1, "
    f"'source': {SEEN}}}\n    raise ValueError",
    "an answer that cannot be read": f"import __main__\n    __main__.encode = lambda *a: {{{SEEN}: {SEEN}}}\n    return x, 0",
    "a cache of another kind": f"import __main__\n    __main__.encode = lambda *a: {{'object': {SEEN}}}\n    return x, 0",
}
"""Ways to write what was seen into what is told; 314159 stands for it, 314 or 3 where it is a number of things."""


@pytest.mark.parametrize("level", ["where", "fault"])
@pytest.mark.parametrize("way", CARRIERS)
def test_nothing_is_carried_out(tmp_path, rung, way, level):  # noqa: F811
    text = f"{GOOD}\n\ndef linear_forward(x, weight, bias=None):\n    {CARRIERS[way]}\n"
    report = grade(ASSIGNMENT, _in_folder(tmp_path, linear_softmax__py=text), rung=rung, slot=7, level=level)
    hidden = [c for part in report.parts for c in part.checks if c.hidden and c.told]
    assert hidden and report.parts[0].earned == 0
    assert not any(mark in c.told + c.example for c in hidden for mark in ("314159", "314 ", "3 of "))


def test_labels_that_are_changed(tmp_path, rung):  # noqa: F811
    """Otherwise the reference would be asked about the labels that the submission likes better."""
    text = GOOD.replace(
        "def softmax_cross_entropy_forward(logits: Array, labels: Array)",
        "def softmax_cross_entropy_forward(logits, labels):\n    labels[:] = 0\n    return _right(logits, labels)\n\n\n"
        "def _right(logits: Array, labels: Array)",
    )
    assert text != GOOD
    part = _grade(_in_folder(tmp_path, linear_softmax__py=text), rung).parts[2]
    assert part.earned == 0 and all("in place" in c.told for c in part.checks)


def test_a_bomb_that_waits_for_the_hidden_checks(tmp_path, rung):  # noqa: F811
    bomb = "\n\nright, calls = linear_forward, []\n\ndef linear_forward(x, weight, bias=None):\n    calls.append(1)\n"
    bomb += "    while len(calls) > 3: pass\n    return right(x, weight, bias)\n"
    report = _grade(_in_folder(tmp_path, linear_softmax__py=GOOD + bomb), rung)
    first = report.parts[0]
    assert all(c.earned == c.points for c in first.checks[:3]) and 0 < first.earned < 2
    assert report.parts[2].earned + report.parts[3].earned == REST


@pytest.mark.parametrize(
    "bomb", ["x = " + "-" * 100_000 + "1", "x = 1" + "+1" * 100_000, "x = (" + "1," * 900_000 + ")"]
)
def test_a_cell_that_the_grader_cannot_take_apart(tmp_path, rung, bomb):  # noqa: F811
    report = _grade(_in_folder(tmp_path, linear_softmax__ipynb=_notebook([GOOD, bomb])), rung)
    assert report.earned == 12 and any("code cell 2" in note and "left out" in note for note in report.notes)


def test_without_root_there_is_no_other_place_to_write(tmp_path, monkeypatch):
    """Memory is taken by every file in a sandbox: only /tmp, which is limited, takes any."""
    python, runs = "/usr/bin/python3", shutil.which("setpriv")
    if os.geteuid() != 0 or "bubblewrap" not in isolation.available() or not runs or not Path(python).exists():
        pytest.skip("needs root, bubblewrap, setpriv and a Python that everybody can read")
    with isolation.staged() as stage:
        monkeypatch.setattr(os, "geteuid", lambda: 65534)
        monkeypatch.setattr(sys, "executable", python)
        monkeypatch.setattr(isolation, "_interpreter", lambda: ())
        program = "for d in ('/', '/dev', '/dev/shm', '/course', '/tmp'):\n try: open(d + '/x', 'w'); print(d)\n except OSError: pass"
        command = isolation.Bubblewrap(stage).wrap([python, "-c", program])
    other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *command]
    with isolation.staged() as stage:
        command = [part.replace(command[command.index(isolation.STAGE) - 1], str(stage)) for part in other]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["/tmp"], done.stderr


def test_what_is_printed_stays_with_the_instructor(tmp_path, rung):  # noqa: F811
    from minires.course.pages import student_page
    from minires.course.platforms.classroom50 import result
    from minires.course.platforms.gradescope import results

    text = f"{GOOD}\n\ndef linear_forward(x, weight, bias=None):\n    print({SEEN}); return x, 0\n"
    report = _grade(_in_folder(tmp_path, linear_softmax__py=text), rung)
    assert "k314159" in report.printed
    told = student_page(report) + json.dumps(results(report)) + json.dumps(result(report, {}))
    assert "k314159" not in told and dataclasses.asdict(report)["printed"]
