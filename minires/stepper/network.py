"""A network of one's own, stepped through layer by layer: forward, through the loss, back, and inside each layer."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np

from minires import nn
from minires.backend import Array, to_numpy
from minires.checks import check_arrays
from minires.ops import softmax_cross_entropy_backward, softmax_cross_entropy_forward
from minires.stepper.document import Page, Track
from minires.stepper.generic import inner_tracks, tells, whole
from minires.stepper.recorder import LARGEST, Record, Recorder
from minires.stepper.story import Arrow, Move, Panel, Story

LARGEST_TABLE = (8, 10)
"""Rows and columns that are printed of an array: there are many of them."""
MODULES = ("minires.ops", "minires.nn", __name__)


def training_step(model: nn.Layer, x: Array, labels: Array) -> tuple[Array, Array]:
    """All of a training step but the update: forward, the loss, and back."""
    logits = model.forward(x)
    loss, cache = softmax_cross_entropy_forward(logits, labels)
    dlogits = softmax_cross_entropy_backward(1.0, cache)
    dx = model.backward(dlogits)
    return loss, dx


def network_page(model: nn.Layer, x: Array, labels: Array) -> Page:
    """The page of one training step (without the update) of `model` on the batch x (N, ...) with labels (N,).

    The model is copied first: its gradients and running statistics stay as they are. Raises TypeError or ValueError
    where model, x and labels do not fit together, and ValueError for arrays too large to step through.
    """
    if not isinstance(model, nn.Layer):
        raise TypeError(f"model is {type(model).__name__}; expected a Layer, as in nn.Sequential(nn.Linear(64, 10))")
    check_arrays(x=x)
    model = copy.deepcopy(model if isinstance(model, nn.Sequential) else nn.Sequential(model))
    recorder = Recorder(MODULES)
    x, labels = to_numpy(x), to_numpy(labels)
    recorder.run(lambda: training_step(model.to("cpu"), x, labels))
    story = Story(recorder.records, {})
    moves = list(_tell(story, model))
    about = f"{' → '.join(map(repr, model.layers))} → softmax cross-entropy, on a batch of {len(x)}."
    tracks = [Track("network", moves), *inner_tracks(story, moves)]
    return Page("A network, layer by layer", about, story.records, tracks, LARGEST_TABLE)


def _tell(story: Story, model: nn.Sequential) -> Iterator[Move]:
    """A move for each pass through a layer, in the order in which they ran, and two for the loss."""
    layers = list(model.children())
    order = {"_forward": iter(layers), "_backward": reversed(layers)}
    frames = {}
    for record in story.records:  # the model's own passes are the outermost ones
        if record.function.file.endswith("nn/sequential.py") and record.function.name in order:
            known = frames.get(record.function.name)
            if known is None or len(record.callers) < len(known.callers):
                frames[record.function.name] = record
    for record in story.records:
        name, outermost = record.function.name, frames.get(record.function.name)
        if outermost and record.frame == outermost.frame and {"x", "dy"} & set(record.statement.writes):
            yield _layer(story, record, *next(order[name]))
        elif name == "training_step" and "loss" in record.statement.writes:
            yield _loss(story, record)
        elif name == "training_step" and "dlogits" in record.statement.writes:
            yield _loss_gradient(story, record)


def _layer(story: Story, record: Record, path: str, layer: nn.Layer) -> Move:
    back = "dy" in record.statement.writes
    name, result, style = ("dy", "dx", "back") if back else ("x", "y", "plain")
    shapes = []
    for values in (record.before, record.after):
        if not isinstance(values.get(name), np.ndarray):
            raise ValueError(
                f"an array between two layers has more than {LARGEST:,} numbers; expected a batch and a network small "
                "enough to look at, as in x[:2]"
            )
        shapes.append("×".join(map(str, values[name].shape)))
    part = "backward" if back else "forward"
    text = (
        f"The gradient at the layer's output ({shapes[0]}) goes in, the gradient at its input ({shapes[1]}) comes out."
        if back
        else f"A batch of shape {shapes[0]} goes in, one of shape {shapes[1]} comes out."
    )
    return story.move(
        record,
        f"{'Back through layer' if back else 'Layer'} {path}: {layer!r}",
        f"{text} Look inside to see how." if any(map(tells, story.inside(record))) else text,
        [Panel(record, name, name, before=True, key="in", read=[whole(record, name, before=True)])],
        [Panel(record, name, result, key="out", write=[whole(record, name)])],
        part=part,
        arrows=[Arrow("in", "out", style=style)],
        zoom=f"{path}: {type(layer).__name__}, {part}",
    )


def _loss(story: Story, record: Record) -> Move:
    return story.move(
        record,
        "The loss: softmax cross-entropy",
        "The logits become probabilities. The loss is the mean, over the batch, of −log of the label's probability.",
        [
            Panel(record, "logits", read=[whole(record, "logits")]),
            Panel(record, "labels", read=[whole(record, "labels")]),
        ],
        [Panel(record, "cache.probabilities", "probabilities"), Panel(record, "loss", write=[(0, 0, 1, 1)])],
        formula="loss = −(1/N) Σ_n log p_{n,label}",
        arrows=[Arrow("logits", "cache.probabilities"), Arrow("cache.probabilities", "loss")],
        zoom="loss, forward",
    )


def _loss_gradient(story: Story, record: Record) -> Move:
    return story.move(
        record,
        "The loss starts the way back",
        "Probabilities minus ones at the labels, over N. Each row sums to 0: what one class gains the others lose.",
        [
            Panel(record, "cache.probabilities", "probabilities", read=[whole(record, "cache.probabilities")]),
            Panel(record, "cache.one_hot", "one_hot", read=[whole(record, "cache.one_hot")]),
        ],
        [Panel(record, "dlogits", write=[whole(record, "dlogits")])],
        part="backward",
        formula="dlogits_{n,k} = (p_{n,k} − one_hot_{n,k}) / N",
        arrows=[Arrow("cache.probabilities", "dlogits", style="back"), Arrow("cache.one_hot", "dlogits", style="back")],
        zoom="loss, backward",
    )
