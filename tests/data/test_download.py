"""Downloads, from a server on this machine: checked, complete or not there, taken up where they broke off."""

import functools
import hashlib
import http.server
import io
import tarfile
import threading

import pytest

from minires import cli
from minires.data import DataError
from minires.data.cifar import TEST_FILE, TRAIN_FILES
from minires.data.download import SOURCES, Source, download

pytest.importorskip("pooch")


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, notes what was asked for, and breaks off in the middle of names that say so."""

    asked: list[str]

    def do_GET(self):
        self.asked.append(self.path.lstrip("/"))
        if self.path.endswith("breaks-off"):
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"half")
            return
        super().do_GET()

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "server"
    folder.mkdir()
    Handler.asked = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder)) as found:
        found.folder, found.url = folder, f"http://127.0.0.1:{found.server_port}/"
        thread = threading.Thread(target=found.serve_forever, args=(0.02,))
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def serve(server, files):
    """Put the files on the server; their Source."""
    for name, content in files.items():
        (server.folder / name).write_bytes(content)
    return Source(server.url, {n: f"sha256:{hashlib.sha256(c).hexdigest()}" for n, c in files.items()})


class Bar:
    total = 0
    seen = 0

    def update(self, size):
        self.seen += size

    def reset(self):
        self.seen = 0

    def close(self):
        self.closed = True


def test_files_arrive_once(server, tmp_path):
    source, bar = serve(server, {"a.gz": b"A" * 5000, "b.gz": b"B"}), Bar()
    folder = download("mnist", tmp_path / "data", source, bar)
    assert (folder / "a.gz").read_bytes() == b"A" * 5000 and bar.closed
    download("mnist", tmp_path / "data", source)
    assert Handler.asked == ["a.gz", "b.gz"]


def test_a_wrong_checksum_leaves_nothing_behind(server, tmp_path):
    source = serve(server, {"a.gz": b"right"})
    (server.folder / "a.gz").write_bytes(b"wrong")
    with pytest.raises(DataError, match=r"a\.gz: not downloaded.*hash"):
        download("mnist", tmp_path / "data", source)
    assert list((tmp_path / "data" / "mnist").iterdir()) == []


def test_a_broken_connection_leaves_nothing_behind_and_whole_files_stay(server, tmp_path):
    source = serve(server, {"a.gz": b"whole"})
    broken = source._replace(files={**source.files, "breaks-off": "sha256:" + "0" * 64})
    with pytest.raises(DataError, match="breaks-off: not downloaded"):
        download("mnist", tmp_path / "data", broken)
    assert [path.name for path in (tmp_path / "data" / "mnist").iterdir()] == ["a.gz"]
    download("mnist", tmp_path / "data", source)
    assert Handler.asked.count("a.gz") == 1


def test_no_server_and_no_file(server, tmp_path):
    with pytest.raises(DataError, match="404"):
        download("mnist", tmp_path, Source(server.url, {"missing.gz": "md5:0"}))
    with pytest.raises(DataError, match="not downloaded"):
        download("mnist", tmp_path, Source("http://127.0.0.1:9/", {"a.gz": "md5:0"}))


def tar_of(names):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(name)
            tar.addfile(info, io.BytesIO(name.encode()))
    return content.getvalue()


def test_cifar_is_unpacked_by_name_and_nothing_else_is(server, tmp_path):
    inside = [f"cifar-10-batches-bin/{name}" for name in (*TRAIN_FILES, TEST_FILE)]
    source = serve(server, {"cifar.tar.gz": tar_of([*inside, "../../outside", "cifar-10-batches-bin/readme.html"])})
    folder = download("cifar10", tmp_path / "data", source)
    assert sorted(path.name for path in folder.iterdir()) == sorted([*TRAIN_FILES, TEST_FILE])
    assert not list(tmp_path.rglob("outside"))
    download("cifar10", tmp_path / "data", source)
    assert Handler.asked == ["cifar.tar.gz"]


def test_an_archive_that_lacks_a_file(server, tmp_path):
    with pytest.raises(DataError, match="lacks test_batch"):
        download("cifar10", tmp_path, serve(server, {"cifar.tar.gz": tar_of(TRAIN_FILES)}))


def test_the_command_downloads_and_says_where_to(server, tmp_path, capsys, monkeypatch):
    source = serve(server, {"a.gz": b"A" * 3000})
    monkeypatch.setitem(SOURCES, "mnist", source._replace(url="http://127.0.0.1:9/"))
    assert cli.main(["data", "mnist", "--data-dir", str(tmp_path / "data"), "--url", server.url]) == 0
    assert f"mnist is in {tmp_path / 'data' / 'mnist'}" in capsys.readouterr().out.replace("\n", "")
    assert (tmp_path / "data" / "mnist" / "a.gz").stat().st_size == 3000


def test_sources_name_checksums():
    assert all(sum.partition(":")[0] == "md5" and len(sum) == 36 for s in SOURCES.values() for sum in s.files.values())
