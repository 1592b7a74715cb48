"""What training will do, foreseen, against what it did: grids of runs, declared here before any of them was run.

    python -m tests.theory.outcome_grid run 3 runs.csv       train all runs of the third grid that are not in the file
    python -m tests.theory.outcome_grid judge 3 runs.csv     foresee each of them, and count

A grid is 240 runs on one half of the digits: network, depth, width, initializer, learning rate (from 1e-5 to 1, its
logarithm uniform) and length drawn at random; the schedule of `minires compare` (a tenth of warm-up, then a cosine);
seeds that no other grid has. The limits of the law (`minires.theory.outlook`) were chosen on 198 other runs, drawn in
the same way by rng 7, with seeds 0 to 99, and have stayed as they are. What has changed since, by argument:

- after the first grid: a word that is to be right nine times of ten is said from a probability of 0.9 on (0.8 before),
  and of Dirac's weights, in which nothing is random, the law is undecided;
- after the second: of Dirac's weights in networks whose shortcuts move no channel, the law says that one channel alone
  lives (`minires.theory.forecast.one_channel_lives`), so that training will not move.

A run moved if it left the guess: more than a quarter of the held-out digits right at the end, or a loss over its last
tenth below 0.9 log 10. The law is right where it says "will move" of a run that moved, or anything else (but
"undecided") of one that did not. It is held against two baselines: the majority (one answer for all runs) and
"steady" alone (`theory.forecast`: the signal arrives in both directions); and against the rule that it replaced: S and
T alone.
"""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from minires import init, optim
from minires.comparison import NETWORKS, Case, build, halves
from minires.data import count_batches
from minires.train import TrainingDiverged, evaluate, fit

if TYPE_CHECKING:
    from minires.theory import TangentKernel

RUNS = 240

GRIDS = {1: (20261126, 1000), 2: (20261127, 2000), 3: (20261128, 3000)}
"""The number that a grid is drawn by, and the seed of its first run."""

INITIALIZERS = {
    "zero": init.Zeros(),
    "constant:0.01": init.Constant(0.01),
    "normal:0.01": init.Normal(0.01),
    "normal:0.1": init.Normal(0.1),
    "normal:1": init.Normal(1.0),
    "truncated_normal:0.02": init.TruncatedNormal(0.02),
    "uniform:0.05": init.Uniform(0.05),
    "lecun_normal": init.LeCunNormal(),
    "lecun_uniform": init.LeCunUniform(),
    "xavier_normal": init.XavierNormal(),
    "xavier_uniform": init.XavierUniform(),
    "he_normal": init.HeNormal(),
    "he_uniform": init.HeUniform(),
    "orthogonal": init.Orthogonal(),
    "dirac": init.Dirac(),
}
"""All that `--init` knows but delta_orthogonal, which does not fit the head."""

COLUMNS = ("network", "initializer", "depth", "width", "epochs", "lr", "seed", "accuracy", "last_loss", "moved")


def cases(grid: int) -> Iterator[Case]:
    """The runs of a grid."""
    number, first_seed = GRIDS[grid]
    rng = np.random.default_rng(number)
    for i in range(RUNS):
        network = str(rng.choice(list(NETWORKS)))
        name = str(rng.choice(list(INITIALIZERS)))
        yield Case(
            network,
            name,
            INITIALIZERS[name],
            depth=int(rng.choice([8, 14, 20, 32, 44, 56])),
            width=int(rng.choice([8, 16])),
            epochs=int(rng.choice([2, 4, 8])),
            lr=float(f"{10 ** rng.uniform(-5, 0):.3g}"),
            seed=first_seed + i,
        )


