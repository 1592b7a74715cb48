"""The figures behind the gradient checks, measured: `python -m tests.gradcheck.evidence [--jobs N] [SECTION ...]`.

Sections: faults (every fault of the catalogue on 20 random configurations), right (5,000 right functions, see
`right_cases`), pairs (300 compositions of two faults: is the first sentence true?), words (the same without the
catalogue, and of students' faults), entry (an error of 1e-3 in one entry of a small residual network, 200 trials),
kinks (a network's crossings against the law), speed (of one check), demo (its time). All by default;
the table of the last run is kept in `evidence.md` beside this file.
"""

from __future__ import annotations

import math
import platform
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from pathlib import Path

import numpy as np

from minires import nn
from minires.gradcheck import CATALOGUE, Fault, check_model, check_op
from minires.gradcheck.call import Call
from minires.gradcheck.configurations import draw
from minires.gradcheck.definitions import DEFINITIONS, run_backward, run_forward
from minires.gradcheck.faults import faults_of
from minires.gradcheck.kinks import poisson_quantile
from minires.gradcheck.layer_pair import LayerPair
from minires.gradcheck.layers import MODEL_DIRECTIONS
from minires.gradcheck.numerical import ROUNDOFF
from minires.gradcheck.probing import Plan
from minires.gradcheck.tensor_check import Examination
from minires.gradcheck.user_functions import Subject
from tests.gradcheck.right_cases import KINDS
from tests.gradcheck.sentences import Facts, check, first_sentence
from tests.gradcheck.words import words

SEED = 2026
JOBS = 1
"""Processes; `--jobs N` says how many."""


