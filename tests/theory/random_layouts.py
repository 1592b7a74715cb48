"""Predictions held against real networks of layouts drawn at random: python -m tests.theory.random_layouts

Each layout is drawn from its own seed: convolutions of several kernels, strides, paddings and dilations, activations,
BatchNorm with gains and biases of its own, pooling, dropout, blocks of all three kinds with and without BatchNorm, an
initializer, a bias, a batch of 2 to 64 samples of white noise or of real images (the digits that minires carries; the
photographs of CIFAR-10 where --photographs names its folder). `predict` and `measure` see the same model and batch.

With --usual the networks are of the usual kinds instead, and deeper: ResNets, PreActs, bottlenecks and their plain
twins of one to three stages, most of them with BatchNorm, most of them on real images.

What is measured depends on no law: with --measured it is kept, and the next judgement takes a second a layout.
A row graded exact is a z-test, a row graded approximate agrees within its allowance and 3 standard errors. The table
says how many do, how large the allowances are, and what share of the rows has no grade.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minires import init, nn
from minires.data import load_digits
from minires.files import atomic_write_text
from minires.theory import measure, predict
from minires.theory.report import QUANTITIES

SEED, USUAL_SEED = 20261126, 777
BUDGET = 2e8
"""Multiplications of one pass times networks, about: small layouts are measured on more networks."""


class Layout(NamedTuple):
    """A model, the batch or its shape, and the initializers."""

    model: nn.Layer
    x: object
    weight: init.Initializer
    bias: init.Initializer
    photographs: bool


WEIGHTS = [
    *4 * [init.HeNormal()],
    init.HeUniform(),
    init.XavierNormal(),
    init.LeCunNormal(),
    init.Normal(0.2),
    init.Orthogonal(),
]
WILD = [*WEIGHTS, init.Normal(20.0), init.Zeros(), init.Constant(0.3), init.Dirac(), init.DeltaOrthogonal(), None]
"""What --only-predict draws from as well; None: the model's own weights."""
BIASES = [*4 * [init.Zeros()], init.Constant(0.3), init.Constant(-0.2), init.Normal(0.2)]
ACTIVATIONS = [nn.ReLU, nn.ReLU, nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.Sigmoid]


