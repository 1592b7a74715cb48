"""Workers in processes of their own, turns, and the numbers that come of them."""

from __future__ import annotations

import math
import os
import signal
from dataclasses import asdict

import numpy as np
import pytest

from minires.bench import measure
from minires.bench.cases import Case, all_cases, is_headline
from minires.bench.measure import Effort, EngineFailed, Result, open_worker

LAYER = Case("layers", 2, channels=4, size=8)


def test_cases_are_batches_of_the_first_network_then_depths_then_layers():
    names = [str(case) for case in all_cases((20, 56), (32, 120), ("train", "layers"))]
    assert names[:3] == [
        "resnet20 training step, batch 32",
        "resnet20 training step, batch 120",
        "resnet56 training step, batch 120",
    ]
    assert names[3:] == [f"3x3 layer {shape}, batch 120" for shape in ("16x32x32", "32x16x16", "64x8x8")]


def test_slow_engines_are_asked_for_one_network_and_the_layers():
    cases = all_cases((20, 56), (32, 128, 512), ("train", "infer", "layers"))
    asked = [str(case) for case in cases if is_headline(case, cases)]
    assert asked[0] == "resnet20 training step, batch 128"
    assert [name.partition(" ")[0] for name in asked[1:]] == ["3x3"] * 3


def test_ratio_is_taken_turn_by_turn():
    """Both engines slow down together in the last turns: the paired ratio is 2 throughout, and so are its quartiles."""
    result = Result(LAYER, {"a": [2.0, 4.0, 20.0, 40.0], "b": [1.0, 2.0, 10.0]})
    assert result.ratio("a", "b") == (2.0, 2.0, 2.0)
    assert result.median("b") == 2.0
    assert all(math.isnan(value) for value in (*result.ratio("a", "c"), result.median("c")))


def test_a_worker_times_weighs_and_ends():
    with open_worker("minires", "cpu", 2) as worker:
        assert worker.facts["NumPy"] == np.__version__
        assert worker.ask("prepare", case=asdict(LAYER))["seconds"] > 0
        assert worker.ask("run", case=asdict(LAYER), calls=2)["seconds"] > 0
        size = worker.ask("memory", case=asdict(LAYER))["bytes"]
        assert size is None or size >= 0
    assert worker.process.poll() is not None


def test_peak_memory_sees_what_is_held_for_a_moment(monkeypatch):
    from minires.bench import worker

    class Hungry:
        def prepare(self, case):
            return lambda: np.ones(2**25)  # 256 MB

        def seconds(self, step, calls):
            step()

        def device_bytes(self):
            return None

    own = worker._Worker()
    own.engine = Hungry()
    found = own.memory(asdict(LAYER))["bytes"]
    if not os.path.exists("/proc/self/clear_refs"):
        pytest.skip("no /proc/self/clear_refs: peaks are those of the whole process here")
    assert 0.9 * 2**28 < found < 1.5 * 2**28


def test_failures_name_the_reason():
    with open_worker("minires", "cpu", 1) as worker:
        with pytest.raises(EngineFailed, match="depth is 7"):
            worker.ask("prepare", case=asdict(Case("train", 2, depth=7)))
        os.kill(worker.process.pid, signal.SIGKILL)
        with pytest.raises(EngineFailed, match="ended with exit code"):
            worker.ask("run", calls=1)


class _Stub:
    """A worker that takes `seconds` for everything, or fails when asked for `fails`."""

    def __init__(self, seconds, fails=None):
        self.seconds, self.fails, self.asked = seconds, fails, []

    def ask(self, what, **details):
        self.asked.append(what)
        if what == self.fails:
            raise EngineFailed("out of memory")
        return {"seconds": self.seconds * details.get("calls", 1)}


def test_engines_take_turns_slow_ones_fewer_and_one_that_fails_is_left_out(monkeypatch):
    monkeypatch.setattr(measure, "TURN", 0.1)
    order, notes = [], []
    stubs = {
        "minires": _Stub(0.5),
        "torch": _Stub(0.04),
        "torch-channels-last": _Stub(0.5, "prepare"),
        "dezero": _Stub(0.5),
        "numpy-ml": _Stub(1, "run"),
    }
    for name, stub in stubs.items():
        stub.ask = lambda what, name=name, ask=stub.ask, **d: order.append((name, what)) or ask(what, **d)
    course = measure._Course(LAYER, stubs, Effort(rounds=3, slow=2), notes)
    for turn in range(3):
        course.take(turn)
    runs = [name for name, what in order if what == "run"]
    assert runs == ["minires", "torch", "dezero", "numpy-ml", "minires", "torch", "dezero", "minires", "torch"]
    assert course.result.seconds == {"minires": [0.5] * 3, "torch": pytest.approx([0.04] * 3), "dezero": [0.5] * 2}
    assert notes == [
        "PyTorch channels_last, 3x3 layer 4x8x8, batch 2: out of memory",
        "numpy-ml, 3x3 layer 4x8x8, batch 2: out of memory",
    ]


def test_a_round_goes_through_all_cases(monkeypatch):
    told, cases = [], [Case("layers", 2, channels=4, size=8), Case("infer", 2, depth=8)]
    monkeypatch.setattr(measure, "TURN", 0.001)
    monkeypatch.setattr(measure, "engines_for", lambda device: ["minires"])
    run = measure.measure(cases, device="cpu", threads=1, effort=Effort(2), report=lambda *what: told.append(what))
    assert [what.split(":")[0] for what, _, _ in told[2:]] == ["round 1 of 2"] * 2 + ["round 2 of 2"] * 2
    assert [done for _, done, _ in told] == list(range(6)) and {of for _, _, of in told} == {6}
    assert [len(result.seconds["minires"]) for result in run.results] == [2, 2]


def test_without_minires_there_is_nothing_to_compare():
    with pytest.raises(EngineFailed, match=r"minires, 3x3 layer .*out of memory"):
        measure._Course(LAYER, {"minires": _Stub(1, "run")}, Effort(), []).take(0)
