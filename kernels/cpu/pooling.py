"""Max-pooling, any window and stride, overlapping too."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..buffers import empty
from ..geometry import Pair, output_hw, pixel_stride
from .generated import clear, copy, give, give_more, largest
from .jit import part
from .plans import source, table
from .threads import address, jobs, launch

Array = NDArray[np.floating]


def max_pool2d(x: Array, window: Pair, stride: Pair) -> tuple[Array, NDArray[np.uint8]]:
    """Return the largest element of each window and its row-major place in it; the first of equals, or of NaNs."""
    n, _, _, c = x.shape
    p, q = output_hw(x.shape, window, stride, (0, 0))
    y = empty((n, p, q, c), x.dtype)
    argmax = empty((n, p, q, c), np.uint8)
    plan = {"x": source(x, None, window, stride), "p": p, "q": q, "y": address(y), "argmax": address(argmax)}
    launch(_pool, n * p, 0, x.dtype.type(0), table([plan]))
    return y, argmax


def max_pool2d_grad(
    dy: Array, argmax: NDArray[np.uint8], x_shape: tuple[int, ...], window: Pair, stride: Pair, dskip: Array | None = None
) -> Array:
    """Let each pixel gather dy from the windows in which it was the largest, beside what it has already."""
    dx = empty(x_shape, dy.dtype)
    argmax = argmax.astype(np.uint8, order="C", copy=False)
    plan = {
        "dx": source(dx, None, window, stride), "dy": source(dy, None), "argmax": address(argmax),
        "plus": 0 if dskip is None else address(dskip), "plus_pixel": 0 if dskip is None else pixel_stride(dskip),
    }  # fmt: skip
    launch(_pool_grad, x_shape[0] * x_shape[1], 0, dy.dtype.type(0), table([plan]))
    return dx


max_pool2d_grad_plus = max_pool2d_grad  # which dskip is given


@jobs
def _pool(job: int, base: int, zero: Any, plans: Any) -> None:
    """A job is a row of windows of one image."""
    g, x, c = plans[0], plans[0].x, plans[0].x.c
    n, p = divmod(job, g.p)
    row, pixel, step, r, s = x.w * x.pixel, x.pixel, x.stride_w * x.pixel, x.r, x.s
    here, y, argmax, size = x.start + (n * x.h + p * x.stride_h) * row, g.y, g.argmax, x.size
    for i in range(job * g.q, (job + 1) * g.q):
        if r == 2 and s == 2:  # the same, and unrolled
            largest(zero, y + i * c * size, argmax + i * c, here, row, pixel, 2, 2, c)
        else:
            largest(zero, y + i * c * size, argmax + i * c, here, row, pixel, r, s, c)
        here += step


@jobs
def _pool_grad(job: int, base: int, zero: Any, plans: Any) -> None:
    """A job is a row of dx."""
    g, x, dy = plans[0], plans[0].dx, plans[0].dy
    n, h = divmod(job, x.h)
    image, row = n * dy.h * dy.w, job * x.w
    _gather_row(
        zero, x.size, h, (x.w, x.c), (dy.h, dy.w), (x.r, x.s), (x.stride_h, x.stride_w),
        (dy.start + image * dy.pixel, dy.pixel), g.argmax + image * x.c, (g.plus + row * g.plus_pixel, g.plus_pixel),
        x.start + row * x.c * x.size,
    )  # fmt: skip


@part
def _gather_row(
    zero: Any, size: int, h: int, wc: Pair, pq: Pair, window: Pair, stride: Pair, dy: Pair, argmax: int, plus: Pair, dx: int
) -> None:
    """Fill row h of dx from the rows of windows, of one image, that it lies in, and from a row of `plus` if there is one.

    All comes as numbers: in a record, the compiler would load each again after whatever is written.
    """
    first = max(0, -((window[0] - 1 - h) // stride[0]))
    last = min(h // stride[0] + 1, pq[0])
    # Where each pixel lies in one window, what that gives is all. Elsewhere it is added to what others gave, or to 0.
    alone = last - first == 1 and stride[1] == window[1] and not plus[0]
    given = pq[1] * window[1] if alone else 0
    w_size, c = wc
    pixel = c * size
    if plus[0]:
        for w in range(w_size):
            copy(zero, dx + w * pixel, plus[0] + w * plus[1], c)
    else:
        clear(zero, dx + given * pixel, (w_size - given) * c)
    for p in range(first, last):
        place = (h - p * stride[0]) * window[1]
        for q in range(pq[1]):
            i = p * pq[1] + q
            for s in range(window[1]):
                target = dx + (q * stride[1] + s) * pixel
                if alone:
                    give(zero, target, dy[0] + i * dy[1], argmax + i * c, place + s, c)
                else:
                    give_more(zero, target, dy[0] + i * dy[1], argmax + i * c, place + s, c)
