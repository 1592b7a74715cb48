"""Packages for platforms, tried with the platforms' own tools: python -m pytest -q tests/course/round_trips.py

Needs `pip install nbgrader==0.9.6 otter-grader==7.0.0`; what is not installed is skipped. The solution gets all points,
the stub 0, a wrong one something in between.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

import minires
from minires.course import isolation, load
from minires.course.building import solution_text, stub_text
from minires.course.platforms import classroom50, package
from minires.course.wheel import wheel, wheel_name
from tests.slowness import PATIENCE

LINEAR = load("linear_softmax")
GOOD = solution_text(LINEAR)
WRONG = GOOD.replace("dy.sum(axis=0) if has_bias", "dy.mean(axis=0) if has_bias")
SUBMISSIONS = {"good": GOOD, "stub": stub_text(LINEAR), "wrong": WRONG}
HOME = {"PYTHONPATH": str(Path(minires.__file__).parents[1])}
TOOLS = {"PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"}  # nbgrader calls alembic by its name
ENVIRONMENT = {**os.environ, **HOME, **TOOLS, "OPENBLAS_NUM_THREADS": "1"}
PATIENT = [f"--Execute.{what}={PATIENCE}" for what in ("timeout", "startup_timeout", "iopub_timeout")]
"""nbgrader's options: by itself it gives a cell half a minute, and its output four seconds."""


def _expected(name: str, earned: float, points: float = 12.0) -> None:
    if name == "wrong":
        assert 8 < earned < points
    else:
        assert earned == (points if name == "good" else 0)


