"""The CPU backend: Numba loops around a matrix product, on our own threads.

A convolution is a product of the column matrix with the weights, and the column matrix is R*S times the image. So it
is never built whole: each job takes a block of output rows of one image, lays out that block's columns in a scratch
buffer that stays in cache, and multiplies it.

    for block of output rows:        one job, claimed by whichever thread is free      threads.run
        columns of the block         Numba                                             columns.py
        y[block] = columns @ w       NumPy's BLAS on one thread                        convolution.py
        y[block] += b, relu          Numba, while the block is in cache                pointwise.py

The input gradient is the same with the roles turned: each pixel of dx gathers the dy that it reached, so no two
threads ever write one element. The weight gradient sums over all pixels: its chunks are cut by shape alone and
added in order. Hence the same bits at any thread count.
"""

from .columns import col2im, im2col
from .convolution import conv2d, conv2d_input_grad, conv2d_weight_grad
from .jit import probe
from .loss import softmax_cross_entropy
from .pointwise import bias_grad, relu, relu_grad
from .pooling import max_pool2d, max_pool2d_grad
from .updates import adam_update, sgd_update

__all__ = [
    "adam_update", "bias_grad", "col2im", "conv2d", "conv2d_input_grad", "conv2d_weight_grad", "im2col", "max_pool2d",
    "max_pool2d_grad", "probe", "relu", "relu_grad", "sgd_update", "softmax_cross_entropy",
]  # fmt: skip
