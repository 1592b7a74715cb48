"""CIFAR's Python version: read without running anything, and everything else of a pickle's kind refused."""

import os
import pickle
import pickletools

import numpy as np
import pytest

from minires.data import DataError, load, load_test
from minires.data.pickles import PickleRefused, read_pickle


def python2_pickle(images, labels):
    """A batch as Python 2 wrote CIFAR's files: protocol 2, text and bytes of one type, NumPy's old names."""

    def text(value):
        return b"U" + bytes([len(value)]) + value

    numbers = b"".join(b"K" + bytes([label]) for label in labels)
    rows, columns = images.shape
    shape = b"M" + rows.to_bytes(2, "little") + b"M" + columns.to_bytes(2, "little")
    dtype = b"cnumpy\ndtype\nq\4(" + text(b"u1") + b"K\0K\1tRq\5(K\3" + text(b"|") + b"NNNJ\xff\xff\xff\xff"
    dtype += b"J\xff\xff\xff\xffK\0tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\nq\2(cnumpy\nndarray\nq\3K\0\x85" + text(b"b") + b"tR"
    array += b"(K\1" + shape + b"\x86" + dtype + b"\x89T" + images.nbytes.to_bytes(4, "little") + images.tobytes()
    entries = text(b"data") + array + b"tb" + text(b"labels") + b"](" + numbers + b"e"
    return b"\x80\x02}q\1(" + text(b"batch_label") + text(b"training batch 1 of 5") + entries + b"u."


def batch(count=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 3072), np.uint8), rng.integers(0, 10, count).tolist()


def write_folder(folder, content):
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        (folder / name).write_bytes(content)


def test_the_files_of_python_2(tmp_path):
    images, labels = batch()
    content = python2_pickle(images, labels)
    assert np.array_equal(pickle.loads(content, encoding="bytes")[b"data"], images)  # the file is what it says
    write_folder(tmp_path, content)
    split = load("cifar10", tmp_path)
    assert split.x_train.shape == (15, 3, 32, 32) and split.y_test.tolist() == labels
    red = (images[0, :1024].reshape(32, 32) / 255 - 0.485) / 0.229
    assert np.allclose(split.x_test[0, 0], red, atol=1e-6)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("order", ["C", "F"])
def test_every_protocol_of_python_3(protocol, order):
    images, labels = batch()
    found = read_pickle(pickle.dumps({b"data": np.asarray(images, order=order), b"labels": labels}, protocol))
    assert np.array_equal(found[b"data"], images) and found[b"labels"] == labels


def test_cifar100_in_both_versions(tmp_path):
    images, _ = batch(4)
    (tmp_path / "bin").mkdir()
    (tmp_path / "py").mkdir()
    fine = np.array([[3, 99], [0, 5], [1, 42], [19, 0]], np.uint8)
    for name in ("train", "test"):
        (tmp_path / "bin" / f"{name}.bin").write_bytes(np.concatenate([fine, images], 1).tobytes())
        content = {b"data": images, b"fine_labels": fine[:, 1].tolist(), b"coarse_labels": fine[:, 0].tolist()}
        (tmp_path / "py" / name).write_bytes(pickle.dumps(content, 2))
    binary, python = load("cifar100", tmp_path / "bin"), load("cifar100", tmp_path / "py")
    assert binary.y_train.tolist() == [99, 5, 42, 0]
    assert all(np.array_equal(a, b) for a, b in zip(binary, python, strict=True))


@pytest.mark.parametrize("labels", [[[1]] * 5, [[1], [2, 3], 1, 1, 1], [1.5] * 5, [10**30] * 5, [True] * 5])
def test_labels_that_are_none(tmp_path, labels):
    write_folder(tmp_path, pickle.dumps({b"data": batch(5)[0], b"labels": labels}, 2))
    with pytest.raises(DataError, match=r"data_batch_1: a pickle.*minires data cifar10"):
        load("cifar10", tmp_path)


class Harm:
    def __reduce__(self):
        return os.mkdir, ("harm",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_code_is_named_and_not_run(tmp_path, monkeypatch, protocol):
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path, pickle.dumps({b"data": Harm(), b"labels": [0]}, protocol))
    with pytest.raises(DataError, match=r"data_batch_1: a pickle.*(mkdir|instruction).*minires data cifar10"):
        load("cifar10", tmp_path)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x04.",
        b"\x80\x04K\1K\2.",
        b"\x80\x02(.",
        b"\x80\x02t.",
        b"\x80\x02R.",
        b"\x80\x02K\1b.",
        b"\x80\x02h\7.",
        b"\x80\x02T\xff\xff\xff\x7fabc.",
        b"\x80\x02K\1K\2s.",
        b"garbage",
        pickle.dumps(np.zeros(3)),
        pickle.dumps(np.zeros(3, "M8[s]")),
        pickle.dumps({1, 2}),
    ],
)
def test_what_is_no_such_pickle(content):
    with pytest.raises(PickleRefused, match="offset"):
        read_pickle(content)


def test_damaged_batches_are_refused_or_right(tmp_path):
    """Bits turned over at 400 places: DataError, or images of the right shape (pickles have no checksum)."""
    images, labels = batch()
    content = python2_pickle(images, labels)
    structure = [at for _, _, at in pickletools.genops(content)]
    rng = np.random.default_rng(0)
    for trial in range(400):
        damaged = bytearray(content)
        at = structure[rng.integers(len(structure))] if trial % 2 else rng.integers(len(content))
        damaged[at] ^= 1 << int(rng.integers(8))
        write_folder(tmp_path, bytes(damaged))
        try:
            x, y = load_test("cifar10", tmp_path)
        except DataError as error:
            assert "test_batch" in str(error)
        else:
            assert x.shape == (3, 3, 32, 32) and y.shape == (3,)
