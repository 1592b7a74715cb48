"""Weights and runs on disk: NumPy's .npz, safetensors, and checkpoints a killed run is resumed from.

Reading trusts nothing. There is no pickle; what a file claims about itself (how many members, how large, which dtype)
is held against the file's own size before memory is taken; checksums are compared; and whatever is wrong becomes a
`CheckpointError` that names the file and the reason.

A .npz archive is a zip file with one .npy member an array. Its members are stored uncompressed, each with a CRC-32.
safetensors stands in `safetensors_files`, PyTorch's format in `pytorch_files`.
"""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np

from .backend import Array, to_numpy
from .checks import check_state
from .files import atomic_write

METADATA = "__metadata__"
"""The member of a .npz file that holds its metadata: JSON as UTF-8 bytes, an array of uint8."""

KINDS = "biufc"
"""The kinds of dtype a file may hold: booleans, integers, floating-point and complex numbers."""

MOST_MEMBERS = 100_000
MOST_HEADER = 1000
MOST_INFLATION = 3
"""Arrays in a file, of which a run of 6,002 layers, the deepest, saves 48,000; bytes of an array's header; an archive's
contents relative to its size."""

LONGEST_NAME = 1000

CHUNK = 1 << 16

Weights = dict[str, np.ndarray]


class CheckpointError(ValueError):
    """A file of weights, or a checkpoint, that is missing, damaged, hostile or of another run."""


# Files of weights


def read_weights(path: str | os.PathLike[str]) -> Weights:
    """The arrays of a .npz or .safetensors file by name, whichever of the two its content shows it to be.

    Raises CheckpointError where the file is missing, damaged, or of another format.
    """
    return read(path)[0]


def read(path: str | os.PathLike[str]) -> tuple[Weights, dict[str, Any]]:
    """The arrays and the metadata (an empty dict where there is none). Errors as `read_weights`."""
    path = _as_path(path)
    with as_checkpoint_error(path):
        with path.open("rb") as file:
            start = file.read(9)
        if start[:4] == b"PK\x03\x04":
            return _read_npz(path)
        if start[8:] == b"{":  # eight bytes of length, which may be any, then JSON
            from .safetensors_files import read_safetensors

            return read_safetensors(path)
        _refuse_others(path, start)


def write_weights(
    path: str | os.PathLike[str], state: Mapping[str, Array], metadata: Mapping[str, Any] | None = None
) -> None:
    """Write arrays by name, and metadata that JSON can hold, as .safetensors or .npz, by the ending of `path`.

    The names are kept, and minires' names are PyTorch's: `load_file` of safetensors gives a dict that
    `torch.nn.Module.load_state_dict` takes. Raises CheckpointError for what could not be read again, OSError
    where the file cannot be written.
    """
    path = _as_path(path)
    if path.suffix not in (".npz", ".safetensors"):
        raise CheckpointError(f"{path}: the ending says the format; expected .npz or .safetensors")
    arrays = {name: _writable(name, array) for name, array in check_state("state", state).items()}
    _check_metadata(metadata)
    if not arrays and not metadata:
        raise CheckpointError("state is empty; expected arrays")
    if len(arrays) >= MOST_MEMBERS:
        raise CheckpointError(f"state holds {len(arrays)} arrays; fewer than {MOST_MEMBERS} are read again")
    if path.suffix == ".safetensors":
        from .safetensors_files import safetensors_bytes

        content = safetensors_bytes(arrays, metadata or {})
        atomic_write(path, lambda file: file.write(content))
    else:
        if metadata:
            arrays[METADATA] = np.frombuffer(json.dumps(metadata).encode(), dtype=np.uint8)
        atomic_write(path, lambda file: _write_npz(file, arrays))


def _writable(name: str, array: Array) -> np.ndarray:
    """The array as files hold it: on the host, in order, its bytes in the machine's order."""
    kept = name.encode(errors="ignore").decode().replace("\0", "")  # half a character has no UTF-8, zip ends at a zero
    if not 0 < len(name) <= LONGEST_NAME or name == METADATA or name != kept:
        raise CheckpointError(f"state: {name!r:.60} is no name that files keep")
    array = np.asarray(to_numpy(array), order="C")
    if array.dtype.kind not in KINDS:
        raise TypeError(f"state: {name} has dtype {array.dtype}; expected numbers")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _as_path(path: str | os.PathLike[str]) -> Path:
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path is a {type(path).__name__}; expected the name of a file")
    return Path(path)


def _check_metadata(metadata: Mapping[str, Any] | None) -> None:
    try:
        if metadata is not None and not isinstance(json.loads(json.dumps(metadata)), dict):
            raise TypeError("it is no dictionary")
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"metadata cannot be written as JSON ({error}); expected names and plain values") from None


