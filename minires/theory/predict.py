"""Predict a network's signal before running it: a walk over the layers that carries laws instead of arrays.

Forward the walk carries a `Signal`: the second moment q(i) at each position, averaged over channels, and the covariance
K(i, i') of two *different* samples of the batch, from which comes everything that a BatchNorm removes. Backward it
carries a `Gradient`: the second moment g(i) of dL/dy at each position in units of the upstream gradient, which is
independent of everything, with mean 0 and mean square 1 at the model's output.

INTERFACE between the two authors (to be replaced by the final text):
    position.py gives, for BasicBlock / PreActBlock with BatchNorm, one pair of functions a block, so that any model
    that holds such blocks can be walked (a Sequential of blocks, a ResNet, a student's own net):
        stream = position.start(q_hat, kernel_hat)              # after relu(bn(conv)): the stem; q_hat (H, W), (P, P)
        stream, record = position.block_forward(stream, geometry1, geometry2, shortcut, channels_in, channels_out)
              # shortcut: "identity" | "A" | "B"; record keeps what backward and the rows need, per layer of the block:
              # for conv1, bn1, relu1, conv2, bn2, shortcut.0, shortcut.1, relu2: forward second moment map, batch variance
        gradient, record_b = position.block_backward(gradient, record)   # gradient: Gamma(h, i), scaled per entry
        stream.q, stream.kernel -> (H, W) and (P, P): what a following conv/pool sees
        position.center(z, C), position.random_scale(z, C) -> E[1/v], q_hat, C_hat : used by my BatchNorm rule too
    geometry.ConvGeometry has box, box_transpose, pair, per_tap.  layer.py has gaussian_moment, activation tables.
    report.Row / Quantity: what every row holds.
"""
