"""What a convolution takes of device memory beyond its results, by shapes alone: for estimates of memory.

The functions are those of cpu/working.py: each gives bytes of scratch for a thread, of which a GPU's kernels have none, and of
arrays. No device is asked: the weight gradient is cut into parts by its shape.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import DTypeLike

from .. import parameter_dtype
from ..geometry import Pair, Shape, output_hw
from . import explicit
from .convolution import chosen
from .head import Fused
from .plan import cut
from .pointwise import Cut


def conv2d(
    x_shape: Shape, w_shape: Shape, dtype: DTypeLike, *, stride: Pair, padding: Pair, algorithm: str = "auto"
) -> tuple[int, int]:
    """Return what conv2d takes: w as it is multiplied, if it has another type."""
    return _explicit(x_shape, w_shape, dtype, stride, padding, algorithm) or (0, _cast(w_shape, dtype))


def conv2d_input_grad(
    x_shape: Shape, w_shape: Shape, dtype: DTypeLike, *, stride: Pair, padding: Pair, algorithm: str = "auto"
) -> tuple[int, int]:
    """Return what conv2d_input_grad takes: the same; by im2col it is all float32, dy, w and dx too."""
    wide = parameter_dtype(dtype)
    if found := _explicit(x_shape, w_shape, wide, stride, padding, algorithm):
        y_shape = (x_shape[0], *output_hw(x_shape, (w_shape[0], w_shape[1]), stride, padding), w_shape[3])
        copies = sum(math.prod(shape) for shape in (x_shape, y_shape, w_shape)) * wide.itemsize if wide != np.dtype(dtype) else 0
        return 0, found[1] + copies + _cast(w_shape, dtype)
    return 0, _cast(w_shape, dtype)


def conv2d_weight_grad(
    x_shape: Shape, w_shape: Shape, dtype: DTypeLike, *, stride: Pair, padding: Pair, algorithm: str = "auto"
) -> tuple[int, int]:
    """Return what conv2d_weight_grad takes: the parts of db, and when they are gone those of dw, where there are several."""
    (r, s, c, k), (p, q) = w_shape, output_hw(x_shape, (w_shape[0], w_shape[1]), stride, padding)
    pixels = x_shape[0] * p * q
    parts, _ = cut(r * s * c, k, pixels)
    dw = math.prod(w_shape) * parameter_dtype(dtype).itemsize
    of_db = Cut.of(pixels, k, np.dtype(dtype).itemsize).chunks * k * np.dtype(np.float64).itemsize
    own = 0, max(parts * dw if parts > 1 else 0, of_db - dw)
    return _explicit(x_shape, w_shape, dtype, stride, padding, algorithm) or own


def linear_cross_entropy(x_shape: Shape, w_shape: Shape, dtype: DTypeLike) -> int | None:
    """Return what linear_cross_entropy takes where it is one pass: the parts of dw, db and the loss. None where it is several."""
    how = Fused.of(w_shape[2], w_shape[3], dtype)
    sums = math.prod(w_shape) + w_shape[3] + 1
    return None if how is None else how.parts(math.prod(x_shape[:3])) * sums * np.dtype(np.float64).itemsize


def _cast(w_shape: Shape, dtype: DTypeLike) -> int:
    itemsize = np.dtype(dtype).itemsize
    return math.prod(w_shape) * itemsize if itemsize < parameter_dtype(dtype).itemsize else 0


def _explicit(
    x_shape: Shape, w_shape: Shape, dtype: DTypeLike, stride: Pair, padding: Pair, algorithm: str
) -> tuple[int, int] | None:
    if chosen(algorithm, (w_shape[0], w_shape[1]), stride) != "im2col":
        return None
    columns = explicit.working(x_shape, w_shape, np.dtype(dtype).itemsize, stride=stride, padding=padding)
    return 0, columns + _cast(w_shape, dtype)
