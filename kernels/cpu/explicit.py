"""Convolution by the book, for `algorithm="im2col"`: an image's column matrix is really built, and multiplied.

    y = im2col(x) @ w          dx = col2im(dy @ w^T)          dw = im2col(x)^T @ dy

The matrix products are 1x1 convolutions of one row of pixels, by tiles that know nothing of windows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..buffers import empty
from ..geometry import Pair, output_hw, pixels
from ..reference import bias_grad, relu_grad
from . import direct, direct_weight_grad
from .columns import col2im, im2col

Array = NDArray[np.floating]

POINTS: dict[str, Any] = {"stride": (1, 1), "padding": (0, 0)}  # a product of matrices, as a convolution


def conv2d(
    x: Array, w: Array, b: Array | None = None, *, stride: Pair, padding: Pair, relu: bool = False,
    out: Array | None = None,
) -> Array:  # fmt: skip
    """y = im2col(x) @ w + b."""
    r, s, c, k = w.shape
    y = empty((len(x), *output_hw(x.shape, (r, s), stride, padding), k), x.dtype) if out is None else out
    for image, target in zip(_images(x), _images(y), strict=True):
        cols = im2col(image, (r, s), stride=stride, padding=padding)
        direct.conv2d(_row(cols), w.reshape(1, 1, r * s * c, k), b, relu=relu, out=_row(pixels(target)), **POINTS)
    return y


def conv2d_input_grad(
    dy: Array, w: Array, x_shape: tuple[int, ...], *, stride: Pair, padding: Pair, mask: Array | None = None,
    b: Array | None = None, relu: bool = False, out: Array | None = None,
) -> Array:  # fmt: skip
    """dx = col2im(dy @ w^T)."""
    r, s, c, k = w.shape
    dx = empty(x_shape, dy.dtype) if out is None else out
    dy = dy if mask is None else relu_grad(dy, mask)
    matrix = w.reshape(1, 1, r * s * c, k)
    for image, target in zip(_images(dy), _images(dx), strict=True):
        dy_pixels = _row(pixels(image))
        dcols = direct.conv2d_input_grad(dy_pixels, matrix, (*dy_pixels.shape[:3], r * s * c), **POINTS)
        target[...] = col2im(dcols.reshape(-1, r * s * c), target.shape, (r, s), stride=stride, padding=padding)
        _finish(target, b, relu)
    return dx


def _finish(x: Array, b: Array | None, relu: bool) -> None:
    if b is not None:
        x += b
    if relu:
        np.copyto(x, 0, where=x <= 0)  # a NaN stays


def conv2d_weight_grad(
    x: Array, dy: Array, w_shape: tuple[int, ...], *, stride: Pair, padding: Pair, mask: Array | None = None
) -> tuple[Array, Array]:
    """dw = im2col(x)^T @ dy, image after image, and db = sum of dy."""
    r, s, c, k = w_shape
    dy = dy if mask is None else relu_grad(dy, mask)
    dw = np.zeros((1, 1, r * s * c, k), x.dtype)
    for image, dimage in zip(_images(x), _images(dy), strict=True):
        cols = im2col(image, (r, s), stride=stride, padding=padding)
        dw += direct_weight_grad.conv2d_weight_grad(_row(cols), _row(pixels(dimage)), dw.shape, **POINTS)[0]
    return dw.reshape(w_shape), bias_grad(dy)


def _images(x: Array) -> Iterator[Array]:
    return (x[n : n + 1] for n in range(len(x)))


def _row(matrix: Array) -> Array:
    """View a matrix (pixels, channels) as an image of one row."""
    return matrix[None, None]
