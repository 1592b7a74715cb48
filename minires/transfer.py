"""What trained weights are worth on other images: the same network and training from two or more starts.

Transfer, as it is done here: take over all arrays but the head's, draw the head anew, and train on; or keep the rest
as it is ("frozen") and train the head alone.
Source: Yosinski et al. 2014, "How transferable are features in deep neural networks?", arXiv:1411.1792.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from . import init, nn, optim
from .data import Augmentation, Split, count_batches
from .recipes import model_for
from .train import History, fit

HEAD = "linear"


def start_from(weights: Mapping[str, np.ndarray], layers: Sequence[str], rng: int = 0) -> nn.ResNet:
    """The network of `weights` with only these layers ("conv1", "bn1", "layer1", ...) taken over from it.

    All others are drawn anew by He's law.
    """
    model = model_for(weights)
    trained = model.state_dict()
    init.initialize(model, init.HeNormal(), rng=rng)
    taken = {name: array for name, array in trained.items() if name.split(".")[0] in layers}
    init.from_pretrained(model, taken, strict=False)
    return model


def compare_starts(
    weights: Mapping[str, np.ndarray],
    data: Split,
    *,
    epochs: int = 3,
    lr: float = 0.05,
    batch_size: int = 128,
    seed: int = 0,
    augmentation: Augmentation | None = None,
    frozen: bool = False,
) -> dict[str, History]:
    """Train the network of `weights` on `data` from He's initialization and from these weights (but the head).

    Both runs have the same settings, batches and head. frozen: add a run in which only the head is trained.
    Returns {"He": history, "pretrained": history, "pretrained, frozen": history}; `plot.curves.draw_comparison`
    draws it.
    """
    body = [name for name, _ in model_for(weights).children() if name != HEAD]
    starts = {"He": ((), ()), "pretrained": (body, ())}
    if frozen:
        starts["pretrained, frozen"] = (body, body)
    steps = epochs * count_batches(len(data.x_train), batch_size)
    found = {}
    for name, (taken, kept) in starts.items():
        model = start_from(weights, taken, rng=seed)
        parameters = [p for p in model.parameters() if p.name.split(".")[0] not in kept]
        found[name] = fit(
            model,
            data,
            epochs=epochs,
            batch_size=batch_size,
            optimizer=optim.SGD(parameters, lr, weight_decay=1e-4),
            schedule=optim.Cosine(lr, steps),
            seed=seed,
            augmentation=augmentation,
            frozen=kept,
        )
    return found
