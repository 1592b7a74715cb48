"""Predict a signal without running the network

Every initializer obeys laws, and so does the signal: the lines come from analysis alone. Measure as many networks as you
like, and see where the dots fall.
"""

from minires import nn, theory
from minires.commands import initializer
from minires.plot.signal import Signal, draw_signals
from minires.theory.forecast import read

DEPTH = 20  # @param {type: "integer", min: 8, max: 56, step: 6}
SHORTCUT = "A"  # @param ["A", "B", None]
BATCHNORM = True  # @param {type: "boolean"}
FIRST = "he_normal"  # @param ["normal:0.01", "normal:0.1", "lecun_normal", "xavier_normal", "he_normal", "he_uniform", "orthogonal"]
SECOND = "xavier_normal"  # @param ["normal:0.01", "normal:0.1", "lecun_normal", "xavier_normal", "he_normal", "he_uniform", "orthogonal"]
MEASURED = 2  # @param {type: "integer", min: 0, max: 8}

model = nn.resnet(DEPTH, width=8, shortcut=SHORTCUT, batchnorm=BATCHNORM)
shape = (32, 3, 16, 16)
signals = {}
for name in (FIRST, SECOND):
    law = initializer(name)
    predicted = theory.predict(model, shape, weight=law)
    measured = theory.measure(model, shape, seeds=MEASURED, weight=law, rng=0) if MEASURED else None
    signals[name] = Signal(predicted, measured)
    print(f"{name}: {read(predicted).verdict}")

draw_signals(signals, f"resnet{DEPTH}: what the theory foretells")