def _run(command: list[str], folder: Path, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=folder, env=ENVIRONMENT | environment, capture_output=True, text=True, timeout=2 * PATIENCE
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


needs_isolation = pytest.mark.skipif(
    isolation.available() == ("none",), reason="this machine can isolate no submission"
)


# --- the wheel -----------------------------------------------------------------------------------------------------


def test_the_wheel_is_whole_and_needs_what_the_project_needs():
    import io
    import tomllib

    from minires.course.wheel import REQUIREMENTS

    pyproject = tomllib.loads((Path(minires.__file__).parents[1] / "pyproject.toml").read_text())
    assert list(REQUIREMENTS) == pyproject["project"]["dependencies"]
    archive = zipfile.ZipFile(io.BytesIO(wheel()))
    assert archive.testzip() is None and wheel() == wheel()
    names = archive.namelist()
    assert "minires/data/digits.npz" in names and not any("__pycache__" in n for n in names)


# --- Gradescope ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gradescope(tmp_path_factory):
    """A folder laid out as Gradescope's /autograder, set up by the package's own setup.sh."""
    if isolation.available() == ("none",):
        pytest.skip("this machine can isolate no submission")
    root = tmp_path_factory.mktemp("gradescope") / "autograder"
    (zip_file,) = package(LINEAR, "gradescope", root.parent / "package")
    (root / "source").mkdir(parents=True)
    (root / "results").mkdir()
    with zipfile.ZipFile(zip_file) as archive:
        archive.extractall(root / "source")
        for entry in archive.infolist():
            assert (entry.external_attr >> 16) & 0o100 == (
                0o100 if "." not in entry.filename[-5:] or "setup" in entry.filename else 0
            )
    for name in ("setup.sh", "run_autograder"):
        (root / "source" / name).chmod(0o755)
    path = "/usr/bin:/bin" if not shutil.which("apt-get") else None
    tools = root.parent / "tools"  # no apt-get: nothing of this machine shall be changed
    tools.mkdir()
    for name in ("bash", "env", "python3"):
        (tools / name).symlink_to(sys.executable if name == "python3" else shutil.which(name))
    _run([str(root / "source" / "setup.sh")], root, AUTOGRADER_ROOT=str(root), PATH=path or str(tools), PYTHONPATH="")
    return root


@pytest.mark.parametrize("name", SUBMISSIONS)
def test_gradescope_from_its_zip_to_results(gradescope, name):
    submission = gradescope / "submission"
    shutil.rmtree(submission, ignore_errors=True)
    submission.mkdir()
    (submission / "linear_softmax.py").write_text(SUBMISSIONS[name])
    (gradescope / "submission_metadata.json").write_text(json.dumps({"id": 1, "users": [{"id": 7}]}))
    (gradescope / "results" / "results.json").unlink(missing_ok=True)
    _run([str(gradescope / "source" / "run_autograder")], gradescope, AUTOGRADER_ROOT=str(gradescope), PYTHONPATH="")
    told = json.loads((gradescope / "results" / "results.json").read_text())
    _expected(name, told["score"])
    assert abs(sum(t["score"] for t in told["tests"]) - told["score"]) < 0.02
    assert abs(sum(t["max_score"] for t in told["tests"]) - 12) < 0.02
    assert {t["visibility"] for t in told["tests"]} == {"visible", "after_published"}
    hidden = [t for t in told["tests"] if t["visibility"] != "visible"]
    assert not any("right is" in t["output"] for t in hidden)


def test_gradescope_without_a_submission_still_writes_results(gradescope):
    shutil.rmtree(gradescope / "submission", ignore_errors=True)
    _run([str(gradescope / "source" / "run_autograder")], gradescope, AUTOGRADER_ROOT=str(gradescope), PYTHONPATH="")
    assert json.loads((gradescope / "results" / "results.json").read_text())["score"] == 0


# --- Classroom 50 --------------------------------------------------------------------------------------------------


@needs_isolation
@pytest.mark.parametrize("name", SUBMISSIONS)
def test_classroom50_writes_result_json(tmp_path, name):
    (tmp_path / "linear_softmax.py").write_text(SUBMISSIONS[name])
    given = {"CLASSROOM": "c", "ASSIGNMENT": "a", "SUBMISSION_TAG": "submit/1", "COMMIT_URL": "u", "RELEASE_URL": "r"}
    _run([sys.executable, "-m", "minires.course.platforms.classroom50", "linear_softmax"], tmp_path, **given)
    told = json.loads((tmp_path / "result.json").read_text())
    assert told["schema"] == "classroom50/result/v1" and told["review"] == "u" and told["max-score"] == 12
    assert all(type(t["score"]) is type(t["max-score"]) is int and type(t["passed"]) is bool for t in told["tests"])
    assert told["score"] == sum(t["score"] for t in told["tests"])
    _expected(name, told["score"])


def test_classroom50_says_when_the_grader_is_broken(tmp_path):
    command = [sys.executable, "-m", "minires.course.platforms.classroom50", "no_such_assignment"]
    done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 1 and "::error::" in done.stderr and not (tmp_path / "result.json").exists()


def test_classroom50s_bundle_says_what_is_no_secret(tmp_path):
    written = package(LINEAR, "classroom50", tmp_path)
    assert {p.name for p in written} == {"autograder.py", "README.md", wheel_name()}
    assert "Not secret" in (tmp_path / "README.md").read_text()
    assert classroom50.SCHEMA in "classroom50/result/v1"
    compile((tmp_path / "autograder.py").read_text(), "autograder.py", "exec")


# --- pytest --------------------------------------------------------------------------------------------------------


@needs_isolation
def test_plain_pytest_grades_each_part(tmp_path):
    package(LINEAR, "pytest", tmp_path)
    (tmp_path / "linear_softmax.py").write_text(WRONG)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_grade.py"]
    done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
    assert "1 failed, 3 passed" in done.stdout, done.stdout
    (tmp_path / "linear_softmax.py").write_text(GOOD)
    assert "4 passed" in _run(command, tmp_path)


# --- nbgrader ------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(find_spec("nbgrader") is None, reason="nbgrader is not installed")
def test_nbgrader_generates_and_autogrades(tmp_path):
    package(LINEAR, "nbgrader", tmp_path)
    nbgrader = [sys.executable, "-m", "nbgrader"]
    _run([*nbgrader, "generate_assignment", "linear_softmax", "--create"], tmp_path)
    release = (tmp_path / "release" / "linear_softmax" / "linear_softmax.ipynb").read_text()
    assert "BEGIN SOLUTION" not in release and "hidden=True" not in release and "dy.sum(axis=0)" not in release
    assert release.count("yours to write") == 4
    source = json.loads((tmp_path / "source" / "linear_softmax" / "linear_softmax.ipynb").read_text())
    wrong = json.dumps(source).replace("dy.sum(axis=0) if has_bias", "dy.mean(axis=0) if has_bias")
    for name, text in {"good": json.dumps(source), "stub": release, "wrong": wrong}.items():
        folder = tmp_path / "submitted" / name / "linear_softmax"
        folder.mkdir(parents=True)
        (folder / "linear_softmax.ipynb").write_text(text)
    _run([*nbgrader, "autograde", "linear_softmax", "--create", *PATIENT], tmp_path)
    code = (
        "import json\nfrom nbgrader.api import Gradebook\nwith Gradebook('sqlite:///gradebook.db') as book:\n"
        "    found = {s.student_id: [s.score, s.max_score] for s in book.assignment_submissions('linear_softmax')}\n"
        "print(json.dumps(found))\n"
    )
    scores = json.loads(_run([sys.executable, "-c", code], tmp_path).strip().splitlines()[-1])
    for name, (score, most) in scores.items():
        assert most == 12
        _expected(name, score)
    assert set(scores) == {"good", "stub", "wrong"}


# --- Otter ---------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(find_spec("otter") is None, reason="otter-grader is not installed")
def test_otter_runs_the_package(tmp_path):
    package(LINEAR, "otter", tmp_path)
    assert (tmp_path / "autograder.zip").is_file()
    for name, text in SUBMISSIONS.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "linear_softmax.py").write_text(text)
        command = [sys.executable, "-m", "otter", "run", "linear_softmax.py", "-a", "../autograder.zip", "--no-logo"]
        _run(command, folder)
        told = json.loads((folder / "results.json").read_text())
        scored = [t for t in told["tests"] if "score" in t and t.get("max_score")]
        _expected(name, round(sum(t["score"] for t in scored), 3))