def machine() -> str:
    """What the figures were measured on."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processor = f"{len(names)} cores of {names[0]}" if names else platform.machine()
    return f"{processor}, Python {platform.python_version()}, NumPy {np.__version__}"


def mapped(work: Callable, items: list) -> list:
    """work(item) for every item, in JOBS processes."""
    if JOBS == 1:
        return list(map(work, items))
    with ProcessPoolExecutor(JOBS) as pool:
        return list(pool.map(work, items, chunksize=max(1, len(items) // (20 * JOBS))))


def one_fault(item: tuple[str, int]) -> tuple[bool, str | None]:
    """Whether a planted fault is detected, and which name it is given."""
    name, i = item
    fault = CATALOGUE[name]
    inputs, options = draw(fault.op, np.random.default_rng([SEED, i, zlib.crc32(name.encode())]), **fault.needs)
    report = check_op(
        lambda *a: fault.forward(*a, **options), fault.backward, inputs, like=fault.op, options=options, seed=i
    )
    return report.verdict == "fail", report.fault


def faults(configurations: int = 20) -> list[str]:
    """How many planted faults are detected, and named at first place."""
    items = [(name, i) for name in CATALOGUE for i in range(configurations)]
    found = mapped(one_fault, items)
    detected = sum(seen for seen, _ in found)
    named = sum(said == name for (name, _), (_, said) in zip(items, found, strict=True))
    misses = Counter(
        f"{name} -> {'detected' if seen else 'missed'}, {said}"
        for (name, _), (seen, said) in zip(items, found, strict=True)
        if said != name or not seen
    )
    return [
        f"{len(CATALOGUE)} faults x {configurations} configurations: {detected} of {len(items)} detected (`fail`)",
        f"named at first place: {named} of {len(items)}",
        *(f"otherwise: {miss} ({n}x)" for miss, n in misses.items()),
    ]


def one_right(i: int) -> tuple[str, str, int, list[float], str | None]:
    """Kind, verdict, entries, error / bound of the tensors that pass, and the diagnosis of a right function."""
    rng = np.random.default_rng([SEED, 1, i])
    shares = np.array([share for _, share in KINDS.values()])
    kind = str(rng.choice(list(KINDS), p=shares / shares.sum()))
    report = KINDS[kind][0](rng)
    entries = sum(math.prod(row.shape) for row in report.tensors if row.name != "y")
    ratios = [row.error / row.bound for row in report.tensors if row.bound and row.verdict == "pass"]
    return kind, report.verdict, entries, ratios, report.diagnosis


def right(configurations: int = 5000) -> list[str]:
    """Right functions of every kind of `right_cases`: what they are called, and how close they come to the bound."""
    found = mapped(one_right, list(range(configurations)))
    verdicts = Counter((kind, verdict) for kind, verdict, *_ in found)
    ratios = [ratio for *_, some, _ in found for ratio in some]
    fails = sum(n for (_, verdict), n in verdicts.items() if verdict == "fail")
    entries = sum(n for _, _, n, _, _ in found)
    lines = [f"{configurations} right configurations, {entries} entries: {fails} called `fail`"]
    for kind in KINDS:
        counts = ", ".join(f"{n} {verdict}" for (k, verdict), n in verdicts.most_common() if k == kind)
        lines.append(f"{kind} ({KINDS[kind][0].__doc__.splitlines()[0].rstrip('.')}): {counts}")
    lines.append(
        f"error / bound of {len(ratios)} tensors that pass: median {np.median(ratios):.2f}, max {max(ratios):.2f}"
    )
    wrong = [f"{kind} {i}: {said}" for i, (kind, verdict, _, _, said) in enumerate(found) if verdict == "fail"]
    return lines + [f"called wrong: {line}" for line in wrong]


WAYS = ("with like", "without like")


def one_pair(i: int) -> list[tuple[str, str, bool, bool | None, str]]:
    """A composition of two faults: way, verdict, whether it was named, whether the first sentence is true, both."""
    rng = np.random.default_rng([SEED, 4, i])
    by_op = {op: [f for f in faults_of(op) if f.rule is None] for op in DEFINITIONS}
    composed = None
    while composed is None:
        op = str(rng.choice([op for op, known in by_op.items() if len(known) > 1]))
        pair = [by_op[op][k] for k in rng.choice(len(by_op[op]), 2, replace=False)]
        inputs, options = draw(op, rng, **(pair[0].needs | pair[1].needs))
        composed = compose(pair, inputs, options)
    *functions, facts = composed
    told = []
    for way, known in zip(WAYS, ({"like": op, "options": options}, {}), strict=True):
        report = check_op(*functions, inputs, **known)
        seen = facts if known else facts.renamed([row.name for row in report.tensors])
        truth = check(report.diagnosis or "", seen)
        both = f"{pair[0].name} + {pair[1].name}: {first_sentence(report.diagnosis or '')}"
        told.append((way, report.verdict, bool(report.fault), truth, both))
    return told


def pairs(compositions: int = 300) -> list[str]:
    """Two faults of one op at once, their errors added up: what the first sentence claims, held against the arrays.

    Each with `like`, where the catalogue can name both, and without, where the hypotheses are on their own.
    """
    found = [told for both in mapped(one_pair, list(range(compositions))) for told in both]
    lines = []
    for way in WAYS:
        mine = [told for told in found if told[0] == way]
        detected, named = sum(t[1] == "fail" for t in mine), sum(t[2] for t in mine)
        checked, false = sum(t[3] is not None for t in mine), sum(t[3] is False for t in mine)
        lines.append(
            f"{compositions} compositions of two faults {way}: {detected} detected, {named} named from the catalogue; "
            f"first sentences checked by a rule: {checked}, of them false: {false}"
        )
    return lines + [f"false, {way}: {both}" for way, _, _, truth, both in found if truth is False]


def compose(pair: list[Fault], inputs: tuple, options: dict) -> tuple | None:
    """A function with the errors of two faults added up; None where they do not add up or cancel."""
    try:
        with np.errstate(all="ignore"):
            ys = [fault.forward(*inputs, **options) for fault in pair]
            y, cache = run_forward(pair[0].op, inputs, options)
            dy = np.random.default_rng(0).standard_normal(np.shape(y)) if np.ndim(y) else 1.0
            all_right = run_backward(pair[0].op, dy, cache)[: len(inputs)]
            theirs = [fault.backward(dy, saved) for fault, (_, saved) in zip(pair, ys, strict=True)]
    except (ValueError, IndexError, KeyError, TypeError):
        return None
    changed = [not np.allclose(mine, y) if np.shape(mine) == np.shape(y) else True for mine, _ in ys]
    if any(changed):
        return None  # a forward that is wrong changes what is right for backward
    if any(a.shape != b.shape for gradients in theirs for a, b in zip(gradients, all_right, strict=False)):
        return None

    def forward(*arrays: np.ndarray) -> tuple:
        value, saved = pair[0].forward(*arrays, **options)
        return value, (saved, pair[1].forward(*arrays, **options)[1])

    def backward(dy: np.ndarray, caches: tuple) -> tuple:
        _, cache = run_forward(pair[0].op, caches[0].inputs, options)
        right_ones = run_backward(pair[0].op, dy, cache)[: len(inputs)]
        both = [fault.backward(dy, saved) for fault, saved in zip(pair, caches, strict=True)]
        return tuple(a + b - c for a, b, c in zip(*both, right_ones, strict=True))

    facts = _facts(pair, forward, backward, inputs, options)
    return (forward, backward, facts) if any(map(facts.is_wrong, facts.yours)) else None


def _facts(pair: list[Fault], forward: Callable, backward: Callable, inputs: tuple, options: dict) -> Facts:
    names = [f"d{name}" for name in DEFINITIONS[pair[0].op].inputs[: len(inputs)]]
    y, cache = run_forward(pair[0].op, inputs, options)
    seed = Call(Subject(forward, backward, list(inputs)), list(inputs), names)
    seed.set_upstream(np.asarray(y), None, 0)
    right_ones = run_backward(pair[0].op, seed.dy, cache)[: len(inputs)]
    mine = backward(seed.dy, forward(*inputs)[1])
    arrays = dict(zip(DEFINITIONS[pair[0].op].inputs, inputs, strict=False))
    same = [
        fault.name
        for fault in faults_of(pair[0].op)
        if fault.rule is None and _gives(fault, mine, seed.dy, inputs, options)
    ]
    return Facts(
        dict(zip(names, map(np.asarray, mine), strict=True)),
        dict(zip(names, map(np.asarray, right_ones), strict=True)),
        arrays,
        (*(fault.name for fault in pair), *same),
    )


def _gives(fault: Fault, gradients: tuple, dy: np.ndarray, inputs: tuple, options: dict) -> bool:
    """Whether one fault by itself gives these gradients, so that its sentence is true of them.

    A term that is doubled and a term that is added where it is subtracted are together a term that is missing.
    """
    try:
        with np.errstate(all="ignore"):
            theirs = fault.backward(dy, fault.forward(*(a.copy() for a in inputs), **options)[1])
    except (ValueError, IndexError, KeyError, TypeError):
        return False
    pairs = zip(gradients, theirs, strict=False)
    return len(gradients) == len(theirs) and all(a.shape == b.shape and np.allclose(a, b) for a, b in pairs)


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
        with pair.watching():
            examination = Examination(slots[chosen], call.evaluator(chosen), np.ones(()), plan)
            report, _ = examination.run(pair.names[chosen - 1], spoiled)
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


def speed(checks: int = 200) -> list[str]:
    """The time of one check of a right op, and of one that fails and is explained."""
    seconds = {"right": [], "wrong": []}
    for i in range(checks):
        fault = list(CATALOGUE.values())[i % len(CATALOGUE)]
        inputs, options = draw(fault.op, np.random.default_rng([SEED, 5, i]), **fault.needs)
        right_pair = (
            lambda *a, f=fault, o=options: run_forward(f.op, a, o),
            lambda dy, c, f=fault: run_backward(f.op, dy, c),
        )
        wrong_pair = (lambda *a, f=fault, o=options: f.forward(*a, **o), fault.backward)
        for name, pair in (("right", right_pair), ("wrong", wrong_pair)):
            begun = time.perf_counter()
            check_op(*pair, inputs, like=fault.op, options=options)
            seconds[name].append(time.perf_counter() - begun)
    return [
        f"{name} op: median {1000 * np.median(s):.0f} ms, 95 % under {1000 * np.quantile(s, 0.95):.0f} ms"
        for name, s in seconds.items()
    ]


def demo() -> list[str]:
    """The time of `python -m minires gradcheck`."""
    from minires.cli import main

    begun = time.perf_counter()
    code = main(["gradcheck"])
    return [f"`python -m minires gradcheck`: exit code {code}, {time.perf_counter() - begun:.0f} s"]


SECTIONS = {
    "faults": faults,
    "right": right,
    "pairs": pairs,
    "words": lambda: words(mapped),
    "entry": entry,
    "kinks": kinks,
    "speed": speed,
    "demo": demo,
}


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
        kept[name] = f"## {name}, seed {SEED}, {date.today().isoformat()}, {machine()}\n\n{body}\n"
    command = "`python -m tests.gradcheck.evidence [--jobs N] [SECTION ...]`"
    head = f"# Measured evidence of the gradient checks\n\n{command}\n\n"
    path.write_text(head + "\n".join(kept[name] for name in SECTIONS if name in kept), encoding="utf-8")


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if arguments[:1] == ["--jobs"]:
        JOBS, arguments = int(arguments[1]), arguments[2:]
    for chosen in arguments or list(SECTIONS):
        begun = time.perf_counter()
        measured = SECTIONS[chosen]()
        print(*measured, f"({time.perf_counter() - begun:.0f} s)", sep="\n", flush=True)
        write({chosen: measured})
