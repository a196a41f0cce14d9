"""The CPU backend: vector instructions generated from Python, on our own threads.

    direct.py               a convolution and its input gradient: pixels addressed, weights packed, tiles in registers
    direct_weight_grad.py   its weight gradient, by the same tiles
    explicit.py             the same three with a real column matrix, by the book
    winograd.py, winograd_weight_grad.py    3x3 kernels by Winograd's algorithm, transformed by transforms.py
    convolution.py          which of them serves; where nobody says, choice.py does
    plans.py                how a kernel is told its work: records of what it reads and writes, blocks, pieces of scratch
    packing.py              how a block of pixels is laid out: im2col as addressing
    tiles.py                the product of many pixels with one panel of weights
    generated.py            the generated code: the tile, and runs of elements; isa.py says for which vectors
    threads.py              jobs cut by shape, claimed by threads; jit.py compiles
    cache.py                what is kept of that for the next process, and when it is used; trust.py says whose files are read
    columns.py, pointwise.py, norm.py, pooling.py, loss.py, updates.py      what is not a product
    warping.py              what is not the network's: augmentation

Read direct.py first. Each kernel is one compiled call a thread, on addresses and strides; a job is a fixed piece of the
result (or of a sum whose parts are added in order), so the threads decide nothing but who computes it: same bits at any
number of them. docs/kernels.md tells why it is as it is, with measurements.
"""

from numpy import asarray

from ..buffers import empty
from .columns import col2im, im2col
from .convolution import (
    conv2d,
    conv2d_grads,
    conv2d_input_grad,
    conv2d_relu,
    conv2d_relu_grads,
    conv2d_weight_grad,
    conv_transpose2d,
)
from .jit import probe
from .loss import softmax_cross_entropy
from .norm import moments, normalize, normalize_grads, normalize_relu, normalize_relu_grads
from .pointwise import bias_grad, dropout, relu, relu_grad
from .pooling import max_pool2d, max_pool2d_grad, max_pool2d_grad_plus
from .updates import adam_update, average_update, clip_norm, is_finite, sgd_update
from .warping import warp

__all__ = [
    "adam_update", "asarray", "average_update", "bias_grad", "clip_norm", "col2im", "conv2d", "conv2d_grads",
    "conv2d_input_grad", "conv2d_relu", "conv2d_relu_grads", "conv2d_weight_grad", "conv_transpose2d", "dropout", "empty",
    "im2col", "is_finite", "max_pool2d", "max_pool2d_grad", "max_pool2d_grad_plus", "moments", "normalize",
    "normalize_grads", "normalize_relu", "normalize_relu_grads", "probe", "relu", "relu_grad", "sgd_update",
    "softmax_cross_entropy", "warp",
]  # fmt: skip
