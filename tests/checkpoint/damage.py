"""Damaged and hostile files of weights, drawn by seed: what a reader has to survive.

`python -m tests.checkpoint.damage` tries 2,000 of them and prints the table kept in evidence.md.
"""

import io
import json
import os
import struct
import tempfile
import time
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np

from minires import nn
from minires.checkpoint import CheckpointError, read, write_weights


def originals(folder):
    """{kind: (bytes of a good file, the weights in it)}: .npz as minires writes it, compressed, and safetensors."""
    weights = nn.resnet(8, width=8, in_channels=1).state_dict()
    files = {}
    for kind in (".npz", ".safetensors"):
        path = Path(folder) / f"good{kind}"
        write_weights(path, weights, {"run": {"data": "digits"}})
        files[kind] = (path.read_bytes(), weights)
    packed = io.BytesIO()
    varied = {name: array + np.random.default_rng(0).standard_normal(array.shape) for name, array in weights.items()}
    np.savez_compressed(packed, **varied)
    files["compressed .npz"] = (packed.getvalue(), varied)
    return files


def truncated(content, rng):
    return content[: rng.integers(len(content))]


def flipped(content, rng):
    """One to eight bits turned over; half of the time in the first or last kilobyte, where the structure is."""
    changed = bytearray(content)
    for _ in range(rng.integers(1, 9)):
        places = (len(content), min(len(content), 1024))
        at = int(rng.integers(places[int(rng.integers(2))]))
        at = at if rng.integers(2) else len(content) - 1 - at
        changed[at] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def swapped(content, rng):
    """Two stretches of the file exchanged: headers where data should be, and the other way round."""
    length = int(rng.integers(1, min(512, len(content) // 4)))
    a, b = sorted(int(at) for at in rng.integers(0, len(content) - length, 2))
    b = max(b, a + length)
    return (
        content[:a] + content[b : b + length] + content[a + length : b] + content[a:b][:length] + content[b + length :]
    )


def overwritten(content, rng):
    """A stretch of zeros, of ones, or of noise."""
    length = int(rng.integers(1, 64))
    at = int(rng.integers(len(content) - length))
    fill = [bytes(length), b"\xff" * length, rng.bytes(length)][rng.integers(3)]
    return content[:at] + fill + content[at + length :]


def npy(shape, dtype="'<f4'", version=b"\1\0", data=b"", fortran=False):
    header = f"{{'descr': {dtype}, 'fortran_order': {fortran}, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H" if version == b"\1\0" else "<I", len(header)) + header + data


def archive(members, compression=zipfile.ZIP_STORED):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as file:
        for name, data in members:
            file.writestr(name, data)
    return content.getvalue()


def safetensors(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def hostile():
    """{what: content}: files made to do harm. Every one of them has to be refused."""
    entry = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
    nested = b"(" * 5000 + b")" * 5000
    return {
        "npz of 4 TB": archive([("a.npy", npy((1 << 40,), data=bytes(16)))]),
        "npz whose size overflows": archive([("a.npy", npy((1 << 62, 1 << 62), data=bytes(16)))]),
        "npz of negative size": archive([("a.npy", npy((-4,), data=bytes(16)))]),
        "npz of two negative sizes": archive([("a.npy", npy((-2, -2), data=bytes(16)))]),
        "npz with a pickle": archive([("a.npy", npy((1,), "'|O'", data=b"cos\nsystem\n(S'true'\ntR."))]),
        "npz of structured dtype": archive([("a.npy", npy((1,), "[('x', '<f4'), ('y', '|O')]", data=bytes(16)))]),
        "npz of text": archive([("a.npy", npy((4,), "'<U1'", data=bytes(16)))]),
        "npz of times": archive([("a.npy", npy((2,), "'<M8[s]'", data=bytes(16)))]),
        "npz of empty elements": archive([("a.npy", npy((1 << 40,), "'|V0'"))]),
        "npz with a call in its header": archive([("a.npy", npy("__import__('os').getpid()", data=bytes(16)))]),
        "npz with a deep header": archive([("a.npy", npy(nested.decode(), version=b"\2\0", data=bytes(16)))]),
        "npz of unknown version": archive([("a.npy", npy((4,), version=b"\7\0", data=bytes(16)))]),
        "npz with 4 bytes too few": archive([("a.npy", npy((4,), data=bytes(12)))]),
        "npz with 4 bytes too many": archive([("a.npy", npy((4,), data=bytes(20)))]),
        "npz of 33 axes": archive([("a.npy", npy((1,) * 33, data=bytes(4)))]),
        "npz without arrays": archive([("../../evil.txt", b"x")]),
        "npz twice the same name": _twice(),
        "zip bomb": archive([("a.npy", npy((1 << 24,), data=bytes(1 << 26)))], zipfile.ZIP_DEFLATED),
        "npz in another compression": archive([("a.npy", npy((4,), data=bytes(16)))], zipfile.ZIP_LZMA),
        "npz with metadata that is no JSON": archive([("__metadata__.npy", npy((1,), "'|u1'", data=b"{"))]),
        "npz that is empty": b"PK\x05\x06" + bytes(18),
        "safetensors of 4 TB": safetensors(
            {"a": {**entry, "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}, bytes(16)
        ),
        "safetensors whose size overflows": safetensors({"a": {**entry, "shape": [1 << 62, 1 << 62]}}, bytes(16)),
        "safetensors of negative size": safetensors({"a": {**entry, "shape": [-4]}}, bytes(16)),
        "safetensors with overlap": safetensors({"a": entry, "b": entry}, bytes(16)),
        "safetensors with a hole": safetensors({"a": {**entry, "data_offsets": [16, 32]}}, bytes(32)),
        "safetensors of unknown dtype": safetensors({"a": {**entry, "dtype": "O"}}, bytes(16)),
        "safetensors of an 8-bit float": safetensors({"a": {**entry, "dtype": "F8_E4M3", "shape": [16]}}, bytes(16)),
        "npz whose directory has lost a member": _lost(),
        "safetensors with a deep header": safetensors(b"[" * 100_000),
        "safetensors with a huge header": struct.pack("<Q", 1 << 62) + b"{}",
        "safetensors with a header longer than itself": struct.pack("<Q", 100) + b"{}",
        "safetensors that is no JSON": safetensors(b"\xff\xfe{}"),
        "safetensors of a wrong checksum": safetensors(
            {"__metadata__": {"minires": json.dumps({"sha256": "0" * 64, "metadata": "{}"})}, "a": entry}, bytes(16)
        ),
        "safetensors without its checksum": safetensors({"__metadata__": {"minires": "{}"}, "a": entry}, bytes(16)),
        "safetensors with metadata that is no JSON": safetensors(
            {"__metadata__": {"minires": "{"}, "a": entry}, bytes(16)
        ),
        "empty file": b"",
        "one byte": b"P",
        "a pickle": b"\x80\x04K\x01.",
        "text": b"import os\n",
    }


def _lost():
    """Two members, of which the directory lists one: its end record still says two."""
    content = archive([("a.npy", npy((4,), data=bytes(16))), ("b.npy", npy((4,), data=bytes(16)))])
    last, end = content.rfind(b"PK\1\2"), content.rfind(b"PK\5\6")
    shorter = bytearray(content[:last] + content[end:])
    at = len(shorter) - 22
    shorter[at + 12 : at + 16] = (int.from_bytes(content[end + 12 : end + 16], "little") - (end - last)).to_bytes(
        4, "little"
    )
    return bytes(shorter)


def _twice():
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return archive([("a.npy", npy((4,), data=bytes(16)))] * 2)


DAMAGES = (truncated, flipped, swapped, overwritten)


def outcome(path, content, weights):
    """What reading the damaged file did: "refused" or "loaded"; AssertionError where it loaded other values.

    Any exception but CheckpointError goes through. Returns (outcome, seconds, peak bytes).
    """
    path.write_bytes(content)
    tracemalloc.start()
    start = time.process_time()  # of this process alone, however busy the machine
    try:
        found, _ = read(path)
    except CheckpointError as error:
        result = "refused"
        assert str(path) in str(error)
    else:
        result = "loaded"
        same = found.keys() == weights.keys() and all(np.array_equal(found[n], weights[n]) for n in weights)
        assert same, "loaded other values"
    finally:
        seconds, peak = time.process_time() - start, tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return result, seconds, peak


def damaged_files(count, seed=0):
    """Yields (what, content, weights) of `count` damaged files, then every hostile one."""
    with tempfile.TemporaryDirectory() as folder:
        good = list(originals(folder).items())
    for number in range(count):
        rng = np.random.default_rng((seed, number))
        kind, (content, weights) = good[number % len(good)]
        damage = DAMAGES[number // len(good) % len(DAMAGES)]
        yield f"{kind}, {damage.__name__}", damage(content, rng), weights
    for what, content in hostile().items():
        yield what, content, {}


def main(count=2000, seed=0):
    table = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights"
        for what, content, weights in damaged_files(count, seed):
            result, seconds, peak = outcome(path, content, weights)
            row = table.setdefault(what if "," in what else "hostile", {"refused": 0, "loaded": 0, "s": 0.0, "x": 0.0})
            row[result] += 1
            row["s"] = max(row["s"], seconds)
            row["x"] = max(row["x"], peak / max(len(content), 1) if len(content) > 50_000 else 0.0)
    print(f"seed {seed}, {time.strftime('%Y-%m-%d')}, {os.uname().machine}\n")
    print(
        "| file, damage | refused | right values | longest, ms | peak memory / file |\n| --- | --- | --- | --- | --- |"
    )
    for what, row in table.items():
        ratio = f"{row['x']:.2f}" if row["x"] else "(small files)"
        print(f"| {what} | {row['refused']} | {row['loaded']} | {row['s'] * 1e3:.0f} | {ratio} |")


if __name__ == "__main__":
    main()
