"""Checkpoints as PyTorch's users leave them: .pth, .pt, .th, .pth.tar, weights alone or wrapped in a dictionary.

They are pickles, so PyTorch itself reads them, in its mode that runs none of their code (complete since version 2.6).
Before that, the checksums of the archive are compared and its sizes held against the file's; after it, every tensor
against the bytes that the file has for it.
"""

from __future__ import annotations

import argparse
import datetime
import pathlib
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .checkpoint import CheckpointError, Weights, as_checkpoint_error, check_archive, check_contents, other_kind

ENDINGS = (".pth", ".pt", ".th", ".tar", ".pkl", ".ckpt", ".bin")
LEGACY = (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", b"\x80")
"""How PyTorch's files before version 1.6, and pickles altogether, start."""

WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights", "params")
"""Keys under which people keep the weights, beside an epoch, an accuracy, an optimizer's state; the first counts."""

NEWEST_UNSAFE = (2, 5)

FOLDER = 0x10
"""The bit of a zip member's attributes that says it is a folder. Python's zipfile does not look at it."""


class Found(NamedTuple):
    """The arrays of a file, and what else is in it: keys that hold no weights."""

    weights: Weights
    left_out: list[str]


def is_pytorch(path: Path) -> bool:
    """Whether the content is PyTorch's, or, where it is nothing known, the name. CheckpointError for no such file."""
    with as_checkpoint_error(path):
        with path.open("rb") as file:
            start = file.read(9)
        if start[:4] == b"PK\x03\x04":
            with zipfile.ZipFile(path) as archive:
                return any(name.rpartition("/")[2] == "data.pkl" for name in archive.namelist())
        if start[8:9] == b"{":  # safetensors: eight bytes of length, then JSON
            return False
        return start[:1] == b"\x80" or (path.suffix.lower() in ENDINGS and other_kind(start) is None)


def read_pytorch(path: Path) -> Found:
    """The arrays of the one dictionary of tensors in the file, whatever it is wrapped in; bfloat16 as float32.

    Raises CheckpointError where PyTorch 2.6 is not installed, for a damaged file, for objects that only their own
    code can read (it names the class), and where it is not clear which of several dictionaries is meant.
    """
    path = Path(path)
    torch = _torch(path)
    with as_checkpoint_error(path):
        if zipfile.is_zipfile(path):
            _check_zip(path)
        content = _load(torch, path)
        tensors, left_out = _unwrapped(torch, path, content)
        _check_storages(torch, path, tensors)
        return Found({name: _as_array(torch, path, name, tensor) for name, tensor in tensors.items()}, left_out)


def _torch(path: Path) -> Any:
    try:
        import torch
    except ImportError:
        raise CheckpointError(
            f"{path}: files of PyTorch are read by PyTorch, which is not installed: pip install torch"
        ) from None
    except Exception as error:  # an installation that is broken, or a file of ours in the way of one of its modules
        raise CheckpointError(f"{path}: PyTorch is installed but cannot be loaded ({error!r:.200})") from error
    version = tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2])
    if version <= NEWEST_UNSAFE:
        raise CheckpointError(
            f"{path}: PyTorch {torch.__version__} may run code that is in such a file; expected 2.6 or later"
        )
    return torch


