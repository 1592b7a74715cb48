"""`check_layer` and `check_model`: layers, blocks and whole networks, through the same check as plain functions.

A layer is turned into a pair of functions of its input and of all its parameters. Its ReLUs and max-pools are watched,
so that kinks are seen, and every layer inside leaves its input and its upstream behind, for the identities and, if
something fails, for the search: which layer, checked by itself, is wrong?
"""

from __future__ import annotations

import numpy as np

from minires import nn
from minires.backend import Array, to_numpy
from minires.checks import check_whole
from minires.gradcheck import identities
from minires.gradcheck.call import Call
from minires.gradcheck.check import all_vacuous, check_hints, check_method, few_values, run
from minires.gradcheck.identities import Pass
from minires.gradcheck.layer_pair import LayerPair, not_one, note_on_ones
from minires.gradcheck.report import GradReport
from minires.gradcheck.rules import RULES
from minires.gradcheck.user_functions import Subject, prepare_inputs
from minires.gradcheck.wrapping import WrappedLayer

LAYER_ENTRIES, BLOCK_ENTRIES, LAYER_DIRECTIONS = 200, 16, 4
MODEL_ENTRIES, MODEL_DIRECTIONS = 3, 2
"""Per tensor. A direction moves all entries of a tensor at once, so none goes unseen."""


def check_layer(
    layer: nn.Layer | WrappedLayer,
    x: Array,
    *,
    dy: Array | None = None,
    like: str | None = None,
    options: dict | None = None,
    method: str = "central",
    max_entries: int | None = None,
    hints: int = 2,
    seed: int = 0,
) -> GradReport:
    """Checks dx and every parameter's gradient of a layer or block, in the mode (train, eval) it is in.

    x: (N, ...) as the layer takes it. The check runs on a float64 copy, on the layer's device; the layer itself is left
    alone. A layer that is one op of `minires.ops` is also compared with that op's definition and with the catalogue of
    faults. Anybody's layer object is checked as `check_layer(wrap(layer, weight="dweight"), x)`; like, options: the op
    that it should be, as in `check_op`.
    """
    check_method(method)
    check_hints(hints)
    check_whole("seed", seed, 0)
    if isinstance(layer, WrappedLayer):
        return _check_wrapped(layer, x, dy, (like, dict(options or {})), (method, max_entries, seed)).limited(hints)
    pair = LayerPair(layer, x)
    (x, *_), notes = prepare_inputs((x,))
    op, settings = (like, dict(options or {})) if like else _op_of(layer)
    if max_entries is None:
        max_entries = BLOCK_ENTRIES if any(True for _ in layer.children()) else LAYER_ENTRIES
    title = f"gradient check: {type(layer).__name__}"
    plan = (method, max_entries, LAYER_DIRECTIONS, seed)
    return _check(pair, x, dy, notes, title, plan, op, settings).limited(hints)


def _check_wrapped(
    layer: WrappedLayer, x: Array, dy: Array | None, op: tuple[str | None, dict], plan: tuple[str, int | None, int]
) -> GradReport:
    """A layer object of somebody's own, as a pair of functions of x and its parameters."""
    (like, options), (method, max_entries, seed) = op, plan
    (x, *_), notes = prepare_inputs((x,))
    layer, unchecked = layer.completed(x)
    notes += unchecked
    ones = [name for name, value in zip(layer.names, layer.values, strict=True) if np.all(value == 1)]
    rng, notes = np.random.default_rng([*b"gains", seed]), [*notes, *note_on_ones(ones)]
    values = [not_one(rng, v.shape) if np.all(v == 1) else v for v in layer.values]
    slots, names = [x, *values], ["x", *layer.names]
    subject = Subject(layer.forward, layer.backward, slots)
    title = f"gradient check: {type(layer.layer).__name__}"
    call = Call(subject, slots, names, like, options, title, notes, keeps_cache=True)
    return run(call, dy, method, max_entries or LAYER_ENTRIES, LAYER_DIRECTIONS, seed)


def check_model(
    model: nn.Layer,
    x: Array,
    labels: Array,
    *,
    loss: object | None = None,
    method: str = "central",
    max_entries: int = MODEL_ENTRIES,
    directions: int = MODEL_DIRECTIONS,
    hints: int = 2,
    seed: int = 0,
) -> GradReport:
    """Checks a whole network under a loss: the gradients of x and of every parameter.

    labels: what `loss.forward(y, labels)` takes; loss: `nn.SoftmaxCrossEntropy()` by default. Each tensor is checked
    at `max_entries` entries and along `directions` random directions. The model itself is left alone.
    """
    check_method(method)
    check_hints(hints)
    check_whole("seed", seed, 0)
    pair = LayerPair(model, x, loss or nn.SoftmaxCrossEntropy(), labels)
    (x, *_), notes = prepare_inputs((x,))
    title = f"gradient check: {type(model).__name__} with {type(pair.loss).__name__}"
    return _check(pair, x, None, notes, title, (method, max_entries, directions, seed), None, {}).limited(hints)


def _op_of(layer: nn.Layer) -> tuple[str | None, dict]:
    """The op that a leaf layer is made of, and its settings.

    (None, {}) for blocks, for layers of one's own, and for settings that the catalogue's definitions do not have.
    """
    window = lambda *names: {name: getattr(layer, name) for name in names}  # noqa: E731
    if isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.padding != "same":
        return "conv2d", window("stride", "padding", "dilation")
    if isinstance(layer, nn.BatchNorm2d):
        statistics = {} if layer.training else {"mean": layer.running_mean, "var": layer.running_var}
        return "batchnorm", {"eps": layer.eps} | {k: to_numpy(v).astype(np.float64) for k, v in statistics.items()}
    if isinstance(layer, nn.MaxPool2d) and not layer.ceil_mode:
        return "max_pool2d", window("kernel_size", "stride", "padding")
    if isinstance(layer, nn.AvgPool2d) and layer.count_include_pad and not layer.ceil_mode:
        return "avg_pool2d", window("kernel_size", "stride", "padding")
    if isinstance(layer, nn.LeakyReLU):
        return "leaky_relu", {"slope": layer.slope}
    if isinstance(layer, nn.Dropout):
        return ("dropout", {"p": layer.p}) if layer.training else (None, {})
    for kind, op in _PLAIN.items():
        if isinstance(layer, kind):
            return op, {}
    return None, {}


