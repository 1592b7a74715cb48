"""The script for a card: an engine that hangs or breaks costs its own figures and no others."""

import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from minires.bench.engines import ENGINES
from minires.bench.measure import EngineFailed
from tests.device import on_gpu
from tests.slowness import PATIENCE

CASES = on_gpu.all_cases(on_gpu.BATCHES["cpu"])


class Worker:
    """Answers at once, but for one request: that one hangs, breaks the channel, or is refused."""

    def __init__(self, at, how):
        self.at, self.how, self.facts = at, how, {}
        if at == "start":
            self.ask("start")

    def ask(self, what, **details):
        if what == self.at:
            if self.how == "hangs":
                subprocess.run([sys.executable, "-c", f"import time; time.sleep({2 * PATIENCE})"])
            raise EngineFailed("no") if self.how == "refuses" else ValueError("no JSON")
        return {"first": 0.1, "seconds": 0.1, "bytes": 1}


@pytest.mark.parametrize("how", ["hangs", "refuses", "breaks"])
@pytest.mark.parametrize("at", ["start", "prepare", "run", "memory"])
def test_an_engine_that_fails_leaves_the_others_their_turn(monkeypatch, at, how):
    @contextmanager
    def open_worker(engine, *args, **options):
        yield Worker(at if engine == "definition" else None, how)

    monkeypatch.setattr(on_gpu, "open_worker", open_worker)
    monkeypatch.setattr(on_gpu, "TIMES_END", 20.0)  # a fifth of it for the one that hangs
    monkeypatch.setattr(on_gpu, "GRACE", 0.2)
    monkeypatch.setattr(ENGINES["torch"], "module", "math")
    monkeypatch.setattr(ENGINES["torch-channels-last"], "module", "math")
    found = on_gpu.Findings("cpu")
    began = time.monotonic()
    on_gpu.take_times(found)
    assert time.monotonic() - began < PATIENCE
    assert found.failed and any(text.startswith("minires") for text in found.missing)
    for name in ("minires compiled", "PyTorch", "PyTorch channels_last"):
        assert set(found.times[name]) == set(CASES) and name in found.bytes
    assert "minires" in on_gpu.table(found)
