"""The digits in the package: what they are, where they come from, how they are divided."""

from importlib.resources import files

import numpy as np
import pytest

from minires.data import load_digits


def test_shapes_dtypes_and_scale():
    x_train, y_train, x_test, y_test = load_digits()
    assert x_train.shape == (1442, 1, 8, 8) and x_test.shape == (355, 1, 8, 8)
    assert x_train.dtype == x_test.dtype == np.float32 and y_train.dtype == y_test.dtype == np.int64
    assert abs(x_train.mean(dtype=np.float64)) < 1e-6 and abs(x_train.std(dtype=np.float64) - 1) < 1e-6


def test_the_file_is_small_and_attributed():
    folder = files("minires.data")
    assert len((folder / "digits.npz").read_bytes()) <= 100_000
    assert "CC BY 4.0" in (folder / "digits.LICENSE.txt").read_text()


def test_split_is_stratified_and_fixed():
    _, y_train, _, y_test = load_digits()
    of_each = np.bincount(y_test)
    assert np.array_equal(of_each, (np.bincount(y_train) + of_each) // 5)
    assert np.array_equal(load_digits().y_test, y_test)


def test_equals_scikit_learns_copy():
    theirs = pytest.importorskip("sklearn.datasets").load_digits()
    x_train, y_train, x_test, y_test = load_digits()
    ours = np.concatenate([x_train, x_test])[:, 0]
    scale = np.unique(ours)  # 17 gray levels, in order
    pixels = np.searchsorted(scale, ours)
    assert len(scale) == 17
    key = [(label, image.tobytes()) for label, image in zip([*y_train, *y_test], pixels, strict=True)]
    expected = zip(theirs.target, theirs.images.astype(pixels.dtype), strict=True)
    assert sorted(key) == sorted((label, image.tobytes()) for label, image in expected)
