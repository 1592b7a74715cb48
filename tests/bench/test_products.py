"""The matrix-product floor: what is recorded, and what is made again."""

from __future__ import annotations

import numpy as np
import pytest

from minires.bench.products import Operand, Product, Replay, record


def test_products_are_recorded_with_shapes_and_order():
    a, b = np.ones((3, 4, 5), np.float32), np.ones((6, 5), np.float32)

    def step():
        np.matmul(a, b.T)
        np.matmul(a, b.T, out=np.empty((3, 4, 6), np.float32))

    (product, count), *others = record(step).items()
    assert (count, others) == (2, [])
    assert product.a == Operand((3, 4, 5), (80, 20, 4), "<f4")
    assert product.b == Operand((5, 6), (4, 20), "<f4")
    assert product.flops == 2 * 3 * 4 * 5 * 6


def test_numpy_is_itself_again_after_a_step_that_fails():
    before = np.matmul
    with pytest.raises(ZeroDivisionError):
        record(lambda: 1 / 0)
    assert np.matmul is before


def test_replay_makes_the_same_products_on_every_thread(monkeypatch):
    a, b = np.ones((4, 8, 3), np.float32), np.ones((3, 2), np.float32)
    products = record(lambda: [np.matmul(a, b) for _ in range(5)])
    replay = Replay(products, threads=2)
    assert record(replay.run) == products
    assert sorted(len(share.products) for share in replay.shares) == [2, 3]


def test_operands_lie_within_their_memory():
    x = np.zeros((4, 6, 8), np.float32)[::2, :, ::-1].transpose(2, 0, 1)
    operand = Operand.of(x)
    copy = operand.on(np.zeros(operand.extent, np.uint8))
    assert copy.shape == x.shape
    assert copy.strides == tuple(abs(stride) for stride in x.strides)
    assert Product(operand, operand, operand).flops == 2 * x.size * x.shape[-1]
