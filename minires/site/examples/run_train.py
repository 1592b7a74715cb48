"""Train a residual network on real digits

1,442 handwritten digits to learn from, 355 that training never sees. Every forward and backward pass runs in Python.
"""

import matplotlib.pyplot as plt
import numpy as np

from minires import nn, optim
from minires.data import Augmentation, count_batches, load_digits
from minires.plot.curves import draw_history
from minires.plot.style import new_figure
from minires.train import fit

DEPTH = 8  # @param {type: "integer", min: 8, max: 32, step: 6}
WIDTH = 8  # @param {type: "integer", min: 2, max: 16}
SHORTCUTS = True  # @param {type: "boolean"}
EPOCHS = 5  # @param {type: "integer", min: 1, max: 30}
RATE = 0.1  # @param {type: "number", min: 0}
SEED = 0  # @param {type: "integer", min: 0}

digits = load_digits()
model = nn.resnet(DEPTH, width=WIDTH, in_channels=1, shortcut="A" if SHORTCUTS else None, rng=SEED)
steps = EPOCHS * count_batches(len(digits.x_train), 32)


def watch(now):
    if now.row:
        print(f"epoch {now.epoch}: test accuracy {now.row['test_accuracy']:.1%}, {now.images_per_second:.0f} images/s")


history = fit(
    model,
    digits,
    epochs=EPOCHS,
    batch_size=32,
    schedule=optim.Cosine(RATE, steps),
    seed=SEED,
    augmentation=Augmentation(1),
    report=watch,
)
draw_history(history, f"resnet{DEPTH} on the digits")

guesses = model.infer(digits.x_test).argmax(axis=1)
wrong = np.flatnonzero(guesses != digits.y_test)[:8]
if len(wrong):
    figure, axes = new_figure(1, 8, size=(11, 2), title=f"{np.mean(guesses != digits.y_test):.1%} wrong, for example")
    for ax in axes.flat:
        ax.axis("off")
    for ax, i in zip(axes.flat, wrong):
        ax.imshow(digits.x_test[i, 0], cmap="gray_r")
        ax.set_title(f"{digits.y_test[i]}, not {guesses[i]}", fontsize=11)
plt.show()
