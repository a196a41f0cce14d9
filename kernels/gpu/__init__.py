"""The GPU backend: CUDA C++ compiled at run time through CuPy.

    device.py       the one door to CUDA: memory, sources, launches; cuda.py is CuPy behind it
    graph.py        a step's launches as one
    convolution.py  the three convolutions: implicit.py launches conv.cu, which builds no matrix; explicit.py builds it
    plan.py         which variant of conv.cu, in how many blocks, its sum in how many parts
    head.py         the last convolution with the loss and all of its gradients: head.cu, one pass over its input
    layout.py       how activations are handed to kernels
    norm.py         normalisation, which CuPy's own functions compute
    windows.py, pointwise.py, dropout.py, loss.py, updates.py      what is not a product: each launches its .cu
    common.cuh      what all sources share, and every instruction that C++ has no word for behind one function each

A kernel has a thread for each 16 bytes of its result where all arrays allow that, else for each element. Sums are cut by
shape alone and added in a fixed order, those over all pixels in float64, those of products in their own type. So no result
depends on what else a device does; and on the device itself only as far as it has tensor cores or not.
"""

from .convolution import (
    conv2d,
    conv2d_grads,
    conv2d_input_grad,
    conv2d_relu,
    conv2d_relu_grads,
    conv2d_weight_grad,
    conv_transpose2d,
)
from .device import asarray, empty
from .dropout import dropout
from .head import linear_cross_entropy
from .loss import softmax_cross_entropy
from .norm import moments, normalize, normalize_grads
from .pointwise import bias_grad, cast, relu, relu_grad
from .updates import adam_update, average_update, clip_norm, guarded_adam_update, guarded_sgd_update, sgd_update
from .windows import col2im, im2col, max_pool2d, max_pool2d_grad, max_pool2d_grad_plus

__all__ = [
    "adam_update", "asarray", "average_update", "bias_grad", "cast", "clip_norm", "col2im", "conv2d", "conv2d_grads",
    "conv2d_input_grad", "conv2d_relu", "conv2d_relu_grads", "conv2d_weight_grad", "conv_transpose2d", "dropout", "empty",
    "guarded_adam_update", "guarded_sgd_update", "im2col", "linear_cross_entropy", "max_pool2d", "max_pool2d_grad",
    "max_pool2d_grad_plus", "moments", "normalize", "normalize_grads", "relu", "relu_grad", "sgd_update",
    "softmax_cross_entropy",
]  # fmt: skip