def pytorch_names(
    state: Mapping[str, np.ndarray], head: str = "linear", projection: str = "shortcut"
) -> dict[str, np.ndarray]:
    """The arrays under the names that a PyTorch ResNet has for them: its head, and its projections (torchvision: "fc"
    and "downsample"). Whatever convention `state` has, prefixes and BatchNorm's counters (num_batches_tracked) are
    dropped. Raises CheckpointError where two arrays would have one name.
    """
    from .pretrained import translate

    for what, word in (("head", head), ("projection", projection)):
        if not isinstance(word, str) or not word:
            raise TypeError(f"{what} is {word!r:.60}; expected a name, such as 'fc' or 'downsample'")

    renamed, kept, origin = {"linear": head, "shortcut": projection}, {}, {}
    for name, array in check_state("state", state).items():
        if name.endswith("num_batches_tracked"):
            continue
        new = translate(name)
        if new in kept:
            raise CheckpointError(f"{origin[new]} and {name} would both be {new}; expected one of them")
        kept[new], origin[new] = array, name
    return {".".join(renamed.get(part, part) for part in name.split(".")): array for name, array in kept.items()}


OTHER_KINDS = {
    b"\x93NUMPY": "one array (.npy) without a name; expected .npz: numpy.savez(file, **state_dict)",
    b"\x89HDF\r\n\x1a\n": "HDF5, as Keras writes it; expected .npz or .safetensors",
    b"\x1f\x8b": "a gzipped file; expected what is in it: unpack it first",
    b"version h": "a pointer of Git LFS, not the file itself, which `git lfs pull` fetches",
    b"<": "a web page or another text; expected the file that its address promises",
    b"\x89PNG": "a picture (PNG); expected weights",
    b"\xff\xd8\xff": "a picture (JPEG); expected weights",
    b"%PDF": "a document (PDF); expected weights",
    b"{": "a text, JSON it seems; expected weights",
    b"PK\x05\x06": "an empty zip archive; expected arrays in it",
}
"""How files start that are taken for weights by mistake, whatever they are called."""


def other_kind(start: bytes) -> str | None:
    """What a file is that starts like this, if it is surely no file of weights."""
    if not start:
        return "an empty file; expected weights in it"
    return next((what for known, what in OTHER_KINDS.items() if start.startswith(known)), None)


def _refuse_others(path: Path, start: bytes) -> NoReturn:
    """Say what a file is that is neither .npz nor .safetensors, and what to do about it."""
    if (what := other_kind(start)) is not None:
        raise CheckpointError(f"{path}: {what}")
    if start[:1] == b"\x80" or path.suffix.lower() in (".pth", ".pt", ".th", ".ckpt"):
        raise CheckpointError(
            f"{path}: neither .npz nor .safetensors; a file of PyTorch's is converted once by "
            f"`python -m minires convert {shlex.quote(str(path))}`"
        )
    if path.suffix == ".safetensors":
        raise CheckpointError(f"{path}: not a safetensors file, or damaged: no header after its first 8 bytes")
    raise CheckpointError(f"{path}: neither .npz nor .safetensors, but {start[:4]!r} at its start")


@contextmanager
def as_checkpoint_error(path: Path) -> Iterator[None]:
    """Turn what zipfile, zlib, NumPy and safetensors raise on damaged files into one error that names the file."""
    try:
        yield
    except CheckpointError:
        raise
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except Exception as error:
        if path.is_dir():
            raise CheckpointError(f"{path} is a folder; expected a file, such as weights.npz in it") from None
        reason = str(error)[:200]  # zipfile puts the bytes it found into its texts
        raise CheckpointError(f"{path}: cannot be read as weights ({reason})") from error


# .npz


def _write_npz(file: BinaryIO, arrays: Mapping[str, np.ndarray]) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _read_npz(path: Path) -> tuple[Weights, dict[str, Any]]:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        _check_names(path, [member.filename for member in members])
        check_archive(path, archive)
        arrays = {member.filename.removesuffix(".npy"): _read_member(archive, member) for member in members}
    stored = arrays.pop(METADATA, None)
    return arrays, {} if stored is None else parse_metadata(stored.tobytes())


def parse_metadata(text: str | bytes) -> dict[str, Any]:
    metadata = json.loads(text)
    if not isinstance(metadata, dict):
        raise ValueError("its metadata is no JSON object")
    return metadata


def _check_names(path: Path, names: list[str]) -> None:
    if any(name.rpartition("/")[2] == "data.pkl" for name in names):
        raise CheckpointError(
            f"{path}: a file of PyTorch's, which is converted once by "
            f"`python -m minires convert {shlex.quote(str(path))}`"
        )
    if len(set(names)) != len(names) or not all(name.endswith(".npy") for name in names):
        raise CheckpointError(f"{path}: expected .npy members, each once; found {sorted(names)[:5]}")


