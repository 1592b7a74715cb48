"""What is trained and how, as plain settings: the ones that `minires train` takes, and the published recipe.

A `Settings` says everything that decides a run. It is kept in checkpoints and beside weights, so that a run can be
resumed and its weights evaluated without a word about how they came to be.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from . import init, nn, optim
from .checks import check_state, flag
from .data import Augmentation, Split, count_batches
from .pretrained import translate


@dataclass(frozen=True)
class Settings:
    """A run's settings.

    data: a data set's name, or a folder; held_out: see `data.load`. model: "resnetN" or "plainN", N = 6n + 2.
    init: what the weights are drawn from, in the command line's words. weights: the file they come from instead, or
    None; frozen: all but the head stays as it is there. lr: the highest learning rate. schedule: "cosine" (down to 0),
    "step" (a tenth after 1/2 and after 3/4 of the run) or "constant". warmup: steps over which the rate rises from a
    tenth of lr. pad, flip: see `data.Augmentation`.
    """

    data: str = "digits"
    held_out: int | None = None
    model: str = "resnet8"
    width: int = 16
    shortcut: str = "A"
    batchnorm: bool = True
    init: str = "he_normal"
    weights: str | None = None
    frozen: bool = False
    epochs: int = 20
    batch_size: int = 32
    lr: float = 0.1
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4
    schedule: str = "cosine"
    warmup: int = 0
    pad: int = 1
    flip: bool = False
    seed: int = 0


SCHEDULES = ("cosine", "step", "constant")

DEFAULTS: Mapping[str, Settings] = {
    "digits": Settings(),
    "mnist": Settings(data="mnist", epochs=8, batch_size=64, pad=2),
    "fashion": Settings(data="fashion", epochs=15, batch_size=128, pad=2, flip=True),
    "cifar10": Settings(data="cifar10", model="resnet20", epochs=30, batch_size=128, pad=4, flip=True),
    "cifar100": Settings(data="cifar100", model="resnet20", epochs=60, batch_size=128, pad=4, flip=True),
}
"""What `minires train --data NAME` does when nothing else is said."""

PICTURES = Settings(epochs=30, pad=4)
"""The same for a folder of pictures: at most a few hundred, as a rule."""

HE2015_STEPS = 64_000


def he2015(model: str, train_images: int) -> Settings:
    """He et al. 2015 (arXiv:1512.03385), section 4.2: CIFAR-10, batch 128, lr 0.1, momentum 0.9, weight decay 1e-4.

    64k steps with a tenth of the rate after 32k and 48k; 110 layers and more start with a warm-up of 400 steps (the
    paper holds 0.01 until the training error is below 80 %, "about 400 iterations").
    """
    epochs = -(-HE2015_STEPS // count_batches(train_images, 128))
    warmup = 400 if depth_of(model) >= 110 else 0
    base = replace(DEFAULTS["cifar10"], model=model, epochs=epochs, schedule="step", warmup=warmup)
    return replace(base, batch_size=128, lr=0.1, momentum=0.9, weight_decay=1e-4, pad=4, flip=True)


def depth_of(model: str) -> int:
    """The N of "resnetN" and "plainN". Raises ValueError for another name or another depth than 6n + 2."""
    match = re.fullmatch(r"(?:resnet|plain)(\d{1,4})", model) if isinstance(model, str) else None
    if match is None or (int(match[1]) - 2) % 6 or int(match[1]) < 8:
        raise ValueError(f"model is {model!r}; expected resnetN or plainN with N = 6n + 2: 8, 14, 20, 32, 44, 56, 110")
    return int(match[1])


def build_model(
    settings: Settings, in_channels: int, weight_init: init.Initializer = init.HeNormal(), num_classes: int = 10
) -> nn.ResNet:
    """The network of `settings`, its weights drawn by `weight_init` and `settings.seed`."""
    return nn.resnet(
        depth_of(settings.model),
        width=settings.width,
        shortcut=settings.shortcut if settings.model.startswith("resnet") else None,
        batchnorm=settings.batchnorm,
        in_channels=in_channels,
        num_classes=num_classes,
        weight_init=weight_init,
        rng=settings.seed,
    )


def model_for(weights: Mapping[str, np.ndarray], plain: bool = False) -> nn.ResNet:
    """The network that a file's arrays belong to, by their names and shapes, with these weights in it.

    plain: without shortcuts, which the names do not tell. Raises ValueError for what is no ResNet of BasicBlocks.
    """
    check_state("weights", weights)
    shapes = {translate(name): array.shape for name, array in weights.items()}
    if not {"conv1.weight", "linear.weight"} <= shapes.keys():
        raise ValueError(f"weights: {_what_is_missing(weights)}")
    try:
        (width, in_channels, *_), (num_classes, _) = shapes["conv1.weight"], shapes["linear.weight"]
    except ValueError:
        wrong = {name: shapes[name] for name in ("conv1.weight", "linear.weight")}
        raise ValueError(f"weights: {wrong}; expected four axes and two, as a ResNet for small images has") from None
    blocks = _blocks_in(shapes, width)
    if shapes["conv1.weight"][2:] != (3, 3):
        raise ValueError(
            f"weights: conv1.weight is {shapes['conv1.weight']}; expected 3x3 kernels, as for small images"
        )
    shortcut = "B" if any(".shortcut." in name for name in shapes) else "A"
    model = nn.resnet(
        blocks=blocks,
        width=width,
        shortcut=None if flag("plain", plain) else shortcut,
        batchnorm="bn1.weight" in shapes,
        in_channels=in_channels,
        num_classes=num_classes,
        weight_init=init.Zeros(),
    )
    init.from_pretrained(model, weights)
    return model


def _what_is_missing(weights: Mapping[str, Any]) -> str:
    """Why the names are not a ResNet's: a prefix before all of them, most often."""
    names = list(weights)
    for name in names:
        prefix, found, _ = name.rpartition("conv1.weight")
        if found and prefix and not re.search(r"layer\d+\.\d+\.$", prefix):
            return f"every name seems to have {prefix!r} in front, as {name} has; expected conv1.weight: take it off"
    known = {translate(name) for name in names}
    needed = {"conv1.weight": "conv1.weight", "linear.weight": "linear.weight (or fc.weight)"}
    missing = " and ".join(words for name, words in needed.items() if name not in known)
    more = ", ..." if len(names) > 5 else ""
    return f"no {missing} in them, as a ResNet has; there are {', '.join(names[:5])}{more}"


