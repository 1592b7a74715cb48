"""The large Monte Carlo behind the mean-field laws: python -m tests.theory.evidence [--only NAME ...] [--out FOLDER].

Each section runs real networks and writes one table, FOLDER/NAME.md, with its seeds, sample sizes and date. The suite
runs the same comparisons on small samples; these are the figures to quote.

    position     BasicBlock networks on white noise against the position-resolved law, block by block and pixel by pixel
    allowance    1x1 networks: the mean-field bias, and that it halves when width and batch double
    forward      second moments, variances and signs of 3x3 networks going forward
    coherence    a real loss, whose gradients the samples share in part, against the position-resolved law
    conditional  the forward-conditional law on white noise and on photographs, independent upstream and real loss
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minires import nn
from minires.files import atomic_write_text
from minires.nn.layer import Layer
from minires.nn.residual import ResidualBlock
from minires.theory.stats import t_threshold
from tests.theory.reference import batchnorm_networks, given_forward, padded_networks
from tests.theory.reference.blocks import Block, resnet_layout, stages

FALSE_ALARM = 1e-4
"""Of one row; the mean-field allowance comes on top."""


def blocks_of(model: Layer) -> list[ResidualBlock]:
    """The residual blocks in the order of the forward pass."""
    return [layer for _, layer in model.named_layers() if isinstance(layer, ResidualBlock)]


def stream_gradients(model: Layer, x: np.ndarray, upstream: np.ndarray) -> list[np.ndarray]:
    """dL/dh at every stream of a network of residual blocks, from the first block's input to the last one's output.

    upstream: dL/d(last block's output); the head takes no part.
    """
    model.forward(x)
    gradients = [upstream]
    for block in reversed(blocks_of(model)):
        gradients.append(block.backward(gradients[-1]))
    return gradients[::-1]


def streams(model: Layer, x: np.ndarray) -> list[np.ndarray]:
    """h_0..h_L of one forward pass."""
    blocks, found = blocks_of(model), []

    def note(layer: Layer, path: str, direction: str, before: np.ndarray, after: np.ndarray) -> None:
        if layer in blocks and direction == "forward":
            found.extend([before, after] if not found else [after])

    with model.observe(note):
        model.forward(x)
    return found


class Table:
    """A Markdown table that grows row by row, with a text above."""

    def __init__(self, title: str, *columns: str) -> None:
        self.lines = ["", f"### {title}", "", f"| {' | '.join(columns)} |", "|" + " --- |" * len(columns)]
        self.failed = 0

    def row(self, *cells: object, ok: bool | None = None) -> None:
        """ok: whether the row meets its law; None where nothing is tested."""
        verdict = [] if ok is None else ["agrees" if ok else "**departs**"]
        self.failed += ok is False
        self.lines.append(f"| {' | '.join([*map(str, cells), *verdict])} |")


class Sample(NamedTuple):
    """Mean over networks and its standard error, each an array."""

    mean: np.ndarray
    se: np.ndarray
    networks: int

    @classmethod
    def of(cls, values: Sequence[np.ndarray]) -> Sample:
        stacked = np.array(values, dtype=float)
        return cls(stacked.mean(axis=0), stacked.std(axis=0, ddof=1) / math.sqrt(len(values)), len(values))

    def agrees(self, law: np.ndarray, allowance: float) -> np.ndarray:
        """|mean/law - 1| <= allowance + Student's t * se/law, element by element."""
        t = t_threshold(self.networks, false_alarm=FALSE_ALARM)
        return abs(self.mean / law - 1) <= allowance + t * self.se / law


def _white(model_channels: int, size: int, samples: int, rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((samples, model_channels, size, size)).astype(np.float32)


# ---- position


class Case(NamedTuple):
    """A network of the position section."""

    name: str
    blocks: tuple[int, ...]
    shortcut: str
    size: int
    width: int
    samples: int
    networks: int
    allowance: float


POSITION = [
    Case("ResNet-20 layout B", (3, 3, 3), "B", 32, 16, 32, 24, 0.03),
    Case("ResNet-20 layout A", (3, 3, 3), "A", 32, 16, 32, 24, 0.03),
    Case("stages 16x16 to 2x2, B", (2, 2, 2, 2), "B", 16, 32, 128, 16, 0.03),
    Case("stages 16x16 to 2x2, A", (2, 2, 2, 2), "A", 16, 32, 128, 16, 0.03),
]
INPUT_CHANNELS = 64
"""Many, as the law assumes; three channels add 1.8 % at the lowest link."""


def position_section() -> Iterator[Table]:
    """Growth of the gradient per block, the edge-free law on the same numbers, and maps per position."""
    for case in POSITION:
        layout = stages([case.width * 2**s for s in range(len(case.blocks))], case.blocks, case.shortcut)
        law = padded_networks.basic_block_law(layout, (case.size, case.size))
        edge_free = batchnorm_networks.basic_block_law(layout).gradient
        totals, maps = [], []
        for seed in range(case.networks):
            gradients = _one_network(case, layout, law, seed)
            energy = [np.sum(np.square(g, dtype=float), axis=(0, 1)) for g in gradients]
            totals.append([e.sum() / energy[-1].sum() for e in energy])
            maps.append([e / (energy[-1].sum() * law.shapes[i][0]) for i, e in enumerate(energy)])
        yield _growth_table(case, law, edge_free, Sample.of(totals))
        yield _map_table(case, law, maps)


def _one_network(case: Case, layout: list[Block], law: padded_networks.PositionLaw, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    model = nn.resnet(blocks=case.blocks, width=case.width, shortcut=case.shortcut, in_channels=INPUT_CHANNELS, rng=rng)
    x = _white(INPUT_CHANNELS, case.size, case.samples, rng)
    upstream = rng.standard_normal((case.samples, *law.shapes[-1])).astype(np.float32)
    return stream_gradients(model, x, upstream)


def _growth_table(case: Case, law: padded_networks.PositionLaw, edge_free: np.ndarray, found: Sample) -> Table:
    title = (
        f"{case.name}: gradient at h_l over the top's, width {case.width}, {case.samples} samples, "
        f"{case.networks} networks (seeds 0..{case.networks - 1}), {INPUT_CHANNELS} input channels"
    )
    columns = "l", "map", "measured (s.e.)", "law", "measured/law", "edge-free law", "verdict"
    table = Table(title, *columns)
    agrees = found.agrees(law.gradient, case.allowance)
    for i, shape in enumerate(law.shapes):
        table.row(
            i,
            f"{shape[1]}x{shape[2]}",
            f"{found.mean[i]:.3f} ({found.se[i]:.3f})",
            f"{law.gradient[i]:.3f}",
            f"{found.mean[i] / law.gradient[i]:.4f}",
            f"{edge_free[i]:.2f}",
            ok=bool(agrees[i]),
        )
    wrong = not found.agrees(edge_free, case.allowance)[0]
    table.lines += ["", f"The edge-free law fails the same test at l = 0: {'yes' if wrong else '**no**'}."]
    table.failed += not wrong
    return table


def _map_table(case: Case, law: padded_networks.PositionLaw, maps: list[list[np.ndarray]]) -> Table:
    """Energy per position, upstream 1 in total; positions whose laws agree to 1 % are pooled into rings."""
    columns = "l", "map", "groups of positions", "largest deviation", "its standard error", "verdict"
    table = Table(f"{case.name}: energy by position", *columns)
    for i, shape in enumerate(law.shapes[:-1]):
        expected = law.gradient_maps[i] / (law.shapes[-1][0] * law.gradient_maps[-1].sum())
        keys, index = np.unique(np.round(np.log(expected) / 0.01), return_inverse=True)
        index = index.reshape(expected.shape)
        rings = np.array([[m[i][index == k].mean() for k in range(len(keys))] for m in maps])
        means = np.array([expected[index == k].mean() for k in range(len(keys))])
        found = Sample.of(list(rings))
        worst = int(np.argmax(abs(found.mean / means - 1)))
        table.row(
            i,
            f"{shape[1]}x{shape[2]}",
            len(keys),
            f"{100 * (found.mean[worst] / means[worst] - 1):+.1f} %",
            f"{100 * found.se[worst] / means[worst]:.1f} %",
            ok=bool(np.all(found.agrees(means, case.allowance))),
        )
    return table


# ---- allowance, on 1x1 networks


def allowance_section() -> Iterator[Table]:
    """Four blocks of 1x1 convolutions, allowance 1.2/C + 1.5/m a block: nothing but mean field's own bias."""
    blocks, networks = 4, 24
    law = batchnorm_networks.basic_block_law(stages((16,), (blocks,)))
    columns = "C", "m", "measured/law (s.e.)", "allowance", "verdict"
    table = Table(f"1x1 networks, {blocks} blocks, {networks} networks (seeds 0..{networks - 1})", *columns)
    for channels, m in ((16, 256), (32, 512), (64, 1024), (128, 2048), (256, 4096)):
        growths = [_one_by_one(channels, m, blocks, seed) for seed in range(networks)]
        found = Sample.of(growths)
        allowed = blocks * (1.2 / channels + 1.5 / m)
        ratio, se = found.mean / law.gradient[0], found.se / law.gradient[0]
        ok = bool(found.agrees(law.gradient[0], allowed))
        table.row(channels, m, f"{ratio:.4f} ({se:.4f})", f"{allowed:.4f}", ok=ok)
    yield table


def _one_by_one(channels: int, m: int, blocks: int, seed: int) -> float:
    rng = np.random.default_rng(seed)
    layers: list[Layer] = [nn.Conv2d(channels, channels, 1, bias=False, rng=rng)]
    layers += [nn.BatchNorm2d(channels), nn.ReLU()]
    for _ in range(blocks):
        block = nn.BasicBlock(channels, channels)
        block.conv1, block.conv2 = (nn.Conv2d(channels, channels, 1, bias=False, rng=rng) for _ in range(2))
        layers.append(block)
    x = _white(channels, 8, m // 64, rng)
    upstream = rng.standard_normal(x.shape).astype(np.float32)
    bottom = stream_gradients(nn.Sequential(*layers), x, upstream)[0]
    return float(np.sum(np.square(bottom)) / np.sum(np.square(upstream)))


# ---- forward moments


def forward_section() -> Iterator[Table]:
    """v1 going forward, 3x3: second moment, batch variance and share above zero, 2 % for C >= 64."""
    for width, size, samples, networks in ((64, 16, 32, 8), (128, 8, 64, 8)):
        layout = stages((width, 2 * width), (3, 3), "B")
        law = padded_networks.basic_block_law(layout, (size, size))
        values = []
        for seed in range(networks):
            rng = np.random.default_rng(seed)
            model = nn.resnet(blocks=(3, 3), width=width, shortcut="B", in_channels=INPUT_CHANNELS, rng=rng)
            h = streams(model, _white(INPUT_CHANNELS, size, samples, rng))
            values.append([[np.mean(a**2), a.var(axis=(0, 2, 3)).mean(), np.mean(a > 0)] for a in h])
        found = Sample.of(values)
        columns = "l", "second moment: measured/law", "variance", "share above 0", "verdict"
        title = f"width {width}, {size}x{size}, {samples} samples, {networks} networks (seeds 0..{networks - 1})"
        table = Table(title, *columns)
        expected = np.stack([law.second_moment, law.variance, law.positive], axis=1)
        agrees = found.agrees(expected, 0.02)
        for i, (mean, se, row) in enumerate(zip(found.mean, found.se, expected, strict=True)):
            cells = [f"{m / e:.4f} ({s / e:.4f})" for m, s, e in zip(mean, se, row, strict=True)]
            table.row(i, *cells, ok=bool(agrees[i].all()))
        yield table


# ---- conditional

INPUTS = ("white noise", "photographs")


def conditional_section(data: Path | None) -> Iterator[Table]:
    """measured/predicted at every stream, and what the white-noise law would have said of the same networks."""
    images = None if data is None else _photographs(data)
    for width, networks, shortcuts in ((16, 24, "BA"), (64, 4, "B")):
        for shortcut, inputs, upstream in product(shortcuts, INPUTS, ("independent", "softmax loss")):
            if images is not None or inputs == INPUTS[0]:
                yield _conditional_table(width, networks, shortcut, images, inputs, upstream)
    if images is None:
        skipped = Table("photographs", "")
        skipped.lines = ["", "Photographs: skipped, no CIFAR-10 files given (`--data FOLDER`)."]
        yield skipped


def _conditional_table(
    width: int, networks: int, shortcut: str, images: tuple[np.ndarray, np.ndarray] | None, inputs: str, upstream: str
) -> Table:
    samples = 32
    values, growths = [], []
    for seed in range(networks):
        rng = np.random.default_rng(seed)
        model = nn.resnet20(width=width, shortcut=shortcut, rng=rng)
        labels = rng.integers(0, 10, samples)
        x = _white(3, 32, samples, rng)
        if inputs == INPUTS[1]:
            chosen = rng.choice(len(images[0]), samples, replace=False)
            x, labels = images[0][chosen], images[1][chosen]
        if upstream == "independent":
            top = rng.standard_normal((samples, 4 * width, 8, 8)).astype(np.float32)
            rows = given_forward.gradient_energies(model, x, top)
        else:
            rows = given_forward.gradient_energies(model, x, labels=labels)
        values.append([row.ratio for row in rows])
        growths.append([row.measured / rows[-1].measured for row in rows])
    found, growth = Sample.of(values), Sample.of(growths)
    law = padded_networks.basic_block_law(resnet_layout(20, shortcut), (32, 32)).gradient
    title = (
        f"ResNet-20 {shortcut}, width {width}, {inputs}, {upstream} upstream; {samples} images, {networks} networks "
        f"(seeds 0..{networks - 1})"
    )
    columns = (
        "stream",
        "measured/predicted (s.e.)",
        "one network's s.d.",
        "verdict",
        "measured/white-noise law (s.e.)",
    )
    table = Table(title, *columns)
    allowance = 0.005 + 0.5 / width  # laws2.md, section 16
    agrees = found.agrees(np.ones(len(law)), allowance)
    for i, row in enumerate(rows):
        table.row(
            row.path,
            f"{found.mean[i]:.4f} ({found.se[i]:.4f})",
            f"{found.se[i] * math.sqrt(networks):.4f}",
            "agrees" if agrees[i] else "**departs**",
            f"{growth.mean[i] / law[i]:.3f} ({growth.se[i] / law[i]:.3f})",
        )
    table.failed = int(np.sum(~agrees))
    return table


def _photographs(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    from minires.data.cifar import load_cifar10

    split = load_cifar10(folder)
    return split.x_train.astype(np.float32), split.y_train


# ---- coherence


def coherence_section() -> Iterator[Table]:
    """White noise and the real loss: what the position-resolved law makes of gradients that samples share."""
    samples, networks = 32, 16
    for shortcut in "BA":
        shares, growths = zip(*(_with_loss(shortcut, samples, seed) for seed in range(networks)), strict=True)
        f, found = float(np.mean(shares)), Sample.of(growths)
        with_f, without = (
            padded_networks.basic_block_law(resnet_layout(20, shortcut), (32, 32), coherence=share).gradient
            for share in (f, 0.0)
        )
        title = f"ResNet-20 {shortcut}, width 16, {samples} samples, {networks} networks (seeds 0..{networks - 1})"
        columns = "l", "measured (s.e.)", "law", "measured/law", "measured/law without coherence", "verdict"
        table = Table(f"{title}, coherence {f:.3f} ({np.std(shares) / math.sqrt(networks):.3f})", *columns)
        agrees = found.agrees(with_f, 0.03)
        for i, (mean, se) in enumerate(zip(found.mean, found.se, strict=True)):
            ratios = f"{mean / with_f[i]:.3f}", f"{mean / without[i]:.3f}"
            table.row(i, f"{mean:.3f} ({se:.3f})", f"{with_f[i]:.3f}", *ratios, ok=bool(agrees[i]))
        yield table


def _with_loss(shortcut: str, samples: int, seed: int) -> tuple[float, np.ndarray]:
    """Coherence of the loss's gradient at the logits, and growth of the gradient at every stream."""
    rng = np.random.default_rng(seed)
    model = nn.resnet20(shortcut=shortcut, in_channels=INPUT_CHANNELS, rng=rng)
    x, labels = _white(INPUT_CHANNELS, 32, samples, rng), rng.integers(0, 10, samples)
    loss, energies, blocks = nn.SoftmaxCrossEntropy(), [], blocks_of(model)
    loss.forward(model.forward(x), labels)
    dlogits = loss.backward()

    def note(layer: Layer, path: str, direction: str, before: np.ndarray, after: np.ndarray) -> None:
        if layer in blocks:
            energies.extend(
                [np.sum(np.square(g, dtype=float)) for g in ((before, after) if not energies else (after,))]
            )

    with model.observe(note):
        model.backward(dlogits)
    return given_forward.coherence(dlogits), np.array(energies[::-1]) / energies[0]


# ---- the command

SECTIONS: dict[str, tuple[str, Callable[[Path | None], Iterator[Table]]]] = {
    "position": ("The position-resolved law of BasicBlock networks", lambda data: position_section()),
    "allowance": ("What mean field may be off", lambda data: allowance_section()),
    "forward": ("Moments going forward", lambda data: forward_section()),
    "coherence": ("Gradients that samples share", lambda data: coherence_section()),
    "conditional": ("The forward-conditional law", conditional_section),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the sections, writes a table each; exit code 1 if a row departs from its law."""
    parser = argparse.ArgumentParser(prog="python -m tests.theory.evidence", description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), metavar="NAME")
    parser.add_argument("--out", type=Path, default=Path("tests/theory/evidence"), metavar="FOLDER")
    parser.add_argument("--data", type=Path, default=None, metavar="FOLDER", help="CIFAR-10 in its binary version")
    args = parser.parse_args(arguments)
    args.out.mkdir(parents=True, exist_ok=True)
    failed = 0
    for name in args.only:
        title, section = SECTIONS[name]
        started = time.perf_counter()
        tables = list(section(args.data))
        failed += sum(table.failed for table in tables)
        minutes = (time.perf_counter() - started) / 60
        command = f"python -m tests.theory.evidence --only {name}" + (" --data FOLDER" if args.data else "")
        head = [
            f"# {title}",
            "",
            f"`{command}`, {datetime.now(UTC):%Y-%m-%d}, {minutes:.1f} minutes, NumPy {np.__version__}.",
            f"A row agrees if |measured/law - 1| is at most the allowance + t standard errors, t of R - 1 degrees of "
            f"freedom at a false alarm of {FALSE_ALARM:g}.",
        ]
        text = "\n".join(head + [line for table in tables for line in table.lines]) + "\n"
        atomic_write_text(args.out / f"{name}.md", text)
        print(text)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
