"""The folder of the site: complete, checked against its hashes, and never written over something else."""

import hashlib
import json
import re
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import pytest

import minires
from minires import cli
from minires.site import SiteError, build_site
from minires.site.build import MARK, examples
from minires.site.pyodide import copy_pyodide, pyodide_files, version
from minires.site.serve import ISOLATION, server

STATIC = Path(minires.__file__).parent / "site" / "static"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / "out"
    build_site(folder, book=False, told=lambda what: None)
    return folder


def test_every_file_that_a_page_names_is_there(site):
    pages = [*site.rglob("*.html"), *site.glob("static/*.js")]
    assert len(pages) > 8
    for page in pages:
        text = page.read_text()
        if page.name == "editor.js":  # a bundle stands alone
            continue
        for name in re.findall(r"""(?:src|href)="([^"#:]+)"|(?:from|URL\() ?"(\.[^"]+)\"""", text):
            target = page.parent / (name[0] or name[1])
            assert target.exists() or "/book/" in target.as_posix(), (page, name)


def test_the_runtime_lists_sizes_and_hashes_as_they_are(site):
    runtime = json.loads((site / "static" / "runtime.json").read_text())
    wheels = [f for f in runtime["files"] if f.get("wheel")]
    assert {w["name"].partition("-")[0] for w in wheels} == {"minires", "rich", "threadpoolctl"}
    for wheel in wheels:
        data = (site / "static" / "wheels" / wheel["name"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (wheel["size"], wheel["sha256"])
    assert runtime["pyodide"] == f"https://cdn.jsdelivr.net/pyodide/v{version()}/full/"
    assert [f["name"] for f in runtime["files"] if not f.get("later")][4].startswith("numpy-")


def test_pip_takes_the_wheels_and_they_hold_what_is_imported_here(site, tmp_path):
    wheels = sorted((site / "static" / "wheels").glob("*.whl"))
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", tmp_path, *wheels]
    subprocess.run(command, check=True, capture_output=True)
    assert (tmp_path / "minires" / "site" / "playground.py").read_bytes() == (
        STATIC.parent / "playground.py"
    ).read_bytes()
    run = [sys.executable, "-c", "import minires.ops, rich; print(minires.__file__)"]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(str(tmp_path))


def test_the_same_files_make_the_same_site(site, tmp_path):
    build_site(tmp_path / "again", book=False, told=lambda what: None)
    again = {p.relative_to(tmp_path / "again"): p.read_bytes() for p in (tmp_path / "again").rglob("*") if p.is_file()}
    assert again == {p.relative_to(site): p.read_bytes() for p in site.rglob("*") if p.is_file()}


def test_a_site_replaces_an_older_one_and_nothing_else(site, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(SiteError, match="holds something that is no site"):
        build_site(tmp_path, book=False)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
    old = tmp_path / "old"
    old.mkdir()
    (old / MARK).write_text("{}")
    (old / "left.html").write_text("")
    build_site(old, book=False, told=lambda what: None)
    assert not (old / "left.html").exists() and (old / "playground" / "index.html").exists()
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_pyodide_comes_from_a_folder_only_with_the_right_hashes(tmp_path, capsys):
    source = tmp_path / "pyodide"
    source.mkdir()
    with pytest.raises(SiteError, match=r"has no pyodide\.js"):
        copy_pyodide(source, tmp_path / "a")
    for file in pyodide_files():
        (source / file.name).write_bytes(b"something else")
    with pytest.raises(SiteError, match="SHA-256 differs"):
        copy_pyodide(source, tmp_path / "b")
    code = cli.main(["site", "--out", str(tmp_path / "out"), "--pyodide", str(source), "--no-book"])
    assert code == 2 and "SHA-256 differs" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_the_server_sends_the_headers_of_isolation_to_this_machine_alone(site):
    with server(site) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        assert web.server_address[0] == "127.0.0.1"
        with urllib.request.urlopen(f"http://127.0.0.1:{web.server_port}/playground/index.html") as reply:
            assert {name: reply.headers[name] for name in ISOLATION} == ISOLATION
            assert b"Playground" in reply.read()
        web.shutdown()


def test_the_examples_are_programs_with_a_title_and_a_text():
    found = examples()
    assert len({e["name"] for e in found}) == len(found) > 15
    for example in found:
        compile(example["source"] + example.get("tail", ""), example["name"], "exec")
        assert example["title"] and example["about"]


def test_the_editor_is_small_enough_to_be_read_over_a_slow_line():
    assert (STATIC / "editor.js").stat().st_size < 400_000
