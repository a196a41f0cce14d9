"""What a convolution takes of device memory beyond its results, by shapes alone: for estimates of memory.

The functions are those of cpu/working.py: each gives bytes of scratch for a thread, of which a GPU's kernels have none, and of
arrays. No device is asked: the weight gradient is cut into parts by its shape.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import DTypeLike

from ..geometry import Pair, Shape, output_hw
from . import explicit
from .convolution import chosen
from .plan import cut
from .pointwise import Cut


def conv2d(
    x_shape: Shape, w_shape: Shape, dtype: DTypeLike, *, stride: Pair, padding: Pair, algorithm: str = "auto"
) -> tuple[int, int]:
    """Return what conv2d takes."""
    return _explicit(x_shape, w_shape, dtype, stride, padding, algorithm) or (0, 0)


def conv2d_input_grad(
    x_shape: Shape, w_shape: Shape, dtype: DTypeLike, *, stride: Pair, padding: Pair, algorithm: str = "auto"
) -> tuple[int, int]:
    """Return what conv2d_input_grad takes."""
    return _explicit(x_shape, w_shape, dtype, stride, padding, algorithm) or (0, 0)


def conv2d_weight_grad(
    x_shape: Shape, w_shape: Shape, dtype: DTypeLike, *, stride: Pair, padding: Pair, algorithm: str = "auto"
) -> tuple[int, int]:
    """Return what conv2d_weight_grad takes: the parts of dw, where there is more than one, and then those of db."""
    (r, s, c, k), (p, q) = w_shape, output_hw(x_shape, (w_shape[0], w_shape[1]), stride, padding)
    pixels = x_shape[0] * p * q
    parts, _ = cut(r * s * c, k, pixels)
    size = math.prod(w_shape) * np.dtype(dtype).itemsize
    own = (parts * size if parts > 1 else 0, Cut.of(pixels, k).chunks * k * np.dtype(np.float64).itemsize)
    return _explicit(x_shape, w_shape, dtype, stride, padding, algorithm) or (0, max(own))


def _explicit(
    x_shape: Shape, w_shape: Shape, dtype: DTypeLike, stride: Pair, padding: Pair, algorithm: str
) -> tuple[int, int] | None:
    if chosen(algorithm, (w_shape[0], w_shape[1]), stride) != "im2col":
        return None
    return 0, explicit.working(x_shape, w_shape, np.dtype(dtype).itemsize, stride=stride, padding=padding)
