"""Files of weights: what is written is read back, by minires and by others; damaged files are refused."""

import json
import os
import re
import shlex
import zipfile
from pathlib import Path

import numpy as np
import pytest

from minires import checkpoint, cli, init, nn, safetensors_files
from minires.checkpoint import CheckpointError, read, read_weights, write_weights
from minires.pytorch_files import is_pytorch, read_pytorch
from minires.recipes import model_for

from .damage import damaged_files, hostile, originals, outcome

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
KINDS = pytest.mark.parametrize("kind", [".npz", ".safetensors"])


def same(a, b):
    """Whether two state dicts hold the same arrays under the same names."""
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def strided():
    """Arrays of many dtypes and memory orders, by name."""
    rng = np.random.default_rng(0)
    base = rng.standard_normal((4, 6, 8)).astype(np.float32)
    return {
        "plain": base,
        "transposed": base.transpose(2, 0, 1),
        "every.other": base[:, ::2, ::-1],
        "fortran": np.asfortranarray(base[0]),
        "scalar": np.array(3.5),
        "empty": np.empty((0, 3), np.float32),
        "integers": np.arange(5),
        "flags": np.array([True, False]),
    }


@KINDS
def test_what_is_written_is_read(tmp_path, kind):
    arrays = strided()
    write_weights(tmp_path / f"w{kind}", arrays, {"note": "ä", "n": [1, 2]})
    found, metadata = read(tmp_path / f"w{kind}")
    assert metadata == {"note": "ä", "n": [1, 2]} and found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        assert np.array_equal(found[name], array)


@KINDS
def test_files_are_the_same_to_the_last_byte(tmp_path, kind):
    for name in "ab":
        write_weights(tmp_path / f"{name}{kind}", strided())
    assert (tmp_path / f"a{kind}").read_bytes() == (tmp_path / f"b{kind}").read_bytes()


def test_others_read_what_minires_writes(tmp_path):
    arrays = strided()
    write_weights(tmp_path / "w.npz", arrays)
    write_weights(tmp_path / "w.safetensors", arrays)
    with np.load(tmp_path / "w.npz", allow_pickle=False) as theirs:
        assert all(np.array_equal(theirs[name], array) for name, array in arrays.items())
    theirs = pytest.importorskip("safetensors.numpy").load_file(tmp_path / "w.safetensors")
    assert all(np.array_equal(theirs[name], array) for name, array in arrays.items())


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_minires_reads_what_numpy_writes(tmp_path, save):
    arrays = {"a": np.random.default_rng(0).standard_normal((30, 40)), "f": np.asfortranarray(np.ones((2, 3)))}
    save(tmp_path / "w.npz", **arrays)
    found = read_weights(tmp_path / "w.npz")
    assert all(np.array_equal(found[name], array) for name, array in arrays.items())


def test_the_content_counts_and_not_the_name(tmp_path):
    write_weights(tmp_path / "w.npz", strided())
    os.rename(tmp_path / "w.npz", tmp_path / "w.safetensors")
    assert read_weights(tmp_path / "w.safetensors").keys() == strided().keys()


def test_every_length_of_a_safetensors_header(tmp_path):
    """Its length is the first byte: 0x80, as pickles start, and 0x50 are among them."""
    path = tmp_path / "w.safetensors"
    for length in range(1, 300):
        path.write_bytes(safetensors_files.safetensors_bytes({"a" * length: np.ones(3)}, {}))
        assert read_weights(path).keys() == {"a" * length} and not is_pytorch(path)


