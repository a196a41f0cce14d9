"""im2col and its adjoint, as matrices: what the implicit products only address."""

from __future__ import annotations

from typing import Any

from ..geometry import Pair, output_hw
from .device import BLOCK, Kernel, blocks, empty, launch, store
from .layout import pixel, unit

FILE = "columns.cu"


def im2col(x: Any, kernel: Pair, *, stride: Pair, padding: Pair) -> Any:
    """Lay each receptive field out as a row: (N, H, W, C) -> (N*P*Q, R*S*C)."""
    n, h, w, c = x.shape
    p, q = output_hw(x.shape, kernel, stride, padding)
    cols = empty((n * p * q, kernel[0] * kernel[1] * c), x.dtype)
    width = unit(x)
    launch(
        Kernel(FILE, "im2col", store(x.dtype)), blocks(cols.size // width), BLOCK, x, pixel(x), cols, cols.size // width,
        h, w, c // width, *kernel, p, q, *stride, *padding, width,
    )  # fmt: skip
    return cols


def col2im(cols: Any, x_shape: tuple[int, ...], kernel: Pair, *, stride: Pair, padding: Pair) -> Any:
    """Let each pixel gather its copies from the column matrix: the adjoint of im2col."""
    _, h, w, c = x_shape
    p, q = output_hw(x_shape, kernel, stride, padding)
    x = empty(x_shape, cols.dtype)
    width = unit(cols.reshape(-1, c))
    launch(
        Kernel(FILE, "col2im", store(x.dtype)), blocks(x.size // width), BLOCK, cols, x, x.size // width, h, w, c // width,
        *kernel, p, q, *stride, *padding, width,
    )  # fmt: skip
    return x
