"""An epoch's time is foretold after 20 steps; here with a clock of our own."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from minires import cli
from minires.bench import epoch


@pytest.fixture
def clock(monkeypatch):
    """Steps take `seconds(step)`, by a clock that only they move; no network is trained."""
    now = SimpleNamespace(time=0.0, seconds=lambda step: 0.5)

    def fit(model, data, *, batch_size, report, **settings):
        steps = -(-len(data.x_train) // batch_size)
        for step in range(1, steps + 1):
            whole = step < steps or len(data.x_train) % batch_size == 0
            now.time += now.seconds(step) * (1 if whole else (len(data.x_train) % batch_size) / batch_size)
            report(SimpleNamespace(row=None))
        now.time += 100  # the test after the epoch, which is not part of it
        report(SimpleNamespace(row={}))

    monkeypatch.setattr(epoch, "fit", fit)
    monkeypatch.setattr(epoch.time, "perf_counter", lambda: now.time)
    monkeypatch.setattr(epoch, "BATCH", 4)
    monkeypatch.setenv("MINIRES_NUM_THREADS", "2")  # the command sets it for its process
    return now


def test_even_steps_are_foretold_exactly(clock):
    """The first step, which takes longer, is counted once and not taken for the rule; the last batch is a half one."""
    clock.seconds = lambda step: 5.0 if step == 1 else 0.5
    said = []
    found = epoch.run_epoch(402, device="cpu", seed=0, report=lambda *what: said.append(what))
    assert found.steps == 101
    assert found.measured == pytest.approx(5 + 0.5 * 99.5)
    assert found.expected == pytest.approx(found.measured)
    assert [expected for _, _, expected in said[:19]] == [None] * 19
    assert said[19][2] == found.expected


def test_a_machine_that_slows_down_makes_the_forecast_fail(clock, capsys):
    clock.seconds = lambda step: 0.5 if step <= 20 else 1.0
    assert cli.main(["bench", "--epoch", "--images", "2560"]) == 1
    shown = capsys.readouterr().out
    assert "after 20 steps: the epoch of 2,560 images will take 320.0 s" in shown
    assert "it took 630.0 s: the forecast was off by 49.2%" in shown


def test_a_real_epoch_of_few_images(monkeypatch):
    monkeypatch.setattr(epoch, "BATCH", 2)
    found = epoch.run_epoch(42, device="cpu", seed=0, report=lambda *what: None)
    assert found.steps == 21
    assert 0 < found.loading < found.measured
    assert found.expected > 0
