"""Max-pooling, any window and stride, overlapping too."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..geometry import Pair, output_hw
from .device import BLOCK, Kernel, blocks, empty, launch, store
from .layout import pixel, unit

FILE = "pooling.cu"


def max_pool2d(x: Any, window: Pair, stride: Pair) -> tuple[Any, Any]:
    """Return the largest element of each window and its row-major place in it; the first of equals, or of NaNs."""
    n, h, w, c = x.shape
    p, q = output_hw(x.shape, window, stride, (0, 0))
    y, argmax = empty((n, p, q, c), x.dtype), empty((n, p, q, c), np.uint8)
    width = unit(x)
    launch(
        Kernel(FILE, "max_pool", store(x.dtype)), blocks(y.size // width), BLOCK, x, pixel(x), y, argmax, y.size // width,
        h, w, c // width, p, q, *window, *stride, width,
    )  # fmt: skip
    return y, argmax


def max_pool2d_grad(dy: Any, argmax: Any, x_shape: tuple[int, ...], window: Pair, stride: Pair, dskip: Any = None) -> Any:
    """Let each pixel gather dy from the windows in which it was the largest, beside what it has already."""
    _, h, w, c = x_shape
    dx = empty(x_shape, dy.dtype)
    dskip_pixel = 0 if dskip is None else pixel(dskip)
    width = unit(dy, *([] if dskip is None else [dskip]))
    launch(
        Kernel(FILE, "max_pool_grad", store(dy.dtype)), blocks(dx.size // width), BLOCK, dy, pixel(dy), argmax,
        dskip, dskip_pixel, dx, dx.size // width, h, w, c // width, *dy.shape[1:3], *window, *stride, width,
    )  # fmt: skip
    return dx


max_pool2d_grad_plus = max_pool2d_grad  # which dskip is given