def _blocks_in(shapes: Mapping[str, tuple[int, ...]], width: int) -> tuple[int, ...]:
    """Blocks in each stage. Every convolution's shape is compared, so that no model larger than the file is built."""
    stages: list[int] = []
    before = width
    while f"layer{len(stages) + 1}.0.conv1.weight" in shapes:
        stage, blocks = len(stages) + 1, 0
        channels = width * 2 ** (stage - 1)
        while f"layer{stage}.{blocks}.conv1.weight" in shapes:
            for number, inputs in ((1, before), (2, channels)):
                name, expected = f"layer{stage}.{blocks}.conv{number}.weight", (channels, inputs, 3, 3)
                if shapes.get(name) != expected:
                    shape = shapes.get(name, "not there")
                    raise ValueError(f"weights: {name} is {shape}; expected {expected}, as in a BasicBlock")
            before, blocks = channels, blocks + 1
        stages.append(blocks)
    if not stages:
        raise ValueError("weights: no layer1.0.conv1.weight in them, as a ResNet has")
    if shapes["linear.weight"][1] != before:
        raise ValueError(f"weights: linear.weight is {shapes['linear.weight']}; expected (classes, {before})")
    return tuple(stages)


def build_schedule(settings: Settings, steps: int) -> Callable[[int], float]:
    """The learning rate of each of the run's `steps`."""
    schedule: Any = {
        "cosine": optim.Cosine(settings.lr, steps),
        "step": optim.Step(settings.lr, (steps // 2, steps * 3 // 4), 0.1),
        "constant": optim.Constant(settings.lr),
    }[settings.schedule]
    return optim.Warmup(schedule, settings.warmup, start=0.1) if settings.warmup else schedule


def fit_arguments(settings: Settings, model: nn.ResNet, data: Split) -> dict[str, Any]:
    """What `train.fit` takes besides model, data and where to write."""
    frozen = tuple(name for name, _ in model.children() if name != "linear") if settings.frozen else ()
    trained = [p for p in model.parameters() if not settings.frozen or p.name.startswith("linear.")]
    steps = settings.epochs * count_batches(len(data.x_train), settings.batch_size)
    return {
        "epochs": settings.epochs,
        "batch_size": settings.batch_size,
        "optimizer": optim.SGD(
            trained, settings.lr, settings.momentum, nesterov=settings.nesterov, weight_decay=settings.weight_decay
        ),
        "schedule": build_schedule(settings, steps),
        "seed": settings.seed,
        "augmentation": Augmentation(settings.pad, settings.flip),
        "frozen": frozen,
    }
