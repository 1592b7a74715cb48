"""`fit` on several ranks: the run of a single process, whatever happens on the way."""

import json

import numpy as np
import pytest

from minires.checkpoint import checkpoints, load_checkpoint
from minires.parallel import DataParallel, MPIGroup
from minires.train import TrainingDiverged, fit

from .fit_programs import EPOCHS, IMAGES, absurd, digits, network, train
from .kills import trials
from .launch import needs_mpi, run

PROGRAMS = "tests.parallel.fit_programs"

pytestmark = needs_mpi


def curve(size, folder, *arguments, threads=1):
    """(losses of all steps, losses of the tests, images reported, warnings)."""
    code, output, _ = run(size, PROGRAMS, "curve", folder, *arguments, threads=threads)
    assert code == 0, output
    return json.loads(next(line for line in output.splitlines() if line.startswith("[")))


@pytest.fixture(scope="module")
def alone():
    """The losses of a single process: (steps, tests)."""
    history = train(network(), None, compile=True)
    return [row["loss"] for row in history.steps], history.column("test_loss")


@pytest.mark.parametrize(("size", "engine"), [(2, "compiled"), (3, "compiled"), (3, "definition")])
def test_the_loss_curve_on_the_digits_is_that_of_a_single_process(size, engine, alone, tmp_path):
    losses, tests, images, _ = curve(size, tmp_path, "", engine)
    np.testing.assert_allclose(losses, alone[0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(tests, alone[1], rtol=0, atol=1e-12)
    assert images == EPOCHS * IMAGES
    versions = load_checkpoint(tmp_path)[2]["versions"]
    assert (versions["ranks"], versions["threads"], versions["engine"]) == (str(size), "1", engine)


def test_with_local_batchnorm_it_is_another_run_that_other_ranks_cannot_go_on_with(alone, tmp_path):
    losses, *_ = curve(2, tmp_path, "", "compiled", "local")
    assert abs(np.array(losses) - alone[0]).max() > 1e-3
    again, *_ = curve(2, tmp_path, "resume", "compiled", "local")
    assert again == losses
    code, output, _ = run(3, PROGRAMS, "curve", tmp_path, "resume", "compiled", "local")
    assert code != 0 and "local_batchnorm was 2, is 3" in output


def test_a_signal_to_one_rank_stops_all_at_the_same_step_and_others_go_on(alone, tmp_path):
    code, output, _ = run(3, PROGRAMS, "interrupted", tmp_path)
    assert code == 0, output
    assert json.loads(output) == [f"stopped by SIGTERM after step 9; saved as {checkpoints(tmp_path)[0]}"] * 3
    losses, _, _, warned = curve(2, tmp_path, "resume")
    np.testing.assert_allclose(losses, alone[0], rtol=0, atol=1e-12)
    assert any("'ranks': '3'" in text and "'ranks': '2'" in text for text in warned)


def test_a_single_process_goes_on_with_a_run_of_three(alone, tmp_path):
    assert run(3, PROGRAMS, "interrupted", tmp_path)[0] == 0
    with pytest.warns(UserWarning, match="'ranks': '3'"):
        history = train(network(), None, compile=True, folder=tmp_path, resume=True)
    np.testing.assert_allclose([row["loss"] for row in history.steps], alone[0], rtol=0, atol=1e-12)


def test_a_run_that_diverges_names_the_layer_on_every_rank():
    code, output, _ = run(2, PROGRAMS, "diverged", ".")
    assert code == 0, output
    model = network()
    with pytest.raises(TrainingDiverged, match=r"first layer whose output is not finite: .* \(") as alone:
        train(model, None, compile=True, **absurd(model))
    assert json.loads(output) == [str(alone.value)] * 2


@pytest.mark.parametrize(
    ("program", "sentence"),
    [
        ("other_seed", "rank 1 and rank 0 differ in seed"),
        ("apart", "the weights of rank 1 have come to differ from those of rank 0"),
        ("small_batches", "a batch of 1 images has none for some of 2 ranks"),
        ("dropout", "draws its masks for a whole batch"),
    ],
)
def test_what_would_go_wrong_in_silence_ends_the_job_with_a_sentence(program, sentence):
    code, output, _ = run(2, PROGRAMS, program, ".")
    assert code != 0 and sentence in output, output


def test_what_makes_no_sense_is_refused():
    model, group = network(), MPIGroup()
    with pytest.raises(TypeError, match="parallel is"):
        fit(model, digits(), epochs=1, parallel=group)
    with pytest.raises(ValueError, match="another model"):
        fit(model, digits(), epochs=1, parallel=DataParallel(network(), group))
    with pytest.raises(ValueError, match="compile is True beside parallel"):
        fit(model, digits(), epochs=1, parallel=DataParallel(model, group), compile=True)
    with pytest.raises(ValueError, match="one forward"):
        DataParallel(model, group).backward(np.zeros((1, 10)))


def test_a_killed_rank_ends_the_job_and_the_run_goes_on():
    """A few of the kills of `kills.py`; all twenty run by `python -m tests.parallel.kills`."""
    for row in trials(2, seed=1):
        assert row["message"] and row["same bits"]
        assert row["largest difference of a loss"] < 1e-6
