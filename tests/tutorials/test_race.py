"""A race holds each way against what is right, times it in turns, and tells the reader's bet."""

from types import SimpleNamespace

import numpy as np
import pytest

from minires import tutorial
from minires.tutorial import Race

RIGHT = np.arange(6.0).reshape(2, 3)


@pytest.fixture
def after(monkeypatch):
    """after(3, 2, 4): a way that takes 3 s, then 2, then 4, by a clock that only such ways move."""
    clock = SimpleNamespace(now=0.0, perf_counter=lambda: clock.now)
    monkeypatch.setattr(tutorial, "time", clock)

    def make(*seconds):
        turns = list(seconds)

        def way():
            clock.now += turns[0]
            turns.append(turns.pop(0))
            return RIGHT

        return way

    return make


def test_how_many_times_as_fast_and_the_bet(capsys, after):
    race = Race(RIGHT, atol=1e-9, rounds=3)
    race.enter("slow", after(0.3, 0.2, 0.9, 0.4), bet=7)
    race.enter("fast", after(0.5, 0.005, 0.04, 0.7), bet=3)
    assert capsys.readouterr().out.splitlines() == [
        "slow: 200.0 ms",
        "fast: 5.0 ms, the step before 200.0 ms: 40 times as fast (you bet on 3)",
    ]
    best = race.best()
    assert [*best] == ["slow", "fast"] and best == pytest.approx({"slow": 0.2, "fast": 0.005})


def test_without_a_bet_nothing_is_said_of_it(capsys, after):
    race = Race(RIGHT, atol=1e-9, rounds=1)
    race.enter("one", after(1))
    race.enter("two", after(1))
    assert "bet" not in capsys.readouterr().out


@pytest.mark.parametrize("y", [RIGHT + 1e-6, RIGHT.T, RIGHT[0], RIGHT * np.nan])
def test_wrong_numbers_are_an_error(y):
    with pytest.raises(AssertionError, match="way: "):
        Race(RIGHT, atol=1e-9).enter("way", lambda: y)
