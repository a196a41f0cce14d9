"""im2col and its adjoint, as matrices: what the other kernels only address."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..buffers import empty
from ..geometry import Pair, output_hw
from .generated import clear, copy
from .jit import part
from .plans import source, table
from .threads import address, jobs, launch

Array = NDArray[np.floating]


def im2col(x: Array, kernel: Pair, *, stride: Pair, padding: Pair) -> Array:
    """Lay each receptive field out as a row: (N, H, W, C) -> (N*P*Q, R*S*C)."""
    n, _, _, c = x.shape
    p, q = output_hw(x.shape, kernel, stride, padding)
    cols = empty((n * p * q, kernel[0] * kernel[1] * c), x.dtype)
    plan = {"x": source(x, None, kernel, stride, padding), "p": p, "q": q, "cols": address(cols)}
    launch(_im2col, n * p, 0, x.dtype.type(0), table([plan]))
    return cols


def col2im(cols: Array, x_shape: tuple[int, ...], kernel: Pair, *, stride: Pair, padding: Pair) -> Array:
    """Let each pixel gather its copies from the column matrix: the adjoint of im2col."""
    n, h, _, c = x_shape
    p, q = output_hw(x_shape, kernel, stride, padding)
    x = empty(x_shape, cols.dtype)
    launch(_col2im, n * h, 0, cols.reshape(n, p, q, kernel[0], kernel[1], c), stride, padding, x)
    return x


@jobs
def _im2col(job: int, base: int, zero: Any, plans: Any) -> None:
    """A job is a row of windows of one image, each laid out as R*S*C numbers."""
    g, x = plans[0], plans[0].x
    n, p = divmod(job, g.p)
    run, h0, target = x.s * x.c, p * x.stride_h - x.pad_h, g.cols + job * g.q * x.r * x.s * x.c * x.size
    for q in range(g.q):
        left = q * x.stride_w - x.pad_w
        first, last = min(max(-left, 0), x.s), max(min(x.w - left, x.s), 0)  # the taps that lie in the image
        for r in range(x.r):
            if h0 + r < 0 or h0 + r >= x.h or first >= last:
                clear(zero, target, run)
            else:
                clear(zero, target, first * x.c)
                clear(zero, target + last * x.c * x.size, (x.s - last) * x.c)
                index = (n * x.h + h0 + r) * x.w + left + first
                _copy_pixels(zero, x, index, last - first, target + first * x.c * x.size)
            target += run * x.size


@part
def _copy_pixels(zero: Any, x: Any, index: int, count: int, target: int) -> None:
    """Copy `count` pixels from number `index` on, without gaps."""
    if x.pixel == x.c * x.size:
        copy(zero, target, x.start + index * x.pixel, count * x.c)
        return
    for i in range(index, index + count):
        copy(zero, target, x.start + i * x.pixel, x.c)
        target += x.c * x.size


@jobs
def _col2im(job: int, base: int, taps: Any, stride: Pair, padding: Pair, x: Any) -> None:
    """A job is a row of pixels of one image: the sum of the taps (N, P, Q, R, S, C) that were copied from it."""
    n, h = divmod(job, x.shape[1])
    _, p_size, q_size, r_size, s_size, c_size = taps.shape
    for w in range(x.shape[2]):
        for c in range(c_size):
            x[n, h, w, c] = 0
        for r in range(r_size):
            p, p_rest = divmod(h + padding[0] - r, stride[0])
            if p_rest == 0 and 0 <= p < p_size:
                for s in range(s_size):
                    q, q_rest = divmod(w + padding[1] - s, stride[1])
                    if q_rest == 0 and 0 <= q < q_size:
                        for c in range(c_size):
                            x[n, h, w, c] += taps[n, p, q, r, s, c]