class Drawn:
    """A stack of layers that grows; it knows the shape at its end."""

    def __init__(self, rng: np.random.Generator, shape: tuple[int, ...], norm: bool) -> None:
        self.rng, self.shape, self.norm, self.layers = rng, shape, norm, []
        self.activation = ACTIVATIONS[rng.integers(len(ACTIVATIONS))]
        self.bare = not norm and rng.random() < 0.6  # without biases

    def add(self, layer: nn.Layer) -> bool:
        """Whether it fits."""
        try:
            self.shape = layer.output_shape(self.shape)
        except ValueError:
            return False
        self.layers.append(layer)
        return True

    def conv(self) -> None:
        rng = self.rng
        kernel = int(rng.choice([1, 3, 3, 3, 5]))
        options = {"stride": int(rng.choice([1, 1, 1, 2])), "padding": int(rng.integers(0, kernel // 2 + 2))}
        if kernel > 1 and rng.random() < 0.2:
            options |= {"dilation": 2, "padding": kernel // 2 * 2}
        channels = int(rng.choice([6, 8, 12, 16, 24]))
        if self.add(nn.Conv2d(self.shape[1], channels, kernel, bias=not self.norm and not self.bare, rng=0, **options)):
            if self.norm:
                self.add(nn.BatchNorm2d(channels))
            if rng.random() < 0.9:
                self.add(self.activation())
            if rng.random() < 0.12:
                self.add(nn.Dropout(float(rng.choice([0.1, 0.3, 0.5])), rng=0))

    def pool(self) -> None:
        rng = self.rng
        kind = nn.MaxPool2d if rng.random() < 0.5 else nn.AvgPool2d
        self.add(kind(2) if rng.random() < 0.5 else kind(3, int(rng.integers(1, 3)), int(rng.integers(0, 2))))

    def block(self) -> None:
        rng = self.rng
        kind = [nn.BasicBlock, nn.BasicBlock, nn.PreActBlock, nn.Bottleneck][rng.integers(4)]
        grow = rng.random() < 0.3
        width = self.shape[1] // kind.expansion * (2 if grow else 1)
        if width < 2 or (not grow and self.shape[1] % kind.expansion):
            return
        scale = 1.0 if rng.random() < 0.7 else 0.5
        shortcut = [None, "A", "B", "A", "B"][rng.integers(5)]
        options = {"shortcut": shortcut, "batchnorm": self.norm, "activation": self.activation, "branch_scale": scale}
        self.add(kind(self.shape[1], width, 2 if grow and min(self.shape[2:]) > 3 else 1, **options))

    def head(self) -> None:
        if self.rng.random() < 0.5:
            self.add(nn.GlobalAvgPool2d())
        else:
            self.add(nn.Flatten())
        self.add(nn.Linear(self.shape[1], 10, rng=0))


def draw(number: int, images: dict[str, np.ndarray], wild: bool = False) -> Layout:
    """The layout of that number; wild: with batches of one, maps of one pixel, and weights that nobody would draw."""
    rng = np.random.default_rng((SEED, number))
    batch = int(rng.integers(1, 65)) if wild else int(rng.choice([2, 4, 8, 16, 32, 64]))
    kind = str(rng.choice(["noise", "noise", *images]))
    if kind == "noise":
        sizes = [1, 2, 5, 16, 40] if wild else [6, 8, 12, 16]
        image = (batch, int(rng.choice([1, 3, 8])), int(rng.choice(sizes)), int(rng.choice(sizes)))
        x: object = image
    else:
        chosen = images[kind][rng.choice(len(images[kind]), batch, replace=False)]
        h, w = (min(int(rng.choice([8, 12, 16])), n) for n in chosen.shape[2:])
        top, left = (int(rng.integers(0, n - m + 1)) for n, m in zip(chosen.shape[2:], (h, w), strict=True))
        x = np.ascontiguousarray(chosen[:, :, top : top + h, left : left + w])
        image = x.shape
    stack = Drawn(rng, image, norm=rng.random() < 0.5)
    stack.conv()
    for _ in range(int(rng.integers(1, 6))):
        [stack.conv, stack.conv, stack.block, stack.block, stack.pool][rng.integers(5)]()
    if rng.random() < 0.6:
        stack.head()
    model = nn.Sequential(*stack.layers)
    _own_gains(model, rng)
    weights = WILD if wild else WEIGHTS
    weight, bias = weights[rng.integers(len(weights))], BIASES[rng.integers(len(BIASES))]
    return Layout(model, x, weight, bias, kind == "photographs")


def draw_usual(number: int, images: dict[str, np.ndarray]) -> Layout:
    """The network of that number, of a usual kind."""
    rng = np.random.default_rng((USUAL_SEED, number))
    kind, batch = (
        str(rng.choice(["noise", "digits", "photographs", "photographs"])),
        int(rng.choice([4, 8, 16, 32, 64])),
    )
    if kind == "noise":
        side = int(rng.choice([8, 12, 16]))
        x: object = (batch, int(rng.choice([1, 3])), side, side)
        channels = x[1]
    else:
        chosen = images[kind][rng.choice(len(images[kind]), batch, replace=False)]
        side = min(int(rng.choice([8, 12, 16, 24])), chosen.shape[2])
        start = int(rng.integers(0, chosen.shape[2] - side + 1))
        x = np.ascontiguousarray(chosen[:, :, start : start + side, start : start + side])
        channels = x.shape[1]
    norm = bool(rng.random() < 0.7)
    activation = [*4 * [nn.ReLU], nn.Tanh, nn.LeakyReLU, nn.Sigmoid][rng.integers(7)]
    block = [nn.BasicBlock, nn.BasicBlock, nn.PreActBlock, nn.Bottleneck][rng.integers(4)]
    stages = int(rng.integers(1, 4))
    blocks, width = tuple(int(rng.integers(1, 4)) for _ in range(stages)), int(rng.choice([8, 16, 16, 32]))
    options = {"shortcut": [None, "A", "B", "B"][rng.integers(4)], "batchnorm": norm, "activation": activation}
    model = nn.resnet(blocks=blocks, width=width, block=block, in_channels=channels, **options)
    if rng.random() < 0.2:
        _own_gains(model, rng)
    weights = [*3 * [init.HeNormal()], init.XavierNormal(), init.LeCunNormal(), init.HeUniform(), init.Orthogonal()]
    weight = weights[rng.integers(7)]
    bias = [*3 * [init.Zeros()], init.Constant(0.1), init.Normal(0.1)][rng.integers(5)]
    return Layout(model, x, weight, bias, kind == "photographs")


def _own_gains(model: nn.Layer, rng: np.random.Generator) -> None:
    """A third of the models has BatchNorms with gains and biases that are not 1 and 0."""
    kind = rng.integers(6)
    for _, layer in model.named_layers():
        if isinstance(layer, nn.BatchNorm2d) and kind < 2:
            n = layer.weight.value.shape
            layer.weight.value = rng.uniform(0.5, 1.5, n).astype(np.float32)
            shift = rng.normal(0, 0.4, n) if kind == 0 else np.full(n, rng.uniform(-0.6, 0.6))
            layer.bias.value = shift.astype(np.float32)


class Found(NamedTuple):
    """One number: its row, its law, and what was measured. error: of the mean, relative to the law."""

    layout: int
    path: str
    kind: str
    quantity: str
    grade: str
    allowance: float
    ratio: float
    error: float
    note: str


def measured(number: int, layout: Layout, folder: Path | None) -> dict[tuple[str, str], tuple[float, float]]:
    """Mean and standard error of each number of each row; read from the folder, or measured and kept there."""
    kept = None if folder is None else folder / f"{number}.json"
    if kept is None or not kept.exists():
        networks, laws = networks_for(layout), {"weight": layout.weight, "bias": layout.bias}
        samples = measure(layout.model, layout.x, seeds=networks, rng=number, **laws).samples
        rows = []
        for (path, name), values in samples.items():
            if len(values):
                error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
                rows.append([path, name, float(np.mean(values)), error, len(values)])
        if kept is not None:
            atomic_write_text(kept, json.dumps({"networks": networks, "rows": rows}))
    else:
        rows = json.loads(kept.read_text())["rows"]
    return {(path, name): (mean, error) for path, name, mean, error, _ in rows}


def run(number: int, layout: Layout, folder: Path | None) -> list[Found]:
    """Every number of a layout that could have a law."""
    predicted = predict(layout.model, layout.x, weight=layout.weight, bias=layout.bias)
    real = measured(number, layout, folder)
    found = []
    for row in predicted:
        for name in QUANTITIES:
            if (row.path, name) not in real:
                continue
            law, (mean, error) = getattr(row, name), real[row.path, name]
            known = law.grade if math.isfinite(law.mean) else ""
            if law.mean == 0 == mean:
                ratio, error = 1.0, 0.0
            else:
                ratio, error = (mean / law.mean, error / law.mean) if law.mean else (math.inf, 0.0)
            found.append(
                Found(number, row.path, row.kind, name, known, law.allowance, ratio, error, row.note or law.reason)
            )
    return found


def networks_for(layout: Layout) -> int:
    """More networks for small layouts."""
    shape = layout.x if isinstance(layout.x, tuple) else layout.x.shape
    work = 0.0
    for _, layer in layout.model.named_layers():
        if isinstance(layer, nn.Conv2d):
            work += layer.weight.value.size * math.prod((shape[0], *shape[2:]))
    return int(np.clip(BUDGET / max(work, 1), 30, 400))


def judge(found: list[Found]) -> list[str]:
    """The table's lines."""
    by: dict[tuple[str, str], list[Found]] = defaultdict(list)
    for f in found:
        side = "forward" if f.quantity in ("forward", "batch_variance") else "backward"
        by[f.grade or "none", side].append(f)
    lines = ["| rows | number | agree | rms z | median allowance | largest |", "| --- | --- | --- | --- | --- | --- |"]
    for (grade, side), rows in sorted(by.items()):
        name = {"EX": "exact", "ID": "identity", "MF": "approximate", "none": "without a grade"}[grade]
        if grade == "none":
            lines.append(f"| {name}, {side} | {len(rows)} | | | | |")
            continue
        ok = [agrees(f) for f in rows]
        z = [(f.ratio - 1) / f.error for f in rows if f.error > 1e-9 and math.isfinite(f.ratio)]
        rms = f"{math.sqrt(np.mean(np.square(z))):.2f}" if grade == "EX" else ""
        allowed = [f.allowance for f in rows]
        cells = f"{100 * np.mean(ok):.1f} %", rms, f"{100 * np.median(allowed):.1f} %", f"{100 * max(allowed):.0f} %"
        lines.append(f"| {name}, {side} | {len(rows)} | {' | '.join(cells)} |")
    rows = [f for f in found if f.grade == "MF"]
    within, median = np.mean([agrees(f) for f in rows]), np.median([f.allowance for f in rows])
    share = np.mean([not f.grade for f in found])
    together = f"{100 * within:.1f} % agree, their median allowance is {100 * median:.1f} %"
    return [*lines, "", f"Of all approximate rows {together}; {100 * share:.1f} % of all rows carry no grade."]


def agrees(f: Found) -> bool:
    """Exact rows at 5 standard errors (there are thousands), approximate ones at 3 beyond the allowance."""
    limit = 5 * f.error + 1e-5 if f.grade in ("EX", "ID") else f.allowance + 3 * f.error + 1e-5
    return abs(f.ratio - 1) <= limit


def load(folder: Path | None) -> dict[str, np.ndarray]:
    """Batches of real images, standardized."""
    digits = load_digits().x_train.astype(np.float32)
    images = {"digits": (digits - digits.mean()) / digits.std()}
    if folder is not None:
        raw = np.fromfile(folder / "data_batch_1.bin", np.uint8).reshape(-1, 3073)[:, 1:].reshape(-1, 3, 32, 32)
        mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
        images["photographs"] = ((raw / 255 - mean[:, None, None]) / std[:, None, None]).astype(np.float32)
    return images


def only_predict(count: int, images: dict[str, np.ndarray]) -> None:
    """Predictions of so many wild layouts: none may raise, and each says something of every layer."""
    raised = []
    for number in range(count):
        layout = draw(number, images, wild=True)
        try:
            report = predict(layout.model, layout.x, weight=layout.weight, bias=layout.bias)
            str(report)
            assert all(q.allowance <= 1 for row in report for q in (row.forward, row.gradient_in, row.weight_gradient))
        except Exception as error:
            raised.append(f"layout {number}: {type(error).__name__}: {error}")
    print(f"{count} layouts predicted, {len(raised)} raised an error.", *raised, sep="\n")


def main() -> None:
    """Draws, predicts, measures, and prints or writes the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.theory.random_layouts", description=__doc__.split("\n")[0])
    parser.add_argument("--layouts", type=int, default=120)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--usual", action="store_true", help="deeper networks of the usual kinds; needs --photographs")
    parser.add_argument("--photographs", type=Path, metavar="FOLDER", help="CIFAR-10 in its binary version")
    parser.add_argument("--measured", type=Path, metavar="FOLDER", help="keep measurements there, use those it has")
    parser.add_argument("--worst", type=int, default=0, help="list so many of the worst rows")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the table there")
    parser.add_argument("--only-predict", type=int, metavar="COUNT", help="predict so many wild layouts, measure none")
    args = parser.parse_args()
    if args.usual and not args.photographs:
        parser.error("--usual draws photographs: --photographs FOLDER")
    if args.only_predict:
        return only_predict(args.only_predict, load(args.photographs))
    images, found, raised, started = load(args.photographs), [], [], time.perf_counter()
    for number in range(args.first, args.first + args.layouts):
        layout = (draw_usual if args.usual else draw)(number, images)
        with np.errstate(all="ignore"):
            try:
                found += run(number, layout, args.measured)
            except (ValueError, ArithmeticError, np.linalg.LinAlgError) as error:
                raised.append(f"layout {number}: {type(error).__name__}: {error}")
    lines = [*judge(found), "", f"{len(raised)} layouts raised an error.", *raised]
    minutes = (time.perf_counter() - started) / 60
    head = [
        "# Predictions against networks of random layouts",
        "",
        f"`python -m tests.theory.random_layouts{' --usual' * args.usual}"
        f"{' --photographs FOLDER' if args.photographs else ''}`: {args.layouts} layouts from number {args.first}, "
        f"seed {USUAL_SEED if args.usual else SEED}, {datetime.now(UTC):%Y-%m-%d}, "
        f"{minutes:.0f} minutes, NumPy {np.__version__}.",
        "",
    ]
    print("\n".join(head + lines))
    wrong = [f for f in found if f.grade and not agrees(f)]
    for f in sorted(wrong, key=lambda f: -abs(f.ratio - 1) / (f.allowance + 3 * f.error + 1e-3))[: args.worst]:
        what = f"{f.layout} {f.path} {f.kind} {f.quantity} {f.grade}"
        print(f"{what} {f.ratio:.3f}({f.error:.3f}) allowed {f.allowance:.3f}")
    if args.worst:
        notes = defaultdict(int)
        for f in found:
            if not f.grade:
                notes[f.note or f"behind it ({f.quantity})"] += 1
        print(dict(sorted(notes.items(), key=lambda item: -item[1])))
    if args.write:
        atomic_write_text(args.write, "\n".join(head + lines) + "\n")


if __name__ == "__main__":
    main()
