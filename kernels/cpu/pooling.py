"""Max-pooling, any window and stride, overlapping too."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..buffers import empty
from ..geometry import Pair, output_hw, pixel_stride
from .generated import clear, copy, give, give_more, largest
from .threads import address, jobs, launch

Array = NDArray[np.floating]


def max_pool2d(x: Array, window: Pair, stride: Pair) -> tuple[Array, NDArray[np.uint8]]:
    """Return the largest element of each window and its row-major place in it; the first of equals, or of NaNs."""
    n, _, _, c = x.shape
    p, q = output_hw(x.shape, window, stride, (0, 0))
    y = empty((n, p, q, c), x.dtype)
    argmax = empty((n, p, q, c), np.uint8)
    launch(
        _pool, n * p, 0, x.dtype.type(0), x.itemsize, x.shape, (p, q), window, stride, address(x), pixel_stride(x),
        address(y), address(argmax),
    )  # fmt: skip
    return y, argmax


def max_pool2d_grad(
    dy: Array, argmax: NDArray[np.uint8], x_shape: tuple[int, ...], window: Pair, stride: Pair, plus: Array | None = None
) -> Array:
    """Let each pixel gather dy from the windows in which it was the largest, beside what it has already."""
    dx = empty(x_shape, dy.dtype)
    before = (0, 0) if plus is None else (address(plus), pixel_stride(plus))
    argmax = argmax.astype(np.uint8, order="C", copy=False)
    launch(
        _pool_grad, x_shape[0] * x_shape[1], 0, dy.dtype.type(0), dy.itemsize, x_shape, dy.shape[1:3], window, stride,
        address(dy), pixel_stride(dy), address(argmax), *before, address(dx),
    )  # fmt: skip
    return dx


@jobs
def _pool(
    job: int, scratch: int, zero: Any, size: int, shape: Any, pq: Pair, window: Pair, stride: Pair, x: int, x_pixel: int,
    y: int, argmax: int,
) -> None:  # fmt: skip
    """A job is a row of windows of one image."""
    _, h_size, w_size, c = shape
    x_row = w_size * x_pixel
    n, p = divmod(job, pq[0])
    here = x + (n * h_size + p * stride[0]) * x_row
    for i in range(job * pq[1], (job + 1) * pq[1]):
        target, places = y + i * c * size, argmax + i * c
        if window[0] == 2 and window[1] == 2:  # the same, and unrolled
            largest(zero, target, places, here, x_row, x_pixel, 2, 2, c)
        else:
            largest(zero, target, places, here, x_row, x_pixel, window[0], window[1], c)
        here += stride[1] * x_pixel


@jobs
def _pool_grad(
    job: int, scratch: int, zero: Any, size: int, shape: Any, pq: Pair, window: Pair, stride: Pair, dy: int, dy_pixel: int,
    argmax: int, plus: int, plus_pixel: int, dx: int,
) -> None:  # fmt: skip
    """A job is a row of dx: what it had in `plus`, if there is one, and what the windows give that it lies in."""
    _, h_size, w_size, c = shape
    n, h = divmod(job, h_size)
    dx += job * w_size * c * size
    plus += job * w_size * plus_pixel
    first = max(0, -((window[0] - 1 - h) // stride[0]))
    last = min(h // stride[0] + 1, pq[0])
    # Where each pixel lies in one window, what that gives is all. Elsewhere it is added to what others gave, or to 0.
    alone = last - first == 1 and stride[1] == window[1] and not plus
    given = pq[1] * window[1] if alone else 0
    pixel = c * size
    if plus:
        for w in range(w_size):
            copy(zero, dx + w * pixel, plus + w * plus_pixel, c)
    else:
        clear(zero, dx + given * pixel, (w_size - given) * c)
    for p in range(first, last):
        place = (h - p * stride[0]) * window[1]
        for q in range(pq[1]):
            i = (n * pq[0] + p) * pq[1] + q
            for s in range(window[1]):
                target = dx + (q * stride[1] + s) * pixel
                if alone:
                    give(zero, target, dy + i * dy_pixel, argmax + i * c, place + s, c)
                else:
                    give_more(zero, target, dy + i * dy_pixel, argmax + i * c, place + s, c)
