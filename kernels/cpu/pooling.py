"""Max-pooling, any window and stride, overlapping too."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..geometry import Pair, output_hw
from .jit import jit
from .threads import run

Array = NDArray[np.floating]


def max_pool2d(x: Array, window: Pair, stride: Pair) -> tuple[Array, NDArray[np.uint8]]:
    """Return the largest element of each window and its row-major place in it; the first of equals, or of NaNs."""
    n, _, _, c = x.shape
    p, q = output_hw(x.shape, window, stride, (0, 0))
    y = np.empty((n, p, q, c), x.dtype)
    argmax = np.empty((n, p, q, c), np.uint8)
    run(n * p, lambda i: _pool_row(x, *divmod(i, p), *window, *stride, y, argmax))
    return y, argmax


def max_pool2d_grad(
    dy: Array, argmax: NDArray[np.uint8], x_shape: tuple[int, ...], window: Pair, stride: Pair
) -> Array:
    """Let each pixel gather dy from the windows in which it was the largest."""
    dx = np.empty(x_shape, dy.dtype)
    h = x_shape[1]
    run(x_shape[0] * h, lambda i: _pool_row_grad(dy, argmax, *divmod(i, h), *window, *stride, dx))
    return dx


@jit
def _pool_row(
    x: Any, n: int, p: int, r_size: int, s_size: int, stride_h: int, stride_w: int, y: Any, argmax: Any
) -> None:
    for q in range(y.shape[2]):
        for c in range(y.shape[3]):
            y[n, p, q, c] = x[n, p * stride_h, q * stride_w, c]
            argmax[n, p, q, c] = 0
        for place in range(1, r_size * s_size):
            h, w = p * stride_h + place // s_size, q * stride_w + place % s_size
            for c in range(y.shape[3]):
                value, best = x[n, h, w, c], y[n, p, q, c]
                first_nan = value != value and best == best
                larger = value > best or first_nan
                y[n, p, q, c] = value if larger else best
                argmax[n, p, q, c] = place if larger else argmax[n, p, q, c]


@jit
def _pool_row_grad(
    dy: Any, argmax: Any, n: int, h: int, r_size: int, s_size: int, stride_h: int, stride_w: int, dx: Any
) -> None:
    _, p_size, q_size, c_size = dy.shape
    for w in range(dx.shape[2]):
        for c in range(c_size):
            dx[n, h, w, c] = 0
        for p in range(max(0, -((r_size - 1 - h) // stride_h)), min(h // stride_h + 1, p_size)):
            for q in range(max(0, -((s_size - 1 - w) // stride_w)), min(w // stride_w + 1, q_size)):
                place = (h - p * stride_h) * s_size + w - q * stride_w
                for c in range(c_size):
                    dx[n, h, w, c] += dy[n, p, q, c] if argmax[n, p, q, c] == place else 0
