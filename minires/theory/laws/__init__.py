"""The laws, one family a file, its derivation on top.

One layer, exact at finite width:

    geometry      which tap of a kernel touches which pixel      convolution   convolutions and linear layers
    activations   ReLU, tanh, sigmoid on a Gaussian              batchnorm     BatchNorm's identities and its backward
    pooling       pooling and dropout                            loss          softmax cross-entropy at the start

A signal over an image, and a residual stream:

    signal        convolution, BatchNorm and ReLU, position by position
    reflected_walk, stream, rescaled_stream      h' = max(0, h + g): on a grid, at every position, in units of its rms

Whole networks:

    plain_networks       without normalization: exact for ReLU, mean field for others; how far one network may be off
    residual_networks    residual networks without normalization
    batchnorm_networks   with BatchNorm, without edges           padded_networks   with BatchNorm and zero padding
    given_forward        the backward pass given the forward pass, for any input     blocks   layouts of the above
"""
