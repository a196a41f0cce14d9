"""Convolution by the book, for `algorithm="im2col"`: the column matrix is really built, and multiplied.

    y = im2col(x) @ w          dx = col2im(dy @ w^T)          dw = im2col(x)^T @ dy

It is built for as many rows of one image's output as MOST_BYTES hold. So an image is padded in height beforehand: rows are
then cut out of it as they are. The matrix products are 1 x 1 convolutions.
"""

from __future__ import annotations

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
    r, s, c, k = w.shape
    p, q = output_hw(x.shape, (r, s), stride, padding)
    y = empty((x.shape[0], p, q, k), x.dtype) if out is None else out
    w = cast(w, x.dtype)
    for i, rows, cols in _columns(x, (r, s), p, q, stride, padding):
        implicit.conv2d(cols, w.reshape(1, 1, r * s * c, k), b, relu=relu, out=y[i : i + 1, rows], **POINTS)
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
    matrix, width = w.reshape(1, 1, r * s * c, w.shape[3]), x_shape[2]
    for i in range(n):
        padded = _zeros(x_shape, dy.dtype, padding)
        for rows in _pieces(p, q * r * s * c * dy.itemsize):
            piece = dy[i : i + 1, rows]
            dcols = implicit.conv2d_input_grad(piece, matrix, (*piece.shape[:3], r * s * c), **POINTS)
            under = padded[:, _under(rows, r, stride[0])]
            shape = (1, under.shape[1], width, c)
            under += col2im(dcols.reshape(-1, r * s * c), shape, (r, s), stride=stride, padding=(0, padding[1]))
        add_bias_relu(padded[:, padding[0] : padding[0] + x_shape[1]], b, relu=relu, out=dx[i : i + 1])
    return dx


def weight_grad(x: Any, dy: Any, w_shape: Shape, *, stride: Pair, padding: Pair) -> Any:
    """dw = im2col(x)^T @ dy, piece after piece."""
    (r, s, c, k), (_, p, q, _) = w_shape, dy.shape
    dw = empty((1, 1, r * s * c, k), parameter_dtype(x.dtype))
    dw[...] = 0
    for i, rows, cols in _columns(x, (r, s), p, q, stride, padding):
        dw += implicit.weight_grad(cols, dy[i : i + 1, rows], dw.shape, **POINTS)
    return dw.reshape(w_shape)


def _columns(x: Any, kernel: Pair, p: int, q: int, stride: Pair, padding: Pair) -> Iterator[tuple[int, slice, Any]]:
    """Give image after image, rows of its output, and their columns (1, rows, Q, R*S*C)."""
    (n, h, _, c), (r, s) = x.shape, kernel
    for i in range(n):
        padded = _zeros(x.shape, x.dtype, padding)
        padded[:, padding[0] : padding[0] + h] = x[i : i + 1]
        for rows in _pieces(p, q * r * s * c * x.itemsize):
            cols = im2col(padded[:, _under(rows, r, stride[0])], kernel, stride=stride, padding=(0, padding[1]))
            yield i, rows, cols.reshape(1, rows.stop - rows.start, q, r * s * c)


def _zeros(x_shape: Shape, dtype: Any, padding: Pair) -> Any:
    """Return one image of zeros, padded in height."""
    a = empty((1, x_shape[1] + 2 * padding[0], *x_shape[2:]), dtype)
    a[...] = 0
    return a


def _pieces(p: int, row_bytes: int) -> Iterator[slice]:
    """Cut p rows into pieces of at most MOST_BYTES, and at least a row."""
    each = max(1, MOST_BYTES // row_bytes)
    return (slice(start, min(start + each, p)) for start in range(0, p, each))


def _under(rows: slice, r: int, stride: int) -> slice:
    """Return the rows of the padded image that these rows of windows see."""
    return slice(rows.start * stride, (rows.stop - 1) * stride + r)
