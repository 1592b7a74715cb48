"""PyTorch's checkpoints as people leave them: wrapped, prefixed, in half precision; damaged ones are refused."""

import argparse
import collections
import io
import zipfile
from datetime import datetime
from pathlib import Path, PureWindowsPath

import numpy as np
import pytest

from minires import cli, nn, pytorch_files
from minires.checkpoint import CheckpointError, read_weights
from minires.pytorch_files import is_pytorch, read_pytorch
from minires.recipes import model_for

torch = pytest.importorskip("torch")


def weights():
    return nn.resnet(8, width=2, in_channels=1, rng=0).state_dict()


def tensors(prefix="", dtype=torch.float32):
    return {prefix + name: torch.tensor(array).to(dtype) for name, array in weights().items()}


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


OPTIMIZER = {"state": {0: {"momentum_buffer": torch.ones(3)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
WRAPPED = {
    "plain": tensors(),
    "ordered": collections.OrderedDict(tensors()),
    "PyTorch's tutorial": {
        "epoch": 3,
        "model_state_dict": tensors(),
        "optimizer_state_dict": OPTIMIZER,
        "loss": torch.tensor(0.3),
    },
    "kuangliu": {"net": tensors("module."), "acc": 93.2, "epoch": 12},
    "examples": {"epoch": 1, "arch": "resnet8", "state_dict": tensors("module."), "best_acc1": torch.tensor(71.0)},
    "compiled": {"model": tensors("_orig_mod."), "args": argparse.Namespace(lr=0.1, name="x")},
    "both": {"model": tensors("module._orig_mod."), "best": np.float64(0.5), "best32": np.float32(1)},
    "Lightning": {"state_dict": tensors("model."), "hyper_parameters": {"lr": 0.1}, "callbacks": {}},
    "under an unknown name": {"student": tensors(), "epoch": 3},
    "paths and dates": {"model": tensors(), "args": argparse.Namespace(out=Path("a/b")), "when": datetime.now()},
    "a path of Windows": {"model": tensors(), "out": PureWindowsPath("a/b")},
    "twice wrapped": {"checkpoint": {"epoch": 1}, "model": {"state_dict": tensors(), "step": 4}},
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", WRAPPED)
def test_containers(tmp_path, name, zipped):
    path = tmp_path / "model_best.pth.tar"
    torch.save(WRAPPED[name], path, _use_new_zipfile_serialization=zipped)
    assert is_pytorch(path)
    found, left_out = read_pytorch(path)
    assert same(model_for(found).state_dict(), weights())
    assert bool(left_out) == (name not in ("plain", "ordered"))


def test_convert_says_what_it_left_out(tmp_path, capsys):
    counters = {"module.bn1.num_batches_tracked": torch.tensor(7)}
    torch.save({"net": {**tensors("module."), **counters}, "acc": 93.2, "epoch": 12}, tmp_path / "best.pth.tar")
    assert cli.main(["convert", str(tmp_path / "best.pth.tar")]) == 0
    told = capsys.readouterr().out
    assert "left out: acc, epoch, 1 num_batches_tracked" in told and "best.safetensors" in told
    assert same(read_weights(tmp_path / "best.safetensors"), weights())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.float8_e4m3fn])
def test_other_precisions_keep_their_values(tmp_path, dtype):
    state = tensors(dtype=dtype)
    torch.save(state, tmp_path / "w.pth")
    found = read_pytorch(tmp_path / "w.pth").weights
    assert all(np.array_equal(found[name], state[name].to(torch.float64).numpy()) for name in state)
    model_for(found)


def test_bfloat16_and_half_in_safetensors(tmp_path):
    save = pytest.importorskip("safetensors.torch").save_file
    for dtype in (torch.bfloat16, torch.float16):
        state = tensors(dtype=dtype)
        save(state, tmp_path / "w.safetensors")
        found = read_weights(tmp_path / "w.safetensors")
        assert all(np.array_equal(found[name], state[name].float().numpy()) for name in state)


class Net(torch.nn.Module):
    pass


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (Net(), r"class .*Net.*state_dict"),
        ({"model": Net(), "epoch": 3}, r"class .*Net"),
        ([torch.ones(2)], "holds a list; expected a dictionary of tensors"),
        ({"epoch": 3, "acc": 1.0}, "found the keys epoch, acc"),
        ({"a": {"w": torch.ones(2)}, "b": {"w": torch.ones(2)}}, "expected one dictionary.*found the keys a, b"),
        ({"w": torch.ones(4, 4).to_sparse()}, "w is torch.sparse_coo"),
        ({"w": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)}, "w is quantized"),
        ({"w": torch.ones(1).expand(1 << 30)}, "more than the bytes there are for it"),
        ({"w": torch.ones(3, device="meta")}, "w has a shape and no values"),
        ({}, "found the keys none"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, content, says):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=says):
        read_pytorch(tmp_path / "w.pth")