@pytest.mark.skipif(find_spec("nbgrader") is None, reason="nbgrader is not installed")
def test_nbgrader_keeps_an_assignment_of_ones_own_to_itself(tmp_path):
    """Its secret and its reference are in the declaration, which grades but is not released."""
    from minires.commands.course import TEMPLATE

    file = tmp_path / "mine.py"
    file.write_text(TEMPLATE.format(name="mine", title="Mine", secret="k314159"))
    package(load(file), "nbgrader", tmp_path)
    nbgrader = [sys.executable, "-m", "nbgrader"]
    _run([*nbgrader, "generate_assignment", "mine", "--create"], tmp_path)
    assert not any("k314159" in p.read_text() for p in (tmp_path / "release").rglob("*") if p.is_file())
    folder = tmp_path / "submitted" / "good" / "mine"
    folder.mkdir(parents=True)
    (folder / "mine.ipynb").write_text((tmp_path / "source" / "mine" / "mine.ipynb").read_text())
    _run([*nbgrader, "autograde", "mine", "--create", *PATIENT], tmp_path)
    code = (
        "from nbgrader.api import Gradebook\nwith Gradebook('sqlite:///gradebook.db') as book:\n"
        "    print([s.score for s in book.assignment_submissions('mine')])\n"
    )
    assert _run([sys.executable, "-c", code], tmp_path).strip().splitlines()[-1] == "[10.0]"


def test_an_assignment_of_ones_own_is_packed_with_its_file(tmp_path):
    from minires.commands.course import TEMPLATE

    file = tmp_path / "mine.py"
    file.write_text(TEMPLATE.format(name="mine", title="Mine", secret="s"))
    own = load(file)
    for platform in ("gradescope", "classroom50", "pytest"):
        written = package(own, platform, tmp_path / platform)
        if platform == "gradescope":
            assert "mine.py" in zipfile.ZipFile(written[0]).namelist()
        else:
            assert "mine.py" in {p.name for p in written}
    assert dataclasses.replace(own, file="").points == 10
