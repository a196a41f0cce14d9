"""The three convolutions of the contract, and the choice of their algorithm.

    direct         direct.py, direct_weight_grad.py: im2col as addressing; any geometry
    winograd2x2    winograd.py, winograd_weight_grad.py: 2.25 times fewer multiplications; 3x3 kernels of stride 1
    winograd4x4    the same with 4 times fewer, and about one digit less of accuracy
    im2col         explicit.py: the column matrix built and multiplied, by the book
    auto           for 3x3 kernels of stride 1 the fastest, as choice.py says; else direct

`kernels.algorithm` says which; `mask` is what relu gave, where its gradient is fused: dy counts where that is above 0.

Each of the three passes chooses for itself, by its own sizes and dtype: never by the number of images or threads, or by a
timing, on which no bit may depend. A convolution's input gradient is one too, from K to C channels onto x's pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .. import algorithm_in_use
from ..geometry import Pair, output_hw
from . import direct, direct_weight_grad, explicit, winograd, winograd_weight_grad
from .choice import fastest

Array = NDArray[np.floating]

OUTPUTS = {"winograd2x2": 2, "winograd4x4": 4}  # a side of a tile


def conv2d(x: Array, w: Array, b: Array | None = None, *, stride: Pair, padding: Pair, **options: Any) -> Array:
    """y = im2col(x) @ w + b, then relu if asked for."""
    r, s, c, k = w.shape
    algorithm = chosen(output_hw(x.shape, (r, s), stride, padding), c, k, (r, s), stride, x.dtype)
    if m := OUTPUTS.get(algorithm):
        return winograd.conv2d(x, w, b, m=m, padding=padding, **options)
    module = explicit if algorithm == "im2col" else direct
    return module.conv2d(x, w, b, stride=stride, padding=padding, **options)


def conv2d_input_grad(dy: Array, w: Array, x_shape: tuple[int, ...], *, stride: Pair, padding: Pair, **options: Any) -> Array:
    """dx = col2im(dy @ w^T)."""
    r, s, c, k = w.shape
    algorithm = chosen((x_shape[1], x_shape[2]), k, c, (r, s), stride, dy.dtype)
    if m := OUTPUTS.get(algorithm):
        return winograd.conv2d_input_grad(dy, w, x_shape, m=m, padding=padding, **options)
    module = explicit if algorithm == "im2col" else direct
    return module.conv2d_input_grad(dy, w, x_shape, stride=stride, padding=padding, **options)


def conv2d_weight_grad(
    x: Array, dy: Array, w_shape: tuple[int, ...], *, stride: Pair, padding: Pair, mask: Array | None = None
) -> tuple[Array, Array]:
    """dw = im2col(x)^T @ dy and db = sum of dy."""
    r, s, c, k = w_shape
    algorithm = chosen((dy.shape[1], dy.shape[2]), c, k, (r, s), stride, x.dtype)
    if m := OUTPUTS.get(algorithm):
        return winograd_weight_grad.conv2d_weight_grad(x, dy, w_shape, m=m, padding=padding, mask=mask)
    module = explicit if algorithm == "im2col" else direct_weight_grad
    return module.conv2d_weight_grad(x, dy, w_shape, stride=stride, padding=padding, mask=mask)


def conv2d_grads(x: Array, dy: Array, w: Array, *, input_grad: bool = True, **options: Any) -> tuple[Array | None, Array, Array]:
    """dx, dw, db: each pass applies the mask as it loads dy."""
    dw, db = conv2d_weight_grad(x, dy, w.shape, **options)
    return conv2d_input_grad(dy, w, x.shape, **options) if input_grad else None, dw, db


def conv2d_relu(x: Array, w: Array, b: Array | None = None, **options: Any) -> Array:
    """conv2d, relu, at once."""
    return conv2d(x, w, b, relu=True, **options)


def conv2d_relu_grads(x: Array, dy: Array, w: Array, y: Array, **options: Any) -> tuple[Array | None, Array, Array]:
    """relu_grad, conv2d_grads, at once."""
    return conv2d_grads(x, dy, w, mask=y, **options)


def conv_transpose2d(x: Array, w: Array, b: Array | None, y_shape: tuple[int, ...], **options: Any) -> Array:
    """conv2d_input_grad + b, at once."""
    return conv2d_input_grad(x, w, y_shape, b=b, **options)


def chosen(pixels: Pair, c: int, k: int, kernel: Pair, stride: Pair, dtype: DTypeLike) -> str:
    """Return the algorithm that computes c to k channels onto `pixels` a side."""
    algorithm = algorithm_in_use(kernel, stride)
    if algorithm != "auto":
        return algorithm
    return fastest(*pixels, c, k, dtype) if (kernel, stride) == ((3, 3), (1, 1)) else "direct"