def check_archive(path: Path, archive: zipfile.ZipFile) -> None:
    """Hold what a zip archive claims of itself, how many members of what size, against the file's own size.

    zipfile takes as many members as it finds; a directory that lost some of them shows in the record at the end.
    """
    members = archive.infolist()
    if len(members) > MOST_MEMBERS:
        raise CheckpointError(f"{path}: {len(members)} arrays; at most {MOST_MEMBERS} are read")
    if len(members) != (claimed := _claimed_members(path)):
        raise CheckpointError(f"{path}: damaged: its directory lists {len(members)} members, its end says {claimed}")
    if any(member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for member in members):
        raise CheckpointError(f"{path}: members are compressed in a way NumPy does not use")
    claimed, size = sum(member.file_size for member in members), path.stat().st_size
    if claimed > MOST_INFLATION * size:
        raise CheckpointError(
            f"{path}: {size} bytes that claim to unpack to {claimed}, more than {MOST_INFLATION} times as many; "
            "refused, as a zip bomb would be. If the file is yours, write it anew without compression"
        )


def check_contents(path: Path, archive: zipfile.ZipFile) -> None:
    """Compare every member's checksum (CRC-32) with its bytes; needs no more memory than a chunk."""
    for member in archive.infolist():
        with archive.open(member) as file:
            while file.read(CHUNK):
                pass


END, END64 = b"PK\x05\x06", b"PK\x06\x06"


def _claimed_members(path: Path) -> int:
    """How many members the archive's end record says there are (65,535 there: its 64-bit twin says it)."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - (1 << 16) - 22 - 20 - 56))
        tail = file.read()
    at, at64 = tail.rfind(END), tail.rfind(END64)
    count = int.from_bytes(tail[at + 10 : at + 12], "little")
    return int.from_bytes(tail[at64 + 32 : at64 + 40], "little") if count == 0xFFFF and at64 >= 0 else count


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """One .npy member, its header held against the member's size first. zipfile compares the CRC at its end."""
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise CheckpointError(f"{archive.filename}: {member.filename} has .npy version {version}")
        read_header = getattr(np.lib.format, f"read_array_header_{version[0]}_0")
        shape, fortran_order, dtype = read_header(file, max_header_size=MOST_HEADER)
        _check_array(f"{archive.filename}: {member.filename}", shape, dtype, member.file_size - file.tell())
        array = np.empty(math.prod(shape), dtype)
        target, at = memoryview(array.view(np.uint8)), 0
        while chunk := file.read(CHUNK):
            target[at : at + len(chunk)] = chunk
            at += len(chunk)
    if at != array.nbytes:
        raise CheckpointError(f"{archive.filename}: {member.filename} ends {array.nbytes - at} bytes early")
    return array.reshape(shape, order="F" if fortran_order else "C")


def _check_array(where: str, shape: tuple[int, ...], dtype: np.dtype, available: int) -> None:
    """Refuse an array whose dtype is none of `KINDS` or whose size is not exactly the bytes that are there."""
    if dtype.kind not in KINDS:
        raise CheckpointError(f"{where} has dtype {dtype}; only numbers are read")
    if any(not isinstance(length, int) or length < 0 for length in shape) or len(shape) > 8:
        raise CheckpointError(f"{where} has shape {shape}")
    if math.prod(shape) * dtype.itemsize != available:
        raise CheckpointError(f"{where} has shape {shape} of {dtype}, which does not fit its {available} bytes")


# Checkpoints of a run

KEPT = 2
"""How many checkpoints of a run stay on the disk: the newest, and one more should that one be lost."""


def save_checkpoint(folder: Path, step: int, arrays: Mapping[str, np.ndarray], state: dict[str, Any]) -> Path:
    """Write `folder/checkpoint-STEP.npz` (arrays, and `state` as JSON), then drop all but the last `KEPT`.

    Raises OSError, with the earlier checkpoints untouched, where it cannot be written.
    """
    path = folder / f"checkpoint-{step:08d}.npz"
    write_weights(path, arrays, state)
    for old in checkpoints(folder)[KEPT:]:
        old.unlink(missing_ok=True)
    return path


def model_in(arrays: Weights, metadata: dict[str, Any]) -> tuple[Weights, dict[str, Any]]:
    """The model's part of a checkpoint, and the run's settings; other files' content as it is."""
    found = {name.removeprefix("model/"): array for name, array in arrays.items() if name.startswith("model/")}
    return (found, metadata.get("config", {})) if found else (arrays, metadata)


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a run, the newest first. Unfinished ones have other names and are not among them."""
    found = [path for path in folder.glob("checkpoint-*.npz") if re.fullmatch(r"checkpoint-\d+", path.stem)]
    return sorted(found, key=lambda path: int(path.stem.partition("-")[2]), reverse=True)


def load_checkpoint(folder: Path) -> tuple[Path, Weights, dict[str, Any]]:
    """The newest checkpoint of `folder` that can be read: its path, arrays and state.

    Raises CheckpointError where there is none, with what is wrong with each.
    """
    problems = []
    for path in checkpoints(folder):
        try:
            return path, *read(path)
        except CheckpointError as error:
            problems.append(str(error))
    raise CheckpointError("; ".join(problems) or f"{folder}: holds no checkpoint to resume from")