def test_unknown_formats_are_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"expected .npz or .safetensors"):
        write_weights(tmp_path / "w.bin", {})
    with pytest.raises(CheckpointError, match="no such file"):
        read_weights(tmp_path / "missing.npz")
    (tmp_path / "w.pth").write_bytes(b"PK\x03")
    with pytest.raises(CheckpointError, match="minires convert"):
        read_weights(tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "an empty file"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
        (b"\x1f\x8b\x08\0", "a gzipped file"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"\x89PNG\r\n\x1a\n\0", r"a picture \(PNG\)"),
        (b'{"epochs": []}', "a text, JSON it seems"),
    ],
)
@pytest.mark.parametrize("ending", ["pth", "npz", "safetensors"])
def test_other_files_are_named_whatever_they_are_called(tmp_path, content, says, ending):
    path = tmp_path / f"w.{ending}"
    path.write_bytes(content)
    assert not is_pytorch(path)
    with pytest.raises(CheckpointError, match=says):
        read_weights(path)


def test_the_command_that_is_advised_can_be_pasted(tmp_path):
    path = tmp_path / "best of (all) models.pth"
    path.write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(CheckpointError) as refusal:
        read_weights(path)
    advised = re.search("`(.*)`", str(refusal.value))[1]
    assert shlex.split(advised) == ["python", "-m", "minires", "convert", str(path)]


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_what_is_written_is_read_whatever_its_bytes_and_names(tmp_path, ending):
    big = np.arange(6.0).reshape(2, 3).astype(">f8")
    state = {"big-endian": big, "Größe ☃": np.float32(3), "../up": np.zeros((0, 3)), "x.npy": np.asfortranarray(big)}
    write_weights(tmp_path / f"w.{ending}", state)
    found = read_weights(tmp_path / f"w.{ending}")
    assert found.keys() == state.keys() and all(np.array_equal(found[name], state[name]) for name in state)


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_as_many_arrays_as_a_very_deep_network_saves(tmp_path, ending):
    """1,502 layers: a weight, four arrays of BatchNorm and three momenta for each. (6,002 are the most.)"""
    state = {f"optimizer.layer3.{n // 8}.conv1.weight.{n % 8}": np.float32([n]) for n in range(8 * 1502)}
    write_weights(tmp_path / f"w.{ending}", state)
    assert read_weights(tmp_path / f"w.{ending}").keys() == state.keys()


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
@pytest.mark.parametrize(
    ("state", "says"),
    [
        ({}, "state is empty"),
        ({"__metadata__": np.ones(1)}, "'__metadata__' is no name"),
        ({"": np.ones(1)}, "'' is no name"),
        ({"a\0b": np.ones(1)}, "is no name that files keep"),
        ({"\udcff": np.ones(1)}, "is no name that files keep"),
        ({"a" * 70_000: np.ones(1)}, "is no name that files keep"),
    ],
)
def test_what_could_not_be_read_again_is_not_written(tmp_path, ending, state, says):
    with pytest.raises(ValueError, match=says):
        write_weights(tmp_path / f"w.{ending}", state)
    assert os.listdir(tmp_path) == []


def test_a_member_that_is_marked_as_a_folder(tmp_path):
    """PyTorch's reader leaves such a tensor's memory as it found it, without a word."""
    torch = pytest.importorskip("torch")
    path = tmp_path / "w.pth"
    torch.save({"a": torch.ones(8)}, path)
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        place = next(i for i, m in enumerate(archive.infolist()) if m.filename.endswith("data/0"))
    at = -1
    for _ in range(place + 1):
        at = content.index(b"PK\x01\x02", at + 1)
    content[at + 38] |= 0x10  # external attributes, in the directory
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"damaged: .*data/0 is marked as a folder"):
        read_pytorch(path)


def test_a_mask_is_not_lost_on_the_way_into_a_file_or_a_model(tmp_path):
    array = np.ma.masked_array(np.ones(2), [0, 1])
    with pytest.raises(TypeError, match="state: a: expected a plain array, got a MaskedArray"):
        write_weights(tmp_path / "w.npz", {"a": array})
    layer = nn.Linear(1, 2, rng=0)
    with pytest.raises(TypeError, match="state: bias: expected a plain array"):
        layer.load_state_dict({**layer.state_dict(), "bias": array})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("dtype", [np.longdouble, complex])
