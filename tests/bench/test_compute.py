"""What a step costs in compute: a line through two batches, a bench's file, and one measured."""

from __future__ import annotations

import json

import pytest

from minires import nn
from minires.bench.compute import BATCHES, from_file, line, measure_compute
from minires.parallel.cost import Compute, work_of


def bench_file(path, steps, threads=2):
    cases = [
        {"kind": "train", "depth": depth, "batch": batch, "median_seconds": {"minires": seconds, "torch": 1.0}}
        for depth, batch, seconds in steps
    ]
    path.write_text(json.dumps({"threads": threads, "cases": [{"kind": "layers", "batch": 8}, *cases]}))
    return path


def test_a_line_through_batches():
    assert line({32: 0.01 + 32 * 0.002, 128: 0.01 + 128 * 0.002}) == pytest.approx((0.01, 0.002))
    assert line({128: 0.256}) == pytest.approx((0.0, 0.002))
    assert line({32: 0.06, 128: 0.28}).fixed == 0.0, "a step of no images does not take less than no time"


def test_the_file_of_a_bench(tmp_path):
    path = bench_file(tmp_path / "b.json", [(20, 32, 0.08), (20, 128, 0.29), (56, 128, 0.9)])
    source = from_file(path, 20)
    assert source.compute == pytest.approx((0.01, 0.0021875)) and source.told == f"from {path}, 2 threads"
    assert from_file(path, 56).compute == pytest.approx((0.0, 0.9 / 128))
    scaled = from_file(path, 110)
    assert scaled.told.endswith("scaled from resnet56")
    ratio = work_of(nn.resnet(110)).products / work_of(nn.resnet(56)).products
    assert scaled.compute.per_image == pytest.approx(0.9 / 128 * ratio)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"cases": [{}]}', '{"cases": 3, "threads": 1}'])
def test_what_is_no_such_file(tmp_path, text):
    (tmp_path / "b.json").write_text(text)
    with pytest.raises(ValueError, match="is not what bench --json writes"):
        from_file(tmp_path / "b.json", 20)


def test_a_file_without_training_steps(tmp_path):
    with pytest.raises(ValueError, match="has no training steps; expected bench --only train"):
        from_file(bench_file(tmp_path / "b.json", []), 20)


def test_measured_here():
    """A larger batch takes longer, and the two numbers give it back roughly: the machine is not ours alone."""
    source = measure_compute(8, 1)
    assert isinstance(source.compute, Compute) and source.compute.seconds(BATCHES[1]) > 0
    assert source.told == "measured now, 1 thread"
