"""A race holds each way against what is right, times it in turns, and tells the reader's bet."""

import re
import time

import numpy as np
import pytest

from minires.tutorial import Race

RIGHT = np.arange(6.0).reshape(2, 3)


def after(seconds, y=RIGHT):
    def way():
        time.sleep(seconds)
        return y

    return way


def test_how_many_times_as_fast_and_the_bet(capsys):
    race = Race(RIGHT, atol=1e-9, rounds=3)
    race.enter("slow", after(0.2), bet=7)
    race.enter("fast", after(0.005), bet=3)
    first, second = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"slow: [\d.]+ ms", first)
    told = re.fullmatch(r"fast: [\d.]+ ms, the step before [\d.]+ ms: ([\d.]+) times as fast \(you bet on 3\)", second)
    assert 2 < float(told[1]) < 41
    best = race.best()
    assert [*best] == ["slow", "fast"] and best["slow"] >= 0.2 > best["fast"]


def test_without_a_bet_nothing_is_said_of_it(capsys):
    race = Race(RIGHT, atol=1e-9, rounds=1)
    race.enter("one", after(0))
    race.enter("two", after(0))
    assert "bet" not in capsys.readouterr().out


@pytest.mark.parametrize("y", [RIGHT + 1e-6, RIGHT.T, RIGHT[0], RIGHT * np.nan])
def test_wrong_numbers_are_an_error(y):
    with pytest.raises(AssertionError, match="way: "):
        Race(RIGHT, atol=1e-9).enter("way", after(0, y))
