"""Step through a network on your own numbers

A training step without the update: through the layers to the loss, and all the way back. Change the numbers, the labels
or the network; every layer opens.
"""

import numpy as np

from minires import nn, stepper

x = np.array([[1.0, -2.0, 0.5], [0.0, 3.0, -1.0]], np.float32)
labels = np.array([0, 1])
model = nn.Sequential(nn.Linear(3, 4, rng=0), nn.ReLU(), nn.Linear(4, 2, rng=1))

stepper.show(model, x, labels)
