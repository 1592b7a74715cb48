"""Layers that own parameters and remember what backward needs, and the residual networks made of them."""

from minires.nn.layer import Layer, Observer, Parameter
from minires.nn.layers import Conv2d, Linear
from minires.nn.layers import BatchNorm2d, GroupNorm, LayerNorm
from minires.nn.layers import LeakyReLU, ReLU, Sigmoid, Tanh
from minires.nn.layers import AvgPool2d, GlobalAvgPool2d, MaxPool2d
from minires.nn.layers import Dropout, Flatten, Identity
from minires.nn.layers import MeanSquaredError, SoftmaxCrossEntropy
from minires.nn.residual import BasicBlock, Bottleneck, PreActBlock, ResidualBlock, Subsample
from minires.nn.resnet import ResNet, resnet, resnet20, resnet32, resnet44, resnet56, resnet110
from minires.nn.resnet import plain20, plain32, plain44, plain56
from minires.nn.sequential import Sequential
