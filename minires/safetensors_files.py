"""safetensors files: the same arrays in the format that PyTorch's world shares. Needs the package (extra `pretrained`).

The format has no checksum of its own, so minires puts one into the metadata of the files it writes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .checkpoint import CheckpointError, Weights, parse_metadata

MOST_HEADER = 1 << 24
"""Bytes of a file's header: some 100 for an array."""

OWN = "minires"
"""The key of minires' part of a safetensors file's metadata: JSON, {"sha256": ..., "metadata": JSON in turn}."""


def _checksum(arrays: Mapping[str, np.ndarray], metadata: str) -> str:
    """SHA-256 over metadata, names, dtypes, shapes and values, in the order of the names."""
    digest = hashlib.sha256(metadata.encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"\n{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(np.asarray(array, order="C").data)
    return digest.hexdigest()


def safetensors_bytes(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> bytes:
    """What `checkpoint.write_weights` writes: the arrays, the metadata, and a checksum over both."""
    text = json.dumps(metadata)
    own = json.dumps({"sha256": _checksum(arrays, text), "metadata": text})
    library = _safetensors()
    try:
        return library.numpy.save(dict(arrays), {OWN: own})
    except (library.SafetensorError, KeyError):
        found = ", ".join(sorted({str(array.dtype) for array in arrays.values()}))
        raise CheckpointError(f"state: safetensors does not know one of these dtypes: {found}; expected .npz") from None


def read_safetensors(path: Path) -> tuple[Weights, dict[str, Any]]:
    """The arrays and the metadata of a file. Errors as `checkpoint.read`, which calls it."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(MOST_HEADER, path.stat().st_size - 8):
            raise CheckpointError(f"{path}: not a safetensors file, or damaged: it claims a header of {length} bytes")
        header = file.read(length)
    with _safetensors().safe_open(path, framework="np") as file:  # which refuses whatever is wrong with the header
        metadata, entries = file.metadata() or {}, json.loads(header)
        arrays = {name: _read_tensor(path, file, name, entries[name], 8 + length) for name in sorted(file.keys())}
    if OWN not in metadata:
        return arrays, {}
    own = parse_metadata(metadata[OWN])
    if own["sha256"] != _checksum(arrays, own["metadata"]):
        raise CheckpointError(f"{path}: damaged: its content does not have the checksum written into it")
    return arrays, parse_metadata(own["metadata"])


def _read_tensor(path: Path, file: Any, name: str, entry: Mapping[str, Any], start: int) -> np.ndarray:
    """One array; bfloat16, for which NumPy has no dtype, as the float32 numbers of which it is the upper half."""
    if entry["dtype"] != "BF16":
        try:
            return file.get_tensor(name)
        except (TypeError, AttributeError, ValueError, _safetensors().SafetensorError):
            raise CheckpointError(f"{path}: {name} has dtype {entry['dtype']}, which NumPy does not know") from None
    first, end = entry["data_offsets"]
    halves = np.fromfile(path, "<u2", (end - first) // 2, offset=start + first)
    return (halves.astype(np.uint32) << 16).view(np.float32).reshape(entry["shape"])


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError:
        raise CheckpointError(
            'files of safetensors need the package of that name: pip install "minires[pretrained]"'
        ) from None
    return safetensors
