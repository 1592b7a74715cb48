"""What is packed can be read again, and takes less space where much of it repeats."""

import json

import numpy as np
import pytest

from minires import nn
from minires.stepper import page
from minires.stepper.packing import pack
from tests.stepper.numbers import unpacked

STEP = {"title": "a line of code", "boxes": [[0, 0, 1, 1], [0, 0, 1, 1]], "shape": (2, 3), "path": [[-1.0, -2.0]]}
CASES = [
    [],
    [[]],
    [[0], [1], [-1], [0, 0]],
    "a long text that stands alone",
    -1,
    {"a": None, "b": True, "c": 1.5},
    [STEP, STEP, STEP | {"title": "another"}],
    {"once": STEP, "again": [STEP, [STEP]], "lists": [["a long text"], ["a long text"], "a long text", [], []]},
]


@pytest.mark.parametrize("data", CASES, ids=range(len(CASES)))
def test_there_and_back(data):
    plain = json.loads(json.dumps(data))
    packed = json.loads(json.dumps(pack(data)))
    assert unpacked(packed["data"], packed["kinds"], packed["parts"]) == plain


def test_a_part_refers_to_earlier_ones_alone():
    parts = pack(CASES[-1])["parts"]
    assert len(parts) > 3
    for number, part in enumerate(parts):
        for value in part if isinstance(part, list) else []:
            if isinstance(value, list) and len(value) == 1 and value[0] >= 0:
                assert value[0] < number


def test_repetitions_cost_little():
    once, often = (len(json.dumps(pack([STEP] * times))) for times in (1, 100))
    assert often < 2 * once + 6 * 100


@pytest.mark.parametrize("size", [8, 32])
def test_the_page_of_resnet20_is_small(size):
    x = np.random.default_rng(0).standard_normal((2, 3, size, size)).astype(np.float32)
    assert len(page(nn.resnet20(), x, np.array([3, 7])).encode()) < 1_500_000
