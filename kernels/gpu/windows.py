"""What looks through windows: im2col and its adjoint, as matrices, and max-pooling. Any window and stride, overlapping too."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..geometry import Pair, Shape, output_hw
from .device import BLOCK, Kernel, blocks, empty, launch, store
from .layout import pixel, unit

FILE = "windows.cu"


def im2col(x: Any, kernel: Pair, *, stride: Pair, padding: Pair) -> Any:
    """Lay each receptive field out as a row: (N, H, W, C) -> (N*P*Q, R*S*C)."""
    p, q = output_hw(x.shape, kernel, stride, padding)
    cols = empty((x.shape[0] * p * q, kernel[0] * kernel[1] * x.shape[3]), x.dtype)
    _launch("im2col", cols, unit(x), x.shape, kernel, stride, padding, x, pixel(x), cols)
    return cols


def col2im(cols: Any, x_shape: Shape, kernel: Pair, *, stride: Pair, padding: Pair) -> Any:
    """Let each pixel gather its copies from the column matrix: the adjoint of im2col."""
    x = empty(x_shape, cols.dtype)
    _launch("col2im", x, unit(cols.reshape(-1, x_shape[3])), x_shape, kernel, stride, padding, cols, x)
    return x


def max_pool2d(x: Any, window: Pair, stride: Pair) -> tuple[Any, Any]:
    """Return the largest element of each window and its row-major place in it; the first of equals, or of NaNs."""
    shape = (x.shape[0], *output_hw(x.shape, window, stride, (0, 0)), x.shape[3])
    y, argmax = empty(shape, x.dtype), empty(shape, np.uint8)
    _launch("max_pool", y, unit(x), x.shape, window, stride, (0, 0), x, pixel(x), y, argmax)
    return y, argmax


def max_pool2d_grad(dy: Any, argmax: Any, x_shape: Shape, window: Pair, stride: Pair, dskip: Any = None) -> Any:
    """Let each pixel gather dy from the windows in which it was the largest, beside what it has already."""
    dx = empty(x_shape, dy.dtype)
    width, skip_pixel = (unit(dy), 0) if dskip is None else (unit(dy, dskip), pixel(dskip))
    arrays = (dy, pixel(dy), argmax, dskip, skip_pixel, dx)
    _launch("max_pool_grad", dx, width, x_shape, window, stride, (0, 0), *arrays)
    return dx


max_pool2d_grad_plus = max_pool2d_grad  # which dskip is given


def _launch(name: str, result: Any, width: int, x_shape: Shape, kernel: Pair, stride: Pair, padding: Pair, *arrays: Any) -> None:
    """Run a kernel with a thread for each unit of its result, of so many elements."""
    (_, h, w, c), count = x_shape, result.size // width
    launch(
        Kernel(FILE, name, store(result.dtype)), blocks(count), BLOCK, *arrays, count, h, w, c // width, *kernel,
        *output_hw(x_shape, kernel, stride, padding), *stride, *padding, width,
    )  # fmt: skip