def _check_zip(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        check_archive(path, archive)
        check_contents(path, archive)
        for member in archive.infolist():
            if member.external_attr & FOLDER and member.file_size:  # PyTorch would give whatever lies in memory for it
                raise CheckpointError(f"{path}: damaged: {member.filename} is marked as a folder")
        names = [name.partition("/")[2] for name in archive.namelist()]
        if any(name == "constants.pkl" or name.startswith("code/") for name in names):
            raise CheckpointError(
                f"{path}: a TorchScript program, not weights; expected what torch.save(model.state_dict(), ...) writes"
            )


def _load(torch: Any, path: Path) -> Any:
    """What is in the file. Arguments of a command line, NumPy's scalars, paths and dates are harmless."""
    scalar = np.float64(0).__reduce__()[0]
    known = [argparse.Namespace, np.dtype, *(type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "?"))]
    known += [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    known += [datetime.datetime, datetime.date, datetime.timedelta]
    for system, kind in (
        ("Posix", pathlib.PurePosixPath),
        ("Windows", pathlib.PureWindowsPath),
    ):  # of either, on either
        known += [(kind, f"pathlib{m}.{pure}{system}Path") for m in ("", "._local") for pure in ("", "Pure")]
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(known):
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        named = re.search(r"(?:GLOBAL|class) (\w+(?:\.\w+)+)", str(error))
        if named is None:
            raise
        raise CheckpointError(
            f"{path}: holds an object of the class {named[1]}, which only its own code can read; where it was written, "
            "save the weights alone: torch.save(model.state_dict(), ...)"
        ) from None


def _unwrapped(torch: Any, path: Path, content: Any, inside: str = "") -> tuple[dict[str, Any], list[str]]:
    """(the tensors by name, the keys of everything else) of the dictionary of weights in `content`."""

    def tensors_of(value: Any) -> dict[str, Any]:
        found = value.items() if isinstance(value, Mapping) else ()
        return {key: item for key, item in found if isinstance(item, torch.Tensor) and isinstance(key, str)}

    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{path}: holds {inside or 'a'} {type(content).__name__}; expected a dictionary of tensors"
        )
    wrapped = [
        key for key, value in content.items() if isinstance(value, Mapping) and (tensors_of(value) or key in WRAPPERS)
    ]
    known = [key for key in WRAPPERS if key in wrapped]
    own = {key: tensor for key, tensor in tensors_of(content).items() if tensor.ndim}
    if not known and own:
        tensors = tensors_of(content)
        return tensors, [str(key) for key in content if key not in tensors]
    if not known and len(wrapped) != 1:
        raise CheckpointError(
            f"{path}: expected one dictionary of tensors, under a name such as {', '.join(WRAPPERS[:4])}; "
            f"found the keys {', '.join(map(str, list(content)[:12])) or 'none'}"
        )
    chosen = (known or wrapped)[0]
    tensors, left_out = _unwrapped(torch, path, content[chosen], f"under {chosen!r} a")
    return tensors, [str(key) for key in content if key != chosen] + [f"{chosen}: {key}" for key in left_out]


def _check_storages(torch: Any, path: Path, tensors: Mapping[str, Any]) -> None:
    """Tensors may share their memory, but none may claim more than there is, nor all of them more than the file."""
    storages = {}
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.is_quantized:
            kind = "quantized" if tensor.is_quantized else str(tensor.layout)
            raise CheckpointError(f"{path}: {name} is {kind}; only plain tensors are read")
        if tensor.is_meta:
            raise CheckpointError(f"{path}: {name} has a shape and no values (it was saved on the device meta)")
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        if tensor.numel() * tensor.element_size() > storage.nbytes():
            raise CheckpointError(
                f"{path}: {name} has shape {tuple(tensor.shape)}, more than the bytes there are for it"
            )
    if sum(storages.values()) > path.stat().st_size:
        raise CheckpointError(f"{path}: claims {sum(storages.values())} bytes of tensors, more than the file has")


def _as_array(torch: Any, path: Path, name: str, tensor: Any) -> np.ndarray:
    tensor = tensor.detach()
    if tensor.is_floating_point() and tensor.dtype not in (torch.float16, torch.float32, torch.float64):
        tensor = tensor.to(torch.float32)  # bfloat16 and the 8-bit formats: every value has its float32
    try:
        return tensor.resolve_conj().resolve_neg().numpy().copy()
    except (TypeError, RuntimeError):
        raise CheckpointError(f"{path}: {name} has dtype {tensor.dtype}, which NumPy does not know") from None