def test_what_safetensors_does_not_know_goes_into_npz(tmp_path, dtype):
    with pytest.raises(CheckpointError, match=f"{np.dtype(dtype)}; expected .npz"):
        write_weights(tmp_path / "w.safetensors", {"a": np.ones(1, dtype)})
    write_weights(tmp_path / "w.npz", {"a": np.ones(1, dtype)})
    assert read_weights(tmp_path / "w.npz")["a"].dtype == dtype


@pytest.mark.parametrize("what", hostile())
def test_hostile_files_are_refused(tmp_path, what):
    result, seconds, peak = outcome(tmp_path / "w", hostile()[what], {})
    assert result == "refused" and seconds < 5
    assert peak < 1 << 21  # the largest of them, a zip bomb, would be 64 MB


def test_damaged_files_load_the_right_values_or_are_refused(tmp_path):
    """A sample; `python -m tests.checkpoint.damage` tries 2,000."""
    for _, content, weights in damaged_files(180, seed=1):
        _, _, peak = outcome(tmp_path / "w", content, weights)
        assert len(content) < 50_000 or peak <= 4 * len(content)


def test_without_the_checksum_a_turned_bit_would_go_unseen(tmp_path, monkeypatch):
    """The check above can fail."""
    content, weights = originals(tmp_path)[".safetensors"]
    monkeypatch.setattr(safetensors_files, "OWN", "another key")
    damaged = bytearray(content)
    damaged[-1000] ^= 16
    with pytest.raises(AssertionError, match="loaded other values"):
        outcome(tmp_path / "w", bytes(damaged), weights)


def test_pytorch_reads_exported_weights(tmp_path):
    torch = pytest.importorskip("torch")
    model = nn.resnet(8, width=4, shortcut="B", rng=1)
    names = checkpoint.pytorch_names(model.state_dict(), head="fc", projection="downsample")
    assert {"fc.weight", "layer2.0.downsample.1.running_var"} <= names.keys()
    assert not any("shortcut" in name or "linear" in name for name in names)
    twin = torch.nn.Sequential()
    twin.add_module("fc", torch.nn.Linear(16, 10))
    head = {name: torch.from_numpy(array) for name, array in names.items() if name.startswith("fc.")}
    twin.load_state_dict(head, strict=True)
    back = nn.resnet(8, width=4, shortcut="B", rng=2)
    assert init.from_pretrained(back, names).ok
    assert same(model.state_dict(), back.state_dict())


