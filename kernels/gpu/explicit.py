"""Convolution by the book, for `algorithm="im2col"`: the column matrix is really built, and multiplied.

    y = im2col(x) @ w          dx = col2im(dy @ w^T)          dw = im2col(x)^T @ dy

It is built for as many rows of one image's output as MOST_BYTES hold. So an image is padded in height beforehand: rows are
then cut out of it as they are. The matrix products are 1 x 1 convolutions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from .. import parameter_dtype
from ..composed import POINTS  # a product of matrices, as a convolution
from ..geometry import Pair, Shape, output_hw
from . import implicit
from .device import empty
from .pointwise import add_bias_relu, cast, placed
from .windows import col2im, im2col

MOST_BYTES = 2**28  # of columns at once


def conv2d(x: Any, w: Any, b: Any = None, *, stride: Pair, padding: Pair, relu: bool = False, out: Any = None) -> Any:
    """y = im2col(x) @ w + b."""
    k = w.shape[3]
    y = empty((x.shape[0], *output_hw(x.shape, w.shape[:2], stride, padding), k), x.dtype) if out is None else out
    matrix = cast(w, x.dtype).reshape(1, 1, -1, k)
    for i, rows, cols in _columns(x, w.shape, y.shape, stride, padding):
        implicit.conv2d(cols, matrix, b, relu=relu, out=y[i : i + 1, rows], **POINTS)
    return y


def conv2d_input_grad(
    dy: Any, w: Any, x_shape: Shape, *, stride: Pair, padding: Pair, b: Any = None, relu: bool = False, out: Any = None
) -> Any:
    """dx = col2im(dy @ w^T); rows of pixels under windows of two pieces get their sums from both, one after the other.

    Of bfloat16 the columns are float32, as other sums are: dx is rounded once.
    """
    wide = parameter_dtype(dy.dtype)
    if wide != dy.dtype:
        dy_wide, w_wide = cast(dy, wide), cast(cast(w, dy.dtype), wide)
        dx = conv2d_input_grad(dy_wide, w_wide, x_shape, stride=stride, padding=padding, b=b, relu=relu)
        return placed(cast(dx, dy.dtype), out)
    (r, s, c, _), (n, p, q, _) = w.shape, dy.shape
    dx = empty(x_shape, dy.dtype) if out is None else out
    matrix = w.reshape(1, 1, r * s * c, w.shape[3])
    for i in range(n):
        padded = _zeros(x_shape, dy.dtype, padding)
        for rows, seen in _pieces(w.shape, p, q, dy.itemsize, stride):
            piece, under = dy[i : i + 1, rows], padded[:, seen]
            dcols = implicit.conv2d_input_grad(piece, matrix, (*piece.shape[:3], r * s * c), **POINTS)
            under += col2im(dcols.reshape(-1, r * s * c), under.shape, (r, s), stride=stride, padding=(0, padding[1]))
        add_bias_relu(padded[:, padding[0] : padding[0] + x_shape[1]], b, relu=relu, out=dx[i : i + 1])
    return dx


def weight_grad(x: Any, dy: Any, w_shape: Shape, *, stride: Pair, padding: Pair) -> Any:
    """dw = im2col(x)^T @ dy, piece after piece."""
    dw = empty((1, 1, math.prod(w_shape[:3]), w_shape[3]), parameter_dtype(x.dtype))
    dw[...] = 0
    for i, rows, cols in _columns(x, w_shape, dy.shape, stride, padding):
        dw += implicit.weight_grad(cols, dy[i : i + 1, rows], dw.shape, **POINTS)
    return dw.reshape(w_shape)


def _columns(x: Any, w_shape: Shape, y_shape: Shape, stride: Pair, padding: Pair) -> Iterator[tuple[int, slice, Any]]:
    """Give image after image, rows of its output, and their columns (1, rows, Q, R*S*C)."""
    (n, h, _, _), (r, s, _, _), (_, p, q, _) = x.shape, w_shape, y_shape
    for i in range(n):
        padded = _zeros(x.shape, x.dtype, padding)
        padded[:, padding[0] : padding[0] + h] = x[i : i + 1]
        for rows, seen in _pieces(w_shape, p, q, x.itemsize, stride):
            cols = im2col(padded[:, seen], (r, s), stride=stride, padding=(0, padding[1]))
            yield i, rows, cols.reshape(1, rows.stop - rows.start, q, -1)


def _zeros(x_shape: Shape, dtype: Any, padding: Pair) -> Any:
    """Return one image of zeros, padded in height."""
    a = empty((1, x_shape[1] + 2 * padding[0], *x_shape[2:]), dtype)
    a[...] = 0
    return a


def _pieces(w_shape: Shape, p: int, q: int, itemsize: int, stride: Pair) -> Iterator[tuple[slice, slice]]:
    """Cut the rows of an image's output into pieces whose columns take MOST_BYTES at most, or are of one row.

    Beside each: the rows of the padded image that its windows see.
    """
    r, each = w_shape[0], max(1, MOST_BYTES // (q * math.prod(w_shape[:3]) * itemsize))
    for start in range(0, p, each):
        stop = min(start + each, p)
        yield slice(start, stop), slice(start * stride[0], (stop - 1) * stride[0] + r)
