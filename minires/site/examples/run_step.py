"""Step through an operation

One move at a time, forward and then back, on real numbers. Beside each picture stands the line of code that did it.
"""

from minires import stepper

LESSON = "conv"  # @param ["conv", "batchnorm", "residual", "relu", "maxpool", "softmax", "linear", "sgd"]

stepper.show(LESSON)