def schedule_of(case: Case, images: int) -> tuple[optim.Warmup, int]:
    """The learning rate of each step, and how many steps there are."""
    steps = case.epochs * count_batches(images, case.batch_size)
    return optim.Warmup(optim.Cosine(case.lr, steps), steps // 10), steps


def outcome(case: Case) -> tuple[float, float, bool]:
    """Held-out accuracy (nan if it diverged), mean loss of the last tenth of the steps, whether it moved."""
    model, data = build(case), halves()[1]
    init.initialize(model, case.initializer, rng=case.seed)
    schedule, steps = schedule_of(case, len(data.x_train))
    shown = data._replace(x_test=data.x_test[:1], y_test=data.y_test[:1])
    with np.errstate(all="ignore"):
        try:
            history = fit(
                model, shown, epochs=case.epochs, batch_size=32, schedule=schedule, seed=case.seed, compile=True
            )
        except TrainingDiverged:
            return math.nan, math.inf, False
        accuracy = evaluate(model, *data[2:])[1]
    last = float(np.mean([step["loss"] for step in history.steps[-max(5, steps // 10) :]]))
    return accuracy, last, last < 10 * math.log(10) and (accuracy > 0.25 or last < 0.9 * math.log(10))


def run(grid: int, path: Path) -> None:
    """Append what is not there yet."""
    done = {int(row["seed"]) for row in read(path)}
    with path.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if not done:
            writer.writerow(COLUMNS)
        for case in cases(grid):
            if case.seed not in done:
                accuracy, last, moved = outcome(case)
                about = [getattr(case, name) for name in ("network", "name", "depth", "width", "epochs", "lr", "seed")]
                writer.writerow([*about, f"{accuracy:.4g}", f"{last:.4g}", int(moved)])
                file.flush()


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a file that `run` wrote."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def interval(right: int, of: int) -> tuple[float, float]:
    """Wilson's interval for a rate, 95 %."""
    z, p = 1.96, right / of
    middle, half = p + z * z / (2 * of), z * math.sqrt(p * (1 - p) / of + z * z / (4 * of * of))
    return (middle - half) / (1 + z * z / of), (middle + half) / (1 + z * z / of)


def foreseen(case: Case) -> tuple[str, bool, bool]:
    """The law's word for a case, whether the theory of the signal alone calls it steady, what S and T alone say."""
    from minires.theory import outlook, predict, tangent_kernel
    from minires.theory.forecast import ALIKE, ONE_LIVES, one_channel_lives, read, units_alike

    model, data = build(case), halves()[1]
    init.initialize(model, case.initializer, rng=case.seed)
    if units_alike(model):
        return ALIKE, False, False
    random = not isinstance(case.initializer, init.Dirac)
    schedule, steps = schedule_of(case, len(data.x_train))
    with np.errstate(all="ignore"):
        predicted = predict(model, (case.batch_size, *data.x_train.shape[1:]), weight=None)
        rates = [schedule(step) for step in range(steps)]
        kernel = tangent_kernel(model, predicted)
        word = outlook(kernel if random else None, max(rates), sum(rates)).word
    steady = read(predicted).verdict == "steady"
    if one_channel_lives(model):
        word = ONE_LIVES
    return word, steady, kernel is not None and by_trace(kernel, max(rates), sum(rates))


def by_trace(kernel: TangentKernel, rate: float, total: float) -> bool:
    """The rule that the law replaced: S of the whole kernel above .3 and, without BatchNorm, lr T/K below 100."""
    trace = sum(layer.kernel for layer in kernel.layers)
    e_foldings = total / (1 - 0.9) * trace / kernel.outputs
    return e_foldings > 0.3 and (kernel.normalized or rate * trace / kernel.outputs < 100)


def judge(grid: int, path: Path) -> None:
    """The tables of `evidence/outcome.md`."""
    from minires.theory.outlook import MOVES, UNDECIDED

    by_seed = {case.seed: case for case in cases(grid)}
    rows = [Judged(case := by_seed[int(row["seed"])], row, row["moved"] == "1", *foreseen(case)) for row in read(path)]
    print(TITLE)
    for name in ("all", *NETWORKS):
        group = [row for row in rows if name in ("all", row.case.network)]
        decided = [row for row in group if row.word != UNDECIDED]
        right = sum((row.word == MOVES) == row.moved for row in decided)
        low, high = interval(right, len(decided))
        moved = sum(row.moved for row in group) / len(group)
        steady, trace = (sum(getattr(row, which) == row.moved for row in group) for which in ("steady", "trace"))
        print(
            f"| {name} | {len(group)} | {1 - len(decided) / len(group):.1%} | {right} of {len(decided)}, "
            f"{right / len(decided):.1%} ({low:.1%} to {high:.1%}) | {max(moved, 1 - moved):.1%} | "
            f"{steady / len(group):.1%} | {trace / len(group):.1%} |"
        )
    for row in rows:
        if row.word != UNDECIDED and (row.word == MOVES) != row.moved:
            print(f"wrong: {row.word!r} of {row.case}: {row.row['accuracy']}, last loss {row.row['last_loss']}")


TITLE = """| network | runs | undecided | right | majority | "steady" | S and T |
| --- | --- | --- | --- | --- | --- | --- |"""


class Judged(NamedTuple):
    """A run, what happened, and what was foreseen: the law's word, by "steady" alone, by S and T alone."""

    case: Case
    row: dict[str, str]
    moved: bool
    word: str
    steady: bool
    trace: bool


if __name__ == "__main__":
    {"run": run, "judge": judge}[sys.argv[1]](int(sys.argv[2]), Path(sys.argv[3]))
