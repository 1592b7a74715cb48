"""Laws written a second time, from their recursions and for one kind of network each, to hold `predict` against.

convolution, batchnorm    one layer on any input: exact, with how far a single draw may be off
pooling                   pooling of independent pixels, and dropout
plain_networks            plain networks layer by layer
batchnorm_networks        residual networks with BatchNorm and without edges (Lindley's recursion, Spitzer's sums)
padded_networks           the same with zero padding, resolved by position
residual_networks         residual networks without normalization
given_forward             the backward pass given the forward pass, for any input
loss                      softmax cross-entropy at the start
blocks                    layouts of residual networks, which the laws above take
statistics                z-scores and bounds for single draws
"""
