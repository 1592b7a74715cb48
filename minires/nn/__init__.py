"""Layers that own parameters and remember what backward needs, and the residual networks made of them."""

from minires.nn.layer import Layer, Observer, Parameter
from minires.nn.layers import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Identity,
    LeakyReLU,
    Linear,
    MaxPool2d,
    MeanSquaredError,
    ReLU,
    Sigmoid,
    SoftmaxCrossEntropy,
    Tanh,
)
from minires.nn.residual import BasicBlock, Bottleneck, PreActBlock, ResidualBlock, Subsample
from minires.nn.resnet import (
    ResNet,
    plain20,
    plain32,
    plain44,
    plain56,
    resnet,
    resnet20,
    resnet32,
    resnet44,
    resnet56,
    resnet110,
)
from minires.nn.sequential import Sequential
