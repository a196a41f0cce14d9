"""The three convolutions of the contract, and the choice of their algorithm.

    direct         direct.py, direct_weight_grad.py: im2col as addressing; any geometry
    winograd2x2    winograd.py, winograd_weight_grad.py: 2.25 times fewer multiplications; 3x3 kernels of stride 1
    winograd4x4    the same with 4 times fewer, and two digits less of accuracy
    im2col         explicit.py: the column matrix built and multiplied, by the book
    auto           direct
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..geometry import Pair
from . import direct, direct_weight_grad, explicit, winograd, winograd_weight_grad

Array = NDArray[np.floating]

OUTPUTS = {"winograd2x2": 2, "winograd4x4": 4}  # a side of a tile


def conv2d(
    x: Array, w: Array, b: Array | None = None, *, stride: Pair, padding: Pair, algorithm: str = "auto", **options: Any
) -> Array:
    """y = im2col(x) @ w + b, then relu if asked for."""
    if m := _winograd(algorithm, w.shape, stride):
        return winograd.conv2d(x, w, b, m=m, padding=padding, **options)
    module = explicit if algorithm == "im2col" else direct
    return module.conv2d(x, w, b, stride=stride, padding=padding, **options)


def conv2d_input_grad(
    dy: Array, w: Array, x_shape: tuple[int, ...], *, stride: Pair, padding: Pair, algorithm: str = "auto", **options: Any
) -> Array:
    """dx = col2im(dy @ w^T)."""
    if m := _winograd(algorithm, w.shape, stride):
        return winograd.conv2d_input_grad(dy, w, x_shape, m=m, padding=padding, **options)
    module = explicit if algorithm == "im2col" else direct
    return module.conv2d_input_grad(dy, w, x_shape, stride=stride, padding=padding, **options)


def conv2d_weight_grad(
    x: Array, dy: Array, w_shape: tuple[int, ...], *, stride: Pair, padding: Pair, mask: Array | None = None,
    algorithm: str = "auto",
) -> tuple[Array, Array]:  # fmt: skip
    """dw = im2col(x)^T @ dy and db = sum of dy."""
    if m := _winograd(algorithm, w_shape, stride):
        return winograd_weight_grad.conv2d_weight_grad(x, dy, w_shape, m=m, padding=padding, mask=mask)
    module = explicit if algorithm == "im2col" else direct_weight_grad
    return module.conv2d_weight_grad(x, dy, w_shape, stride=stride, padding=padding, mask=mask)


def _winograd(algorithm: str, w_shape: tuple[int, ...], stride: Pair) -> int | None:
    """Return the side of Winograd's tiles, or None where another algorithm computes; ValueError where it cannot."""
    if algorithm not in OUTPUTS:
        return None
    if w_shape[:2] != (3, 3) or stride != (1, 1):
        raise ValueError(
            f"algorithm is {algorithm!r}, with a {w_shape[0]} x {w_shape[1]} kernel and stride {stride}; it takes 3 x 3 and "
            "(1, 1). For any geometry there are 'auto', 'direct' and 'im2col'"
        )
    return OUTPUTS[algorithm]
