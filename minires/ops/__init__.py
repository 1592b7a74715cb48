"""Operations: pure functions, arrays in, arrays out. One operation a file: its maths, its forward, its backward.

Every `NAME_forward` returns (y, cache), every `NAME_backward` takes (dy, cache), where dy is the gradient of the loss
with respect to y, and returns the gradients with respect to the inputs. No op changes its inputs, keeps state or
draws a random number on its own. Start reading at `linear.py`, then `window.py`
and `conv.py`.
"""

from minires.ops.linear import linear_backward, linear_forward
from minires.ops.conv import col2im, conv2d_backward, conv2d_forward, im2col
from minires.ops.batchnorm import batchnorm_backward, batchnorm_forward
from minires.ops.layernorm import layernorm_backward, layernorm_forward
from minires.ops.groupnorm import groupnorm_backward, groupnorm_forward
from minires.ops.activation import relu_backward, relu_forward, leaky_relu_backward, leaky_relu_forward
from minires.ops.activation import sigmoid_backward, sigmoid_forward, tanh_backward, tanh_forward
from minires.ops.pooling import avg_pool2d_backward, avg_pool2d_forward, max_pool2d_backward, max_pool2d_forward
from minires.ops.pooling import global_avg_pool2d_backward, global_avg_pool2d_forward
from minires.ops.dropout import dropout_backward, dropout_forward
from minires.ops.softmax import softmax_backward, softmax_forward
from minires.ops.loss import softmax_cross_entropy_backward, softmax_cross_entropy_forward
from minires.ops.loss import mse_backward, mse_forward