_PLAIN = {
    nn.Linear: "linear",
    nn.ReLU: "relu",
    nn.Tanh: "tanh",
    nn.Sigmoid: "sigmoid",
    nn.GlobalAvgPool2d: "global_avg_pool2d",
}


def _check(
    pair: LayerPair,
    x: Array,
    dy: Array | None,
    notes: list[str],
    title: str,
    settings: tuple[str, int, int, int],
    like: str | None,
    options: dict,
) -> GradReport:
    notes += pair.redraw_ones(settings[3])
    slots = [x, *pair.values]
    call = Call(
        Subject(pair.forward, pair.backward, slots),
        slots,
        ["x", *pair.names],
        like,
        options,
        title,
        notes,
        keeps_cache=True,
        see=pair.switches,
    )
    if (few := _too_few(pair, x, call)) is not None:
        return few
    with pair.watching():
        report = run(call, dy, *settings)
    if not any(row.analytic is not None for row in report.tensors if row.name != "y"):
        return report  # forward is wrong: no gradient was looked at
    passes = pair.record(x, call.dy)
    report.identities += [] if like else identities.of_passes([p for p in passes if p.is_leaf])
    _say_why_vacuous(report, pair, passes, x)
    if report.verdict == "fail":
        _find_layer(report, pair, passes, x, call.dy, settings)
    if not pair.accumulates(x, call.dy):
        report.offences.append(RULES["grad overwritten"])
        report.diagnosis = report.diagnosis or RULES["grad overwritten"]
    return report


def _too_few(pair: LayerPair, x: Array, call: Call) -> GradReport | None:
    """BatchNorm over one or two values makes the whole check worthless."""
    seen: list[tuple[str, int]] = []

    def note(layer: nn.Layer, path: str, direction: str, given: Array, returned: Array) -> None:
        if isinstance(layer, nn.BatchNorm2d) and layer.training and given.size // given.shape[1] <= 2:
            seen.append((path, given.size // given.shape[1]))

    norms = [p for p, layer in pair.layer.named_layers() if isinstance(layer, nn.BatchNorm2d) and layer.training]
    try:
        with pair.layer.observe(note):
            pair._rewind(pair.layer)
            pair.layer.forward(x)
    except ValueError as error:
        if not norms or "one value per channel" not in str(error):
            raise
        seen.append((norms[0], 1))
    if not seen:
        return None
    path, m = seen[0]
    return all_vacuous(call, f"batch normalization {path}".rstrip() + f" has {few_values(m)}")


def _say_why_vacuous(report: GradReport, pair: LayerPair, passes: list[Pass], x: Array) -> None:
    """A bias under a batch norm cannot matter; a batch of 1 hides sums over the batch."""
    norm_inputs = {id(p.x) for p in passes if isinstance(p.layer, nn.BatchNorm2d) and p.layer.training}
    for p in passes:
        row_name = f"d{p.path}.bias" if p.path else "dbias"
        if id(p.y) in norm_inputs and any(row.name == row_name for row in report.tensors):
            row = report[row_name]
            if row.verdict == "vacuous":
                row.reason = "a bias before a batch normalization: the mean is taken off again, so its gradient is zero"
    if len(x) == 1:
        for row in report.tensors:
            if row.name not in ("y", "dx") and row.verdict == "pass":
                row.verdict = "vacuous"
                row.reason = "a batch of 1: a sum or mean over the batch that is missing cannot show; use 4 or more"


def _find_layer(
    report: GradReport, pair: LayerPair, passes: list[Pass], x: Array, dy: Array, settings: tuple[str, int, int, int]
) -> None:
    """Checks every layer by itself, with the input and the upstream it had: the smallest that fails is the culprit."""
    inner = [p for p in passes if p.path]
    for p in sorted(inner, key=lambda p: sum(1 for _ in p.layer.named_layers())):
        alone = _alone(p, settings)
        if alone is not None and alone.verdict == "fail":
            joint = "" if p.is_leaf else f" ({_JOINS})"
            report.diagnosis = f"layer {p.path}, {type(p.layer).__name__}{joint}: {alone.diagnosis}"
            report.fault, report.hint, report.alike = alone.fault, alone.hint, alone.alike
            return
    if inner and _JOINS not in (report.diagnosis or ""):
        told = report.diagnosis
        if pair.loss is None and settings[1] < WHOLE and x.size <= WHOLE:
            told = check_layer(pair.layer, x, dy=dy, method=settings[0], max_entries=WHOLE, seed=settings[3]).diagnosis
        report.diagnosis = told if told and _JOINS in told else f"{type(pair.layer).__name__} ({_JOINS}): {told}"


_JOINS = "each layer inside is right by itself, so look at how it joins them"
WHOLE = 1000
"""A block that fails is measured entry by entry up to this size, to be explained."""


def _alone(p: Pass, settings: tuple[str, int, int, int]) -> GradReport | None:
    method, _, _, seed = settings
    try:
        return check_layer(p.layer, p.x, dy=p.dy, method=method, max_entries=40 if p.is_leaf else 4, seed=seed)
    except (TypeError, ValueError):
        return None