def test_pth_files_are_converted_without_running_them(tmp_path):
    torch = pytest.importorskip("torch")
    state = {
        "module.conv1.weight": torch.arange(6.0).reshape(2, 3).T,
        "module.bn1.num_batches_tracked": torch.tensor(3),
    }
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "w.pth")
    found = checkpoint.pytorch_names(read_pytorch(tmp_path / "w.pth").weights)
    assert list(found) == ["conv1.weight"] and found["conv1.weight"].tolist() == [[0, 3], [1, 4], [2, 5]]

    assert cli.main(["convert", str(tmp_path / "w.pth"), str(tmp_path / "w.npz")]) == 0
    assert same(read_weights(tmp_path / "w.npz"), found)

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"state_dict": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(CheckpointError, match=r"evil\.pth"):
        read_pytorch(tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("options", [{}, {"shortcut": "B"}, {"batchnorm": False}, {"in_channels": 1, "num_classes": 7}])
def test_a_model_is_recognized_by_its_arrays(options):
    model = nn.resnet(14, width=4, rng=3, **options)
    found = model_for(model.state_dict())
    assert same(model.state_dict(), found.state_dict())
    assert str(found) == str(model)


def test_a_model_is_recognized_under_other_peoples_names():
    model = nn.resnet(8, width=4, shortcut="B", rng=3)
    theirs = checkpoint.pytorch_names(model.state_dict(), head="fc", projection="downsample")
    theirs = {f"module.{name}": array for name, array in theirs.items()}
    theirs["module.bn1.num_batches_tracked"] = np.array(7)
    assert same(model_for(theirs).state_dict(), model.state_dict())


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module._orig_mod.", "model.", "net.module."])
def test_wrappers_prefixes_are_taken_off(prefix):
    model = nn.resnet(8, width=4, rng=3)
    assert same(model_for({prefix + n: a for n, a in model.state_dict().items()}).state_dict(), model.state_dict())


def test_an_unknown_prefix_is_named():
    with pytest.raises(ValueError, match=r"every name seems to have 'backbone\.' in front.*take it off"):
        model_for({f"backbone.{name}": array for name, array in nn.resnet(8, width=4).state_dict().items()})


def test_empty_arrays_under_the_names_of_a_huge_network():
    """36 stages of empty convolutions, a file of 39 kB: refused before a network of 17 GB is built."""
    state = nn.resnet(8, width=4, in_channels=1).state_dict()
    for stage in range(4, 40):
        state[f"layer{stage}.0.conv1.weight"] = np.zeros((4 * 2 ** (stage - 1), 0, 3, 3), np.float32)
    with pytest.raises(ValueError, match=r"layer4\.0\.conv1\.weight is \(32, 0, 3, 3\); expected \(32, 16, 3, 3\)"):
        model_for(state)


def test_arrays_of_another_network_are_refused():
    with pytest.raises(ValueError, match="conv1"):
        model_for({"a": np.zeros(3)})
    state = nn.resnet(8, width=4).state_dict()
    with pytest.raises(ValueError, match=r"layer1\.0\.conv1\.weight is \(4, 4, 3, 3\); expected \(1000000, "):
        model_for({**state, "conv1.weight": np.zeros((10**6, 1, 1, 1), np.float32)})


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the published weights and real images are not in {SHARED}")
def test_published_resnet20_on_real_images():
    """932 of 1,017, 0.37794, and the first logits: figures measured with PyTorch, in the data folder's README."""
    pytest.importorskip("safetensors")
    from minires.data import load_test
    from minires.train import evaluate

    model = model_for(read_weights(SHARED / "pretrained" / "resnet20-cifar10.safetensors")).eval()
    x, y = load_test("cifar10", SHARED)
    loss, accuracy = evaluate(model, x, y)
    assert round(accuracy * 1017) == 932
    assert abs(loss - 0.37794) <= 5e-5
    logits = model.forward(x[:8])[0, :4]
    assert np.abs(logits - [-5.3097, -0.4958, 0.8773, 23.7305]).max() <= 5e-4  # four digits, in float32


def test_checkpoints_keep_two_and_skip_the_unreadable(tmp_path):
    for step in (5, 40, 300):
        checkpoint.save_checkpoint(tmp_path, step, {"a": np.array([step])}, {"step": step})
    names = [path.name for path in checkpoint.checkpoints(tmp_path)]
    assert names == ["checkpoint-00000300.npz", "checkpoint-00000040.npz"]
    newest = tmp_path / names[0]
    newest.write_bytes(newest.read_bytes()[:-30])
    (tmp_path / ".checkpoint-00000400.npz.x.tmp").write_bytes(b"half")
    path, arrays, state = checkpoint.load_checkpoint(tmp_path)
    assert path.name == names[1] and arrays["a"] == [40] and state == {"step": 40}
    path.unlink()
    with pytest.raises(CheckpointError, match="00000300"):
        checkpoint.load_checkpoint(tmp_path)


def test_metadata_of_any_json_type_does_not_break_the_reader(tmp_path):
    write_weights(tmp_path / "w.npz", {"a": np.ones(2)}, {"x": 1})
    content = json.dumps([1, 2]).encode()
    arrays = {"a": np.ones(2), "__metadata__": np.frombuffer(content, np.uint8)}
    np.savez(tmp_path / "list.npz", **arrays)
    with pytest.raises(CheckpointError, match="metadata"):
        read(tmp_path / "list.npz")


def test_the_folder_of_a_run_is_no_file(tmp_path):
    with pytest.raises(CheckpointError, match=r"is a folder; expected a file, such as weights\.npz in it"):
        read(tmp_path)
