"""Softmax and cross-entropy: logits become probabilities, a loss, and the simplest gradient there is."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from minires.ops import softmax_cross_entropy_backward, softmax_cross_entropy_forward
from minires.stepper.recorder import Record
from minires.stepper.story import Arrow, Move, Panel, Story, number

TITLE = "Softmax and cross-entropy"
ABOUT = "Two samples, three classes: from logits to probabilities, to the loss, and back in a single line."
MODULES = ("minires.ops.loss",)

N, K = 2, 3
LABELS = (0, 2)
FORWARD, BACKWARD = "softmax_cross_entropy_forward", "softmax_cross_entropy_backward"
LOSS, P = "-log_p.mean()", "CrossEntropyCache.probabilities"
DLOGITS = "(cache.probabilities - cache.one_hot) * (dy / len(cache.probabilities))"


def run() -> None:
    """The forward and the backward pass that are recorded."""
    logits = np.array([[3.0, 1, 2], [1, 4, 2]])
    _, cache = softmax_cross_entropy_forward(logits, np.array(LABELS))
    softmax_cross_entropy_backward(1.0, cache)


def row(n: int) -> tuple[int, int, int, int]:
    """All classes of a sample."""
    return n, 0, 1, K


def one_hot(story: Story, r: Record) -> Iterator[Move]:
    for n in range(N):
        yield story.move(
            r,
            f"The label of sample {n}",
            f"Its label is {number(r, 'labels', n)}: the row has a 1 in that column and 0 elsewhere.",
            [Panel(r, "labels", view="r", read=[(n, 0, 1, 1)])],
            [Panel(r, "one_hot", write=[row(n)], known=("row", n + 1))],
            formula="one_hot_{n,k} = 1 where k = label_n, else 0",
            arrows=[Arrow("labels", "one_hot")],
        )


def shifted(story: Story, r: Record) -> Iterator[Move]:
    for n in range(N):
        largest = int(np.argmax(r.after["logits"][n]))
        yield story.move(
            r,
            f"Take the largest logit off, sample {n}",
            f"{number(r, 'logits', n, largest)} is the largest of the row. Without it every exponent is at most 0 and "
            f"nothing overflows: {', '.join(number(r, 'shifted', n, k) for k in range(K))}. The probabilities do not "
            "notice.",
            [Panel(r, "logits", read=[row(n)])],
            [Panel(r, "shifted", write=[row(n)], known=("row", n + 1))],
            formula="softmax(z) = softmax(z − c) for every c",
            arrows=[Arrow("logits", "shifted")],
        )


def exponentials(story: Story, r: Record) -> Iterator[Move]:
    for n in range(N):
        listed = ", ".join(f"exp({number(r, 'shifted', n, k)}) = {number(r, 'exponentials', n, k)}" for k in range(K))
        yield story.move(
            r,
            f"Exponentials, sample {n}",
            f"{listed}. All are above 0, and the largest is 1.",
            [Panel(r, "shifted", read=[row(n)])],
            [Panel(r, "exponentials", write=[row(n)], known=("row", n + 1))],
            formula="e_{n,k} = exp(z_{n,k} − max z_n)",
            arrows=[Arrow("shifted", "exponentials")],
        )


def total(story: Story, r: Record) -> Iterator[Move]:
    for n in range(N):
        terms = " + ".join(number(r, "exponentials", n, k) for k in range(K))
        yield story.move(
            r,
            f"Their sum, sample {n}",
            f"{terms} = {number(r, 'total', n, 0)}",
            [Panel(r, "exponentials", read=[row(n)])],
            [Panel(r, "total", view="r,c", write=[(n, 0, 1, 1)], known=("row", n + 1))],
            formula="total_n = Σ_k e_{n,k}",
            arrows=[Arrow("exponentials", "total", style="sum")],
        )


def log_probability(story: Story, r: Record) -> Iterator[Move]:
    for n in range(N):
        yield story.move(
            r,
            f"The log-probability of the label, sample {n}",
            f"Only the label's column counts: {number(r, 'shifted', n, LABELS[n])} − log({number(r, 'total', n, 0)}) = "
            f"{number(r, 'log_p', n)}.",
            [
                Panel(r, "shifted", read=[(n, LABELS[n], 1, 1)]),
                Panel(r, "one_hot", read=[(n, LABELS[n], 1, 1)]),
                Panel(r, "total", view="r,c", read=[(n, 0, 1, 1)]),
            ],
            [Panel(r, "log_p", view="r", write=[(n, 0, 1, 1)], known=("row", n + 1))],
            formula="log p_n = z_{n,label} − max z_n − log total_n",
            arrows=[Arrow("shifted", "log_p"), Arrow("one_hot", "log_p"), Arrow("total", "log_p")],
        )


def loss(story: Story, r: Record) -> Iterator[Move]:
    terms = " + ".join(f"({number(r, 'log_p', n)})" for n in range(N))
    yield story.move(
        r,
        "The loss",
        f"The mean over the samples, with a minus sign: −({terms})/{N} = {number(r, LOSS)}. The sample whose label had "
        "the smaller probability makes most of it.",
        [Panel(r, "log_p", view="r", read=[(0, 0, N, 1)])],
        [Panel(r, LOSS, "loss", write=[(0, 0, 1, 1)])],
        formula="loss = −(1/N) Σ_n log p_{n,label}",
        arrows=[Arrow("log_p", LOSS, style="sum")],
    )
    for n in range(N):
        listed = ", ".join(number(r, P, n, k) for k in range(K))
        yield story.move(
            r,
            f"The probabilities of sample {n}, for the way back",
            f"Each exponential over their sum, {number(r, 'total', n, 0)}: {listed}. They go into the cache.",
            [Panel(r, "exponentials", read=[row(n)]), Panel(r, "total", view="r,c", read=[(n, 0, 1, 1)])],
            [Panel(r, P, "probabilities", write=[row(n)], known=("row", n + 1))],
            formula="p_{n,k} = e_{n,k} / total_n",
            arrows=[Arrow("exponentials", P), Arrow("total", P)],
        )


def gradient(story: Story, r: Record) -> Iterator[Move]:
    p, hot = "cache.probabilities", "cache.one_hot"
    for n in range(N):
        for k in range(K):
            right = k == LABELS[n]
            why = (
                "the label's logit is pulled up" if right else "a wrong class is pushed down by the probability it took"
            )
            yield story.move(
                r,
                f"dlogits: sample {n}, class {k}",
                f"({number(r, p, n, k)} − {number(r, hot, n, k)})·{number(r, 'dy')}/{N} = {number(r, DLOGITS, n, k)}: "
                f"{why}. Each row of dlogits sums to 0.",
                [Panel(r, p, "probabilities", read=[(n, k, 1, 1)]), Panel(r, hot, "one_hot", read=[(n, k, 1, 1)])],
                [Panel(r, DLOGITS, "dlogits", write=[(n, k, 1, 1)], known=("cell", n * K + k + 1))],
                formula="dlogits_{n,k} = (p_{n,k} − one_hot_{n,k}) / N",
                arrows=[Arrow(p, DLOGITS, style="back"), Arrow(hot, DLOGITS, style="back")],
            )


TALES = {
    (FORWARD, "one_hot"): one_hot,
    (FORWARD, "shifted"): shifted,
    (FORWARD, "exponentials"): exponentials,
    (FORWARD, "total"): total,
    (FORWARD, "log_p", "total"): log_probability,
    (FORWARD, "return"): loss,
    (BACKWARD, "return"): gradient,
}