def test_a_script_is_no_weights(tmp_path):
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="TorchScript"):
        read_pytorch(tmp_path / "w.pth")


def test_two_arrays_of_one_name_are_refused(tmp_path, capsys):
    torch.save({"a.weight": torch.ones(2), "module.a.weight": torch.zeros(2)}, tmp_path / "w.pth")
    assert cli.main(["convert", str(tmp_path / "w.pth")]) == 2
    assert "a.weight and module.a.weight would both be a.weight" in capsys.readouterr().err


def test_turned_bits_are_found(tmp_path):
    """In the tensors of a zip file, every one: PyTorch itself does not compare checksums."""
    content = io.BytesIO()
    torch.save(tensors(), content)
    raw = content.getvalue()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(60):
        damaged = bytearray(raw)
        damaged[rng.integers(len(raw))] ^= 1 << int(rng.integers(8))
        (tmp_path / "w.pth").write_bytes(damaged)
        try:
            assert same(read_pytorch(tmp_path / "w.pth").weights, weights())
        except CheckpointError:
            refused += 1
    assert refused > 20


def test_a_storage_that_claims_more_than_its_record(tmp_path):
    """The pickle's number of elements against the record's bytes: PyTorch reads past the end."""
    torch.save({"w": torch.ones(64)}, tmp_path / "good.pth")
    with zipfile.ZipFile(tmp_path / "good.pth") as good, zipfile.ZipFile(tmp_path / "bad.pth", "w") as bad:
        for member in good.infolist():
            data = good.read(member)
            if member.filename.endswith("data.pkl"):
                assert data.count(b"K@") == 2  # 64: of the storage, and of the tensor
                data = data.replace(b"K@", b"M\xff\x7f")
            bad.writestr(member.filename, data)
    with pytest.raises(CheckpointError, match=r"more than the file has|cannot be read"):
        read_pytorch(tmp_path / "bad.pth")


def test_an_old_pytorch_is_not_trusted(tmp_path, monkeypatch):
    torch.save(tensors(), tmp_path / "w.pth")
    for version in ("2.5.1+cpu", "1.13", "2.0"):
        monkeypatch.setattr(torch, "__version__", version)
        with pytest.raises(CheckpointError, match=r"expected 2\.6 or later"):
            read_pytorch(tmp_path / "w.pth")
    monkeypatch.setattr(torch, "__version__", "2.10.0")
    assert read_pytorch(tmp_path / "w.pth").weights


def test_evaluate_reads_pth_itself_and_says_so(tmp_path, capsys):
    torch.save({"net": tensors(), "acc": 1}, tmp_path / "w.pth")
    assert cli.main(["evaluate", "--weights", str(tmp_path / "w.pth"), "--data", "digits"]) == 0
    told = capsys.readouterr()
    assert "355 test images" in told.out and "python -m minires convert" in told.err and "not used: acc" in told.err


def test_without_pytorch_the_sentence_names_what_is_missing(tmp_path, monkeypatch):
    torch.save(tensors(), tmp_path / "w.pth")
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(CheckpointError, match="pip install torch"):
        pytorch_files.read_pytorch(tmp_path / "w.pth")
