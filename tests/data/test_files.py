"""MNIST's and CIFAR-10's formats: real files load, and every kind of damage is named with file and offset."""

import gzip
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from minires.data import DataError, find, load, load_cifar10, load_test, recognize
from minires.data.cifar import RECORD, read_cifar_file
from minires.data.datasets import data_root
from minires.data.idx import read_idx, read_labeled

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"the real data files are not in {SHARED}")


def idx_bytes(values, magic=b"\0\0\x08"):
    shape = struct.pack(f">{values.ndim}I", *values.shape)
    return magic + bytes([values.ndim]) + shape + values.astype(np.uint8).tobytes()


@pytest.fixture
def mnist(tmp_path):
    """A folder with tiny MNIST files: plain for training, gzipped for testing."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 30), ("t10k", 20)):
        images = idx_bytes(rng.integers(0, 256, (count, 28, 28)))
        labels = idx_bytes(np.arange(count) % 10)
        if part == "train":
            (tmp_path / "train-images-idx3-ubyte").write_bytes(images)
            (tmp_path / "train-labels-idx1-ubyte").write_bytes(labels)
        else:
            (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
            (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    return tmp_path


@pytest.fixture
def cifar(tmp_path):
    """A folder with tiny CIFAR-10 files of 7 records each."""
    rng = np.random.default_rng(0)
    for name in (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"):
        records = rng.integers(0, 256, (7, RECORD), dtype=np.uint8)
        records[:, 0] %= 10
        (tmp_path / name).write_bytes(records.tobytes())
    return tmp_path


def test_idx_plain_and_gzipped(mnist):
    x_train, _, x_test, y_test = load("mnist", mnist)
    assert x_train.shape == (30, 1, 28, 28) and x_test.shape == (20, 1, 28, 28)
    assert x_train.dtype == np.float32 and y_test.tolist() == [*range(10)] * 2
    stored = read_idx(mnist / "train-images-idx3-ubyte", 3)
    assert np.allclose(x_train[:, 0], (stored / 255 - 0.1307) / 0.3081, atol=1e-6)


def test_held_out_comes_from_the_training_images_or_from_the_only_ones(mnist):
    assert [len(part) for part in load("mnist", mnist, 10)] == [20, 20, 10, 10]
    for path in mnist.glob("train-*"):
        path.unlink()
    assert [len(part) for part in load("mnist", mnist, 5)] == [15, 15, 5, 5]
    with pytest.raises(DataError, match="train-images-idx3-ubyte"):
        load("mnist", mnist)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda b: b"\0\0\x0d" + b[3:], "offset 0.*00 00 0d 03.*00 00 08 03"),
        (lambda b: b[:9], "offset 9.*header"),
        (lambda b: b[:-3], f"offset {16 + 30 * 784 - 3}.*ends.*expected {16 + 30 * 784} bytes"),
        (lambda b: b + b"x", f"offset {16 + 30 * 784}.*goes on"),
        (lambda b: b[:4] + b"\xff\xff\xff\xff" + b[8:], "offset 4.*4294967295"),
        (lambda b: b[:4] + b"\0\0\0\0" + b[8:], "offset 4.*expected 1 to"),
        (lambda b: b"", "offset 0"),
        (lambda b: gzip.compress(b)[:-20], "damaged gzip"),
        (lambda b: gzip.compress(b)[:100] + b"\0" * 50 + gzip.compress(b)[150:], "damaged gzip"),
    ],
)
def test_damaged_idx_files_are_named(mnist, damage, says):
    path = mnist / "train-images-idx3-ubyte"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=f"train-images-idx3-ubyte.*{says}"):
        load("mnist", mnist)


def test_labels_out_of_range_and_too_few(mnist):
    labels = mnist / "train-labels-idx1-ubyte"
    good = labels.read_bytes()
    labels.write_bytes(good[:20] + b"\x0b" + good[21:])
    with pytest.raises(DataError, match="offset 20: label 11; expected 0 to 9"):
        read_labeled(mnist, "train")
    labels.write_bytes(idx_bytes(np.zeros(29)))
    with pytest.raises(DataError, match="29 labels; expected 30"):
        read_labeled(mnist, "train")


@pytest.mark.parametrize(
    "name",
    [
        "{part}-{kind}-idx{n}-ubyte",
        "{part}-{kind}.idx{n}-ubyte",
        "{part}-{kind}-idx{n}.ubyte",
        "{part}-{kind}.idx{n}.ubyte",
        "MNIST/raw/{part}-{kind}-idx{n}-ubyte",
        "raw/{part}-{kind}-idx{n}-ubyte",
        "{part}-{kind}-idx{n}-ubyte/{part}-{kind}-idx{n}-ubyte",
        "mnist/{part}-{kind}.idx{n}-ubyte/{part}-{kind}.idx{n}-ubyte",
        "archive/{part}-{kind}.idx{n}-ubyte",
    ],
)
def test_mnist_under_the_names_in_use(tmp_path, name):
    for part in ("train", "t10k"):
        for kind, n, values in (("images", 3, np.zeros((4, 28, 28))), ("labels", 1, np.arange(4))):
            path = tmp_path / name.format(part=part, kind=kind, n=n)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(idx_bytes(values))
    assert load("mnist", tmp_path).y_test.tolist() == [0, 1, 2, 3]
    assert "archive" in name or recognize(tmp_path) == "mnist"


def test_mnist_of_two_sizes_is_refused(mnist):
    (mnist / "t10k-images-idx3-ubyte.gz").write_bytes(idx_bytes(np.zeros((20, 32, 32))))
    with pytest.raises(DataError, match="training images of 28x28 and test images of 32x32; expected one size"):
        load("mnist", mnist)


@pytest.mark.parametrize("folder", ["archive", "cifar-10-binary/cifar-10-batches-bin", "archive/cifar-10-batches-bin"])
def test_cifar_in_the_folders_of_its_archives(cifar, folder):
    files = [*cifar.iterdir()]
    (cifar / folder).mkdir(parents=True)
    for path in files:
        path.rename(cifar / folder / path.name)
    assert load("cifar10", cifar).x_test.shape == (7, 3, 32, 32)


@pytest.mark.parametrize(
    ("name", "file", "says"),
    [
        ("cifar10", "cifar-10-binary.tar.gz", r"it holds cifar-10-binary\.tar\.gz, which has to be unpacked there"),
        ("mnist", "archive.ZIP", "it holds archive.ZIP, which has to be unpacked there"),
        ("mnist", "mnist.npz", r"it holds mnist\.npz, a format that is not read; `python"),
    ],
)
def test_files_of_other_kinds_get_a_word(tmp_path, name, file, says):
    (tmp_path / file).write_bytes(b"")
    with pytest.raises(DataError, match=says):
        load(name, tmp_path)


@pytest.mark.parametrize(("name", "near"), [("MNIST", "mnist"), ("CIFAR-10", "cifar10"), ("FashionMNIST", "fashion")])
def test_names_as_others_write_them_are_suggested(name, near):
    with pytest.raises(ValueError, match=f"did you mean '{near}'"):
        load(name)


def test_a_small_file_may_not_unpack_to_much(mnist):
    """131 MB of zeros in 130 kB: refused by what its header claims, before it is unpacked."""
    path = mnist / "train-images-idx3-ubyte"
    header = b"\0\0\x08\3" + struct.pack(">III", 1 << 17, 32, 32)
    path.write_bytes(gzip.compress(header + bytes((1 << 17) * 1024)))
    tracemalloc.start()
    with pytest.raises(DataError, match=r"claims the shape \(131072, 32, 32\)"):
        read_idx(path, 3)
    assert tracemalloc.get_traced_memory()[1] < 1 << 21
    tracemalloc.stop()


def test_cifar_of_any_length(cifar):
    x_train, y_train, x_test, _ = load_cifar10(cifar)
    assert x_train.shape == (35, 3, 32, 32) and x_test.shape == (7, 3, 32, 32) and y_train.shape == (35,)
    record = np.frombuffer((cifar / "data_batch_1.bin").read_bytes()[:RECORD], np.uint8)
    red = (record[1:1025].reshape(32, 32) / 255 - 0.485) / 0.229
    assert y_train[0] == record[0] and np.allclose(x_train[0, 0], red, atol=1e-6)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda b: b[:-5], f"offset {6 * RECORD}: {RECORD - 5} bytes are left"),
        (lambda b: b + b"\1", f"offset {7 * RECORD}: 1 bytes are left"),
        (lambda b: b[: 2 * RECORD] + b"\x0a" + b[2 * RECORD + 1 :], f"offset {2 * RECORD}: label 10"),
        (lambda b: b"\x80\x04" + b[2:], "pickle"),
        (lambda b: b"", "offset 0: 0 bytes"),
    ],
)
def test_damaged_cifar_files_are_named(cifar, damage, says):
    path = cifar / "data_batch_3.bin"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=f"data_batch_3.bin.*{says}"):
        load_cifar10(cifar)


def test_pickled_cifar_is_refused_with_the_way_out(tmp_path):
    (tmp_path / "data_batch_1").write_bytes(b"\x80\x02}q\0.")
    with pytest.raises(DataError, match=r"a pickle.*minires data cifar10.*cifar-10-binary"):
        load("cifar10", tmp_path)


def test_a_missing_file_is_named(cifar):
    (cifar / "data_batch_2.bin").unlink()
    with pytest.raises(DataError, match=r"data_batch_2.bin: no such file"):
        load_cifar10(cifar)


def test_where_files_are_looked_for(cifar, tmp_path, monkeypatch):
    monkeypatch.setenv("MINIRES_DATA", str(cifar))
    assert data_root() == cifar and find("cifar10") == cifar
    assert data_root(tmp_path / "given") == tmp_path / "given"
    monkeypatch.delenv("MINIRES_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(DataError, match=r"no files of it in .*minires data fashion"):
        find("fashion", tmp_path / "nowhere")
    assert recognize(cifar) == "cifar10"
    with pytest.raises(ValueError, match="'imagenet'; expected one of digits"):
        load("imagenet")
    assert len(load(Path("digits"))) == 4


@needs_shared
def test_real_mnist():
    x, y = load_test("mnist", SHARED)
    assert x.shape == (10_000, 1, 28, 28) and recognize(SHARED / "mnist") == "mnist"
    assert np.bincount(y).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]  # as published


@needs_shared
def test_real_cifar():
    split = load("cifar10", SHARED)
    assert [len(part) for part in split] == [5085, 5085, 1017, 1017]
    assert read_cifar_file(SHARED / "cifar-10-batches-bin" / "test_batch.bin")[1][:5].tolist() == [3, 8, 8, 0, 6]
