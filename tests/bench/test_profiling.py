"""The profile of a step: times that add up, and work counted as by hand."""

from __future__ import annotations

import pytest

from minires.bench.cases import Case
from minires.bench.profiling import _Watch, by_type, profile
from minires.fast.worker import Worker

RESNET20 = 40_550_400 + 640
"""Multiply-adds of one image, by hand: 442368 in the stem, 6 * 2359296, twice 1179648 + 5 * 2359296, and the head."""


@pytest.fixture(scope="module")
def rows():
    return profile(Case("train", 4, depth=20), repeats=2)


def test_work_is_counted_as_by_hand(rows):
    assert sum(row.flops for row in rows) == 2 * 3 * 4 * RESNET20
    relu = next(row for row in rows if row.path == "relu")
    assert relu.bytes == 4 * (4 * 4 * 16 * 32 * 32)  # x, y, dy and dx of float32


def test_every_layer_has_its_row(rows):
    paths = [row.path for row in rows]
    assert paths[:3] == ["conv1", "bn1", "relu"]
    assert paths[-2:] == ["loss", "optimizer"]
    assert "layer3.2.conv2" in paths and "layer3" not in paths
    assert all(row.seconds > 0 for row in rows if row.type == "Conv2d")


def test_types_add_up(rows):
    types = by_type(rows)
    assert sum(row.seconds for row in types) == pytest.approx(sum(row.seconds for row in rows))
    assert {row.type: row.path for row in types}["Conv2d"] == "19"
    assert [row.seconds for row in types] == sorted((row.seconds for row in types), reverse=True)


def test_the_rows_make_up_the_step(rows):
    team = next(row for row in rows if row.path == "team")
    assert team.forward > 0 and team.backward > 0  # what is left of the passes: handing over, waiting


def test_planning_is_as_it_was_afterwards():
    before = Worker.do
    with pytest.raises(ZeroDivisionError), _Watch().around():
        assert Worker.do is not before
        raise ZeroDivisionError
    assert Worker.do is before
