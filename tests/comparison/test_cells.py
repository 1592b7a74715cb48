"""Which cells need several seeds, what is said of a cell, and what is kept of a comparison."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace

import pytest

from minires import init
from minires.comparison import Case, Run, Signal, Store, cells_of, edge_cases, headline
from minires.comparison import store as store_module
from minires.comparison.report import accuracy, foreseen_against_happened, table, to_csv
from minires.theory.forecast import Forecast
from minires.theory.outlook import MOVES, TOO_SMALL, UNDECIDED, UNKNOWN, Outlook


def run(accuracy=0.97, network="plain", name="he", seed=0, word=None, last=0.1):
    signal = Signal({"relu": 0.7, "linear": 1.0}, {"relu": 0.01, "linear": 0.02})
    outlook = Outlook(word, 0.9, 0.05, 0.05, 3.0, 2.0) if word else UNKNOWN
    case = Case(network, name, init.HeNormal(), seed=seed)
    foreseen = Forecast("steady", [("relu", 0.7), ("linear", 1.0)], [("relu", 0.01), ("linear", 0.02)])
    return Run(case, signal, foreseen, (2.3, last), math.isnan(accuracy), accuracy, last, outlook)


def test_only_cells_near_an_edge_are_run_again():
    clear = [run(a, name=f"i{i}") for i, a in enumerate([0.97, 0.1, 0.98, 0.1, 0.96, 0.1, 0.95] * 6)]
    near = [run(0.5, name="middle"), run(0.91, name="nearly")]
    assert [(case.name, case.seed) for case in edge_cases([*clear, *near])] == [
        *(("middle", 1), ("middle", 2), ("nearly", 1), ("nearly", 2))
    ]
    assert edge_cases(clear) == []


def test_where_the_law_was_undecided_another_seed_may_decide():
    even = replace(run(0.09, name="even"), outlook=Outlook(UNDECIDED, 0.55, 0.45, 0.0, 0.1, 1.0))
    clear = [run(0.97, name=f"i{i}", word=MOVES) for i in range(12)]
    unknown = [run(0.97, name="pretrained")]  # no law is no doubt
    assert [case.name for case in edge_cases([*clear, even, *unknown])] == ["even", "even"]


def test_a_surprise_comes_first_and_the_time_is_bounded():
    runs = [run(0.5, name=f"i{i}") for i in range(43)] + [run(0.97, name="surprise", word=TOO_SMALL)]
    found = edge_cases(runs)
    assert found[0].name == "surprise"
    assert len(found) <= 0.3 * len(runs) and len(found) % 2 == 0


@pytest.mark.parametrize(
    ("accuracies", "said", "outcome"),
    [
        ([0.97], "97%", "learned"),
        ([0.09, 0.91, 0.8], "80% (9-91)", "learned"),
        ([0.91, 0.1, 0.09], "10% (9-91)", "never left log(10)"),
        ([0.1, math.nan, math.nan], "NaN (NaN-10)", "diverged"),
    ],
)
def test_the_middle_run_speaks_for_a_cell(accuracies, said, outcome):
    runs = [run(a, seed=i, last=0.1 if a > 0.5 else 2.31) for i, a in enumerate(accuracies)]
    (cell,) = cells_of(runs)
    assert (accuracy(cell), cell.outcome) == (said, outcome)
    assert cell.first.case.seed == 0


def test_the_headline_counts_what_the_table_calls_learned():
    """After one epoch too: by the accuracy at its end, not by a loss that is the mean over it."""
    runs = [run(0.74, last=1.9), run(0.3, name="slow", last=1.9), run(0.8, network="residual + BatchNorm", last=1.6)]
    assert (
        headline(cells_of(runs))
        == "20 layers, 2 ways to start: 1 learns in a plain network, 1 with shortcuts and BatchNorm"
    )


def test_foreseen_against_happened_counts_runs():
    runs = [
        run(word=MOVES),
        run(0.1, seed=1, word=MOVES, last=2.3),
        run(0.1, name="x", word=TOO_SMALL, last=2.3),
        run(),
    ]
    said = foreseen_against_happened(cells_of(runs))
    assert said == "training, foreseen: right in 2 of 3 runs, undecided in 1 of 4 runs"


def test_a_run_is_kept_whole(tmp_path):
    runs = [run(word=MOVES), replace(run(math.nan, name="normal"), losses=(math.inf, math.nan), last_loss=math.inf)]
    store = Store(tmp_path)
    for each in runs:
        store.add(each)
    again = Store(tmp_path)
    for each in runs:
        assert repr(again.get(each.case)) == repr(each)  # nan is not equal to itself
    assert again.taken == 2
    assert again.get(replace(runs[0].case, lr=0.3)) is None


def test_runs_of_other_code_and_damaged_files_are_not_taken_over(tmp_path, monkeypatch):
    store = Store(tmp_path)
    store.add(run())
    with monkeypatch.context() as patch:
        patch.setattr(store_module, "checksum_of_code", lambda: "other")
        assert Store(tmp_path).get(run().case) is None
    assert Store(tmp_path).get(run().case) is not None
    for text in ("", "{", "[]", json.dumps({"code": store.code}), json.dumps({"code": store.code, "runs": 3})):
        store.path.write_text(text)
        assert Store(tmp_path).get(run().case) is None


@pytest.mark.parametrize("width", [60, 80, 100, 110, 140])
def test_the_table_fits_its_terminal_and_breaks_no_word(width):
    from rich.console import Console

    names = ["he_normal", "xavier_uniform", "uniform:0.05"]
    runs = [run(0.79, name=name, seed=seed, word=MOVES) for name in names for seed in range(3)]
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(table(cells_of(runs), width))
    text = console.export_text()
    assert all(len(line.rstrip()) <= width for line in text.splitlines())
    wanted = ["initializer", "foreseen", "happened", "accuracy", *names]
    wanted += ["forward", "back", "measured", "loss"] if width >= 80 else []
    assert all(word in text for word in wanted)


def test_the_csv_has_every_seed():
    lines = to_csv(cells_of([run(0.9), run(0.5, seed=1), run(0.4, seed=2)])).splitlines()
    found = [line.split(",")[-3:] for line in lines if ",accuracy_by_seed," in line]
    assert found == [["0", "", "0.9"], ["1", "", "0.5"], ["2", "", "0.4"]]
    assert len({line.split(",")[5] for line in lines[1:]}) == 1
