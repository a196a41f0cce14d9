"""What a convolution takes beyond its results, by shapes alone: for estimates of memory.

Each pass asks what convolution.py would run, and gets bytes of scratch, which each thread takes, and of arrays: partial
sums, column matrices.
"""

from __future__ import annotations

from numpy.typing import DTypeLike

from ..geometry import Pair, Shape, output_hw
from . import direct, direct_weight_grad, explicit, winograd, winograd_weight_grad
from .convolution import OUTPUTS, chosen


def conv2d(
    x_shape: Shape, w_shape: Shape, dtype: DTypeLike, *, stride: Pair, padding: Pair, algorithm: str = "auto"
) -> tuple[int, int]:
    """Return what conv2d takes."""
    r, s, c, k = w_shape
    algorithm = chosen(algorithm, output_hw(x_shape, (r, s), stride, padding), c, k, (r, s), stride, dtype)
    if m := OUTPUTS.get(algorithm):
        return winograd.conv2d_working(x_shape, w_shape, dtype, m=m, padding=padding)
    working = explicit.working if algorithm == "im2col" else direct.conv2d_working
    return working(x_shape, w_shape, dtype, stride=stride, padding=padding)


def conv2d_input_grad(
    x_shape: Shape, w_shape: Shape, dtype: DTypeLike, *, stride: Pair, padding: Pair, algorithm: str = "auto"
) -> tuple[int, int]:
    """Return what conv2d_input_grad takes."""
    (n, h, w, _), (r, s, c, k) = x_shape, w_shape
    algorithm = chosen(algorithm, (h, w), k, c, (r, s), stride, dtype)
    if m := OUTPUTS.get(algorithm):  # of stride 1: the convolution of dy with the taps in reverse
        dy_shape = (n, *output_hw(x_shape, (r, s), stride, padding), k)
        return winograd.conv2d_working(dy_shape, (r, s, k, c), dtype, m=m, padding=(2 - padding[0], 2 - padding[1]))
    working = explicit.working if algorithm == "im2col" else direct.input_grad_working
    return working(x_shape, w_shape, dtype, stride=stride, padding=padding)


def conv2d_weight_grad(
    x_shape: Shape, w_shape: Shape, dtype: DTypeLike, *, stride: Pair, padding: Pair, algorithm: str = "auto"
) -> tuple[int, int]:
    """Return what conv2d_weight_grad takes."""
    r, s, c, k = w_shape
    algorithm = chosen(algorithm, output_hw(x_shape, (r, s), stride, padding), c, k, (r, s), stride, dtype)
    if m := OUTPUTS.get(algorithm):
        return winograd_weight_grad.weight_grad_working(x_shape, w_shape, dtype, m=m, padding=padding)
    working = explicit.working if algorithm == "im2col" else direct_weight_grad.weight_grad_working
    return working(x_shape, w_shape, dtype, stride=stride, padding=padding)
