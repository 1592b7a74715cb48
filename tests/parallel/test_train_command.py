"""`mpiexec -n 2 python -m minires train --parallel mpi`, as a user types it."""

import json
import signal
import subprocess
import sys
import time

import pytest

from minires.checkpoint import load_checkpoint
from tests.slowness import PATIENCE

from .launch import ROOT, needs_mpi, run, start

pytestmark = needs_mpi

SMALL = ("--epochs", 2, "--width", 4, "--batch-size", 64)


def train(size, folder, *arguments, **options):
    return run(size, "minires", "train", "--parallel", "mpi", *arguments, cwd=folder, **options)


def losses(folder):
    return [row["loss"] for row in json.loads((folder / "history.json").read_text())["steps"]]


def test_two_ranks_train_one_network_and_three_go_on_with_it(tmp_path):
    code, output, _ = train(2, tmp_path, *SMALL)
    assert code == 0, output
    assert output.count("epoch   2/2") == 1 and output.count("weights.npz") == 1
    assert "ranks, threads each" in output and "2, 1 " in output
    run_folder = tmp_path / "runs" / "digits-resnet8"
    assert {path.name for path in run_folder.iterdir()} >= {"weights.npz", "curves.png", "history.json"}
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["digits-resnet8"]
    versions = load_checkpoint(run_folder)[2]["versions"]
    assert (versions["ranks"], versions["threads"]) == ("2", "1")

    command = [sys.executable, "-m", "minires", "train", *map(str, SMALL), "--out", "alone"]
    subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "PATH": ""}, check=True, capture_output=True)
    alone, shared = losses(tmp_path / "alone"), losses(run_folder)
    assert len(shared) == len(alone) and abs(shared[0] - alone[0]) < 1e-5 and abs(shared[-1] - alone[-1]) < 1e-2

    code, output, _ = train(3, tmp_path, "--resume", "runs/digits-resnet8")
    assert code == 0 and "goes on with" in output, output


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path):
    process = start(2, "minires", "train", "--parallel", "mpi", "--epochs", 200, "--width", 4, cwd=tmp_path)
    folder = tmp_path / "runs" / "digits-resnet8"
    while not list(folder.glob("checkpoint-*[1-9]*.npz")):  # an epoch is over
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=PATIENCE)
    assert "stopped by SIGINT after step" in output, output
    assert "mpiexec -n 2 python -m minires train --resume runs/digits-resnet8 --parallel mpi" in output
    assert load_checkpoint(folder)[2]["epoch"] >= 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--resume", "nowhere"], "minires train: nowhere: holds no checkpoint to resume from"),
        (["--data", "mnist", "--data-dir", "nowhere"], "nowhere"),
        (["--batch-size", 1], "a batch of 1 images has none for some of 2 ranks"),
    ],
)
def test_what_a_user_can_put_right_is_said_once(arguments, sentence, tmp_path):
    code, output, _ = train(2, tmp_path, *arguments)
    assert code == 2 and output.count(sentence) == 1 and "Traceback" not in output, output


def test_a_folder_that_cannot_be_written_ends_all_ranks(tmp_path):
    (tmp_path / "file").write_text("")
    code, output, _ = train(2, tmp_path, *SMALL, "--out", "file/run")
    assert code == 1 and output.count("cannot write into file/run") == 1 and "Traceback" not in output, output


def test_options_for_ranks_need_ranks_and_ranks_need_the_option(tmp_path):
    code, output, _ = run(1, "minires", "train", "--local-bn", cwd=tmp_path)
    assert code == 2 and "they need --parallel mpi" in output
    code, output, _ = run(2, "minires", "train", cwd=tmp_path)
    assert code == 2 and "mpiexec has started 2 of this run" in output
    assert not (tmp_path / "runs").exists()
