"""Downloads data sets, through pooch (extra `data`): checked against known checksums, complete or not there at all.

pooch writes to a temporary name, compares the checksum, and renames; files that are there already and whole are left
alone, so a download that broke off is taken up at the file it had reached.
"""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from minires.files import atomic_write

from .cifar import FORMATS, Format
from .datasets import FOLDERS, data_root
from .split import DataError


class Source(NamedTuple):
    """Files below a common address, each with its checksum, as published by the data set's authors."""

    url: str
    files: dict[str, str]


SOURCES = {
    "mnist": Source(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        {
            "train-images-idx3-ubyte.gz": "md5:f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "train-labels-idx1-ubyte.gz": "md5:d53e105ee54ea40749a09fcbcd1e9432",
            "t10k-images-idx3-ubyte.gz": "md5:9fb629c4189551a2d022fa330f9573f3",
            "t10k-labels-idx1-ubyte.gz": "md5:ec29112dd5afa0611ce80d1b7f02629c",
        },
    ),
    "fashion": Source(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        {
            "train-images-idx3-ubyte.gz": "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "train-labels-idx1-ubyte.gz": "md5:25c81989df183df01b3e8a0aad5dffbe",
            "t10k-images-idx3-ubyte.gz": "md5:bef4ecab320f06d8554ea6380940ec79",
            "t10k-labels-idx1-ubyte.gz": "md5:bb300cfdad3c16e7a12a480ee83cd310",
        },
    ),
    "cifar10": Source(
        "https://www.cs.toronto.edu/~kriz/", {"cifar-10-binary.tar.gz": "md5:c32a1d4ab5d03f1284b67883e8d87530"}
    ),
    "cifar100": Source(
        "https://www.cs.toronto.edu/~kriz/", {"cifar-100-binary.tar.gz": "md5:03b5dce01913d631647c71ecec9e9cb8"}
    ),
}


class Bar(Protocol):
    """What pooch asks of a progress bar."""

    total: int

    def update(self, size: int) -> None: ...
    def reset(self) -> None: ...
    def close(self) -> None: ...


def download(name: str, data_dir: Path | None = None, source: Source | None = None, bar: Bar | None = None) -> Path:
    """Fetch what is missing of the data set `name` and return the folder it is in.

    source: another server and other checksums than `SOURCES[name]`: a mirror.
    Raises DataError where pooch is not installed, the server cannot be reached, or a checksum differs.
    """
    pooch = _pooch()
    source = source or SOURCES[name]
    folder = data_root(data_dir) / FOLDERS[name][0]
    for file, checksum in source.files.items():
        packed = file.endswith(".tar.gz")
        if packed and all((folder / part).is_file() for part in _unpacked(FORMATS[name])):
            continue
        downloader = pooch.HTTPDownloader(progressbar=bar or False, timeout=30)
        try:
            pooch.retrieve(source.url + file, checksum, fname=file, path=folder, downloader=downloader)
        except (OSError, ValueError) as error:  # requests' errors are OSErrors, a wrong checksum is a ValueError
            raise DataError(f"{source.url}{file}: not downloaded ({error})") from error
        if packed:
            _unpack_cifar(folder / file, FORMATS[name])
    return folder


def _unpacked(kind: Format) -> set[str]:
    return {*kind.train, kind.test}


def _unpack_cifar(archive: Path, kind: Format) -> None:
    """Take the data set's files out of the archive, by name and nothing else of it, and remove it."""
    wanted = _unpacked(kind)
    with tarfile.open(archive) as tar:
        for member in tar:
            name = Path(member.name).name
            if name in wanted and member.isfile():
                content = tar.extractfile(member)
                atomic_write(archive.parent / name, lambda file, content=content: file.write(content.read()))
                wanted.remove(name)
    if wanted:
        raise DataError(f"{archive}: lacks {', '.join(sorted(wanted))}")
    archive.unlink()


def _pooch() -> Any:
    try:
        import pooch
    except ImportError:
        raise DataError('downloads need pooch, which is not installed: pip install "minires[data]"') from None
    pooch.get_logger().setLevel("WARNING")
    return pooch
