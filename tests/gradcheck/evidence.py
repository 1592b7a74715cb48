"""The figures behind the gradient checks, measured: `python -m tests.gradcheck.evidence [SECTION ...]`.

Sections: faults (every fault of the catalogue on 20 random configurations), right (2,000 right functions), entry (an
error of 1e-3 in one entry of a small residual network, 200 trials), kinks (a network's crossings against the law),
demo (its time). All by default; the table of the last run is kept in `evidence.md` beside this file.
"""

from __future__ import annotations

import sys
import time
import zlib
from collections import Counter
from datetime import date
from pathlib import Path

import numpy as np

from minires import nn
from minires.gradcheck import CATALOGUE, check_model, check_op
from minires.gradcheck.call import Call
from minires.gradcheck.configurations import draw
from minires.gradcheck.definitions import DEFINITIONS, run_backward, run_forward
from minires.gradcheck.kinks import poisson_quantile
from minires.gradcheck.layer_pair import LayerPair
from minires.gradcheck.layers import MODEL_DIRECTIONS
from minires.gradcheck.numerical import ROUNDOFF
from minires.gradcheck.tensor_check import Examination, Plan
from minires.gradcheck.user_functions import Subject

SEED = 2026


def faults(configurations: int = 20) -> list[str]:
    """How many planted faults are detected, and named at first place."""
    detected, named, misses = 0, 0, []
    for name, fault in CATALOGUE.items():
        for i in range(configurations):
            inputs, options = draw(fault.op, np.random.default_rng([SEED, i, zlib.crc32(name.encode())]), **fault.needs)
            report = check_op(
                lambda *a, fault=fault, options=options: fault.forward(*a, **options),
                fault.backward,
                inputs,
                like=fault.op,
                options=options,
                seed=i,
            )
            detected += report.verdict == "fail"
            named += report.fault == name
            if report.verdict != "fail" or report.fault != name:
                misses.append(f"{name} -> {report.verdict}, {report.fault}")
    total = len(CATALOGUE) * configurations
    lines = [f"{len(CATALOGUE)} faults x {configurations} configurations: {detected} of {total} detected (`fail`)"]
    lines.append(f"named at first place: {named} of {total}")
    return lines + [f"missed: {miss} ({n}x)" for miss, n in Counter(misses).items()]


def right(configurations: int = 2000) -> list[str]:
    """How many right functions are called anything but `pass`, and how close their entries come to the bound."""
    verdicts, ratios, entries = Counter(), [], 0
    operations = list(DEFINITIONS)
    for i in range(configurations):
        op = operations[i % len(operations)]
        inputs, options = draw(op, np.random.default_rng([SEED, 1, i]))
        report = check_op(
            lambda *a, op=op, options=options: run_forward(op, a, options),
            lambda dy, cache, op=op: run_backward(op, dy, cache),
            inputs,
            like=op,
            options=options,
            seed=i,
        )
        verdicts[report.verdict] += 1
        entries += sum(x.size for x in inputs)
        ratios += [row.error / row.bound for row in report.tensors if row.bound]
    counts = ", ".join(f"{n} {verdict}" for verdict, n in verdicts.most_common())
    return [
        f"{configurations} right configurations, {entries} entries: {counts}",
        f"expected `fail`: {entries} x P(|Z| > 5.6) = {entries * 2.1e-8:.1e}, if rounding has the full uS as sd",
        f"largest error / bound of {len(ratios)} tensors: median {np.median(ratios):.2f}, max {max(ratios):.2f}",
    ]


