"""The laws, one family a file, its derivation on top. The tests hold them against the same laws written a second time
(`tests/theory/reference`) and against real networks.

    geometry         which tap of a kernel touches which pixel
    activations      what an activation does to a Gaussian
    pooling          the maximum of a window
    signal           convolution of a signal that varies over the image, and what is kept of it
    batchnorm        BatchNorm of such a signal
    patches          a convolution on an actual batch, and the BatchNorm behind it
    reflected_walk   h' = max(0, h + g) on a grid
    stream           that walk at every position of an image, and the gradient as a function of h
    sums             an activation of a skip path and a branch
    plain_networks   depth without normalization: fixed points, and how far one network may be off
    tangent_kernel   how far a step of gradient descent carries a network's outputs
"""
