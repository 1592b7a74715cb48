"""The laws: what an initializer does to a network's signal and gradient, foretold, measured, and compared.

    predict(model, shape)            walk a model without running it: a SignalReport, every number with grade and spread
    measure(model, shape, seeds=R)   the same table from the real passes of R networks
    compare(predicted, measured)     a verdict per row, and the first layer that departs
    check_initializer(sampler, shape, law)     does anybody's sampler obey the law it claims, and which mistake is it

One law family a file, its derivation on top. For one matrix or one layer:

    weights    the sampling law of one weight matrix          geometry   which tap touches which pixel
    layer      forward, backward and weight gradient of one layer, exact at finite width, with single-draw variance
    pooling    pooling and dropout, position by position      stats      z, t, chi-square and KS tests, thresholds

for whole networks:

    deep       without normalization: exact for ReLU, mean field for the others, and how far one network may be off
    residual   residual networks without normalization        lindley    with BatchNorm, without edges
    position   with BatchNorm and zero padding, resolved by position (`maps`, `walk` and `layout` are its parts)
    conditional    backward given the forward pass, any input     loss   softmax cross-entropy at the start

`rules` has the rule of each layer of minires that `predict` walks by, `growth` keeps streams without BatchNorm on their
grid, `forecast` reads a prediction in one phrase, `shipped` judges the initializers that others ship.
"""

from minires.theory.check import InitializerReport, check_initializer
from minires.theory.compare import ComparisonReport, compare
from minires.theory.geometry import Axis, ConvGeometry
from minires.theory.layout import Block, resnet_layout, stages
from minires.theory.measure import measure
from minires.theory.predict import predict
from minires.theory.report import Quantity, Row, SignalReport

__all__ = [
    "Axis",
    "Block",
    "ComparisonReport",
    "ConvGeometry",
    "InitializerReport",
    "Quantity",
    "Row",
    "SignalReport",
    "check_initializer",
    "compare",
    "measure",
    "predict",
    "resnet_layout",
    "stages",
]