def entry(trials: int = 200) -> list[str]:
    """A relative error of 1e-3 in one entry of one weight gradient of a small residual network.

    Only the tensor with the error is examined, as `check_model` would with its default directions and one entry.
    """
    found = left_out = 0
    for trial in range(trials):
        rng = np.random.default_rng([SEED, 2, trial])
        x, labels = rng.standard_normal((4, 3, 7, 6)), rng.integers(0, 10, 4)
        pair = LayerPair(nn.resnet(depth=8, width=2, rng=trial), x, nn.SoftmaxCrossEntropy(), labels)
        slots = [x, *pair.values]
        call = Call(Subject(pair.forward, pair.backward, slots), slots, ["x", *pair.names], see=pair.switches)
        gradients = pair.backward(1.0, pair.forward(*slots)[1])
        weights = [i for i, g in enumerate(gradients) if i and g.ndim > 1]
        chosen = weights[int(rng.integers(len(weights)))]
        spoiled = gradients[chosen].copy()
        candidates = np.flatnonzero(spoiled)  # an entry of 0 cannot be off by a thousandth of it
        spoiled.flat[candidates[int(rng.integers(len(candidates)))]] *= 1.001
        plan = Plan("central", 1, MODEL_DIRECTIONS, ROUNDOFF["float64"], rng)
        report, _ = Examination(slots[chosen], call.evaluator(chosen), np.ones(()), plan).run(
            pair.names[chosen - 1], spoiled
        )
        found += report.verdict == "fail"
        left_out += report.left_out
    return [
        f"one entry off by 1e-3, resnet8 of width 2: found in {found} of {trials} trials "
        f"(1 entry and {MODEL_DIRECTIONS} random lines; {left_out} probes left out at kinks)"
    ]


def kinks(networks: int = 10) -> list[str]:
    """Steps left out because a switch was crossed, over whole networks, against the law."""
    left_out, crossed, expected = 0, 0, 0.0
    for seed in range(networks):
        rng = np.random.default_rng([SEED, 3, seed])
        model = nn.resnet(depth=8, width=4, rng=seed)
        report = check_model(model, rng.standard_normal((4, 3, 9, 8)), rng.integers(0, 10, 4), seed=seed)
        left_out += sum(row.left_out for row in report.tensors)
        crossed += report.switches_crossed
        expected += report.switches_expected
    high, low = poisson_quantile(expected, 5e-7), poisson_quantile(expected, 1 - 5e-7)
    return [
        f"{networks} networks resnet8 of width 4: {crossed} switches crossed ({left_out} steps left out for it), the "
        f"law expects {expected:.1f} (Poisson, false alarm 1e-6: {low} to {high})"
    ]


def demo() -> list[str]:
    """The time of `python -m minires gradcheck`."""
    from minires.cli import main

    begun = time.perf_counter()
    code = main(["gradcheck"])
    return [f"`python -m minires gradcheck`: exit code {code}, {time.perf_counter() - begun:.0f} s"]


SECTIONS = {"faults": faults, "right": right, "entry": entry, "kinks": kinks, "demo": demo}


def write(results: dict[str, list[str]]) -> None:
    """Replaces the sections measured now in evidence.md and keeps the others."""
    path = Path(__file__).with_suffix(".md")
    kept = {}
    if path.exists():
        for block in path.read_text(encoding="utf-8").split("\n## ")[1:]:
            title, _, body = block.partition("\n")
            kept[title.split(",")[0]] = f"## {title}\n{body.rstrip()}\n"
    for name, lines in results.items():
        body = "\n".join(f"- {line}" for line in lines)
        kept[name] = f"## {name}, seed {SEED}, {date.today().isoformat()}\n\n{body}\n"
    head = "# Measured evidence of the gradient checks\n\n`python -m tests.gradcheck.evidence [SECTION ...]`\n\n"
    path.write_text(head + "\n".join(kept[name] for name in SECTIONS if name in kept), encoding="utf-8")


if __name__ == "__main__":
    for chosen in sys.argv[1:] or list(SECTIONS):
        begun = time.perf_counter()
        measured = SECTIONS[chosen]()
        print(*measured, f"({time.perf_counter() - begun:.0f} s)", sep="\n", flush=True)
        write({chosen: measured})
