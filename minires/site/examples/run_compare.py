"""Compare three initializers while they train

The same small network from three starts: the signal layer by layer before training, then the loss, step by step. Predict
which of them learn; then run. Stop ends it at once.
"""

import matplotlib.pyplot as plt
import numpy as np

from minires import init, nn, optim
from minires.commands import initializer
from minires.comparison import NETWORKS, measure
from minires.data import load_digits
from minires.plot.style import COLORS, caption, new_figure
from minires.train import TrainingDiverged, fit

NETWORK = "plain"  # @param ["plain", "plain + BatchNorm", "residual", "residual + BatchNorm"]
FIRST = "he_normal"  # @param ["zero", "normal:0.01", "normal:1", "xavier_normal", "he_normal", "orthogonal"]
SECOND = "xavier_normal"  # @param ["zero", "normal:0.01", "normal:1", "xavier_normal", "he_normal", "orthogonal"]
THIRD = "normal:0.01"  # @param ["zero", "normal:0.01", "normal:1", "xavier_normal", "he_normal", "orthogonal"]
DEPTH = 8  # @param {type: "integer", min: 8, max: 56, step: 6}
EPOCHS = 2  # @param {type: "integer", min: 1, max: 20}
RATE = 0.02  # @param {type: "number", min: 0}
SEED = 0  # @param {type: "integer", min: 0}

digits = load_digits()
schedule = optim.Warmup(optim.Constant(RATE), 10)
figure, axes = new_figure(1, 3, size=(13, 4.2), title=f"{DEPTH} layers, {NETWORK}: three starts")
forward, backward, loss = axes[0]
caption(forward, "activations before training", x="layer", y="rms")
caption(backward, "gradients before training", x="layer", y="rms")
caption(loss, "loss while it trains", x="step", y="cross-entropy (nats)")
loss.axhline(np.log(10), color="gray", linewidth=0.8, linestyle=":")

for name, color in zip((FIRST, SECOND, THIRD), COLORS):
    model = nn.resnet(DEPTH, width=8, in_channels=1, **NETWORKS[NETWORK])
    init.initialize(model, initializer(name), rng=SEED)
    signal, _ = measure(model, digits.x_train[:128], digits.y_train[:128])
    forward.semilogy(list(signal.activations.values()), color=color, label=name)
    backward.semilogy(list(signal.gradients.values()), color=color, label=name)
    forward.legend(frameon=False)
    losses, (line,) = [], loss.plot([], [], color=color, label=name)

    def watch(progress):
        losses.append(progress.loss)
        line.set_data(range(1, len(losses) + 1), losses)
        loss.relim()
        loss.autoscale_view()
        plt.pause(0.001)

    try:
        history = fit(model, digits, epochs=EPOCHS, batch_size=32, schedule=schedule, seed=SEED, report=watch)
        print(f"{name:15} {history.epochs[-1]['test_accuracy']:6.1%} of the test images")
    except TrainingDiverged as problem:
        print(f"{name:15} {problem}")
