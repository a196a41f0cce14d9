"""im2col and its adjoint, as matrices: what the other kernels only address."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..buffers import empty
from ..geometry import Pair, output_hw
from .generated import claim
from .jit import jit, part
from .packing import SOURCE, columns, source, table
from .threads import address, launch

Array = NDArray[np.floating]

TABLE = [*SOURCE, "p", "q", "cols"]


def im2col(x: Array, kernel: Pair, *, stride: Pair, padding: Pair) -> Array:
    """Lay each receptive field out as a row: (N, H, W, C) -> (N*P*Q, R*S*C)."""
    n, _, _, c = x.shape
    p, q = output_hw(x.shape, kernel, stride, padding)
    cols = empty((n * p * q, kernel[0] * kernel[1] * c), x.dtype)
    plan = source(x, None, kernel, stride, padding) | {"p": p, "q": q, "cols": address(cols)}
    launch(_im2col, n * p, 0, x.dtype.type(0), table(TABLE, [plan]))
    return cols


def col2im(cols: Array, x_shape: tuple[int, ...], kernel: Pair, *, stride: Pair, padding: Pair) -> Array:
    """Let each pixel gather its copies from the column matrix: the adjoint of im2col."""
    n, h, _, c = x_shape
    p, q = output_hw(x_shape, kernel, stride, padding)
    x = empty(x_shape, cols.dtype)
    launch(_col2im, n * h, 0, cols.reshape(n, p, q, kernel[0], kernel[1], c), *stride, *padding, x)
    return x


@jit
def _im2col(claims: int, n_jobs: int, scratch: int, zero: Any, plans: Any) -> None:
    """A job is a row of windows of one image."""
    g = plans[0]
    pixel = g.r * g.s * g.c * g.size
    job = claim(claims)
    while job < n_jobs:
        n, p = divmod(job, g.p)
        columns(zero, g, n, n + 1, p, p + 1, 0, g.q, g.cols + job * g.q * pixel, pixel)
        job = claim(claims)


@jit
def _col2im(
    claims: int, n_jobs: int, scratch: int, taps: Any, stride_h: int, stride_w: int, pad_h: int, pad_w: int, x: Any
) -> None:  # fmt: skip
    """A job is a row of pixels of one image."""
    job = claim(claims)
    while job < n_jobs:
        n, h = divmod(job, x.shape[1])
        _gather_taps(taps, n, h, stride_h, stride_w, pad_h, pad_w, x)
        job = claim(claims)


@part
def _gather_taps(taps: Any, n: int, h: int, stride_h: int, stride_w: int, pad_h: int, pad_w: int, x: Any) -> None:
    """Fill row h of image n of x with the sum of the taps (N, P, Q, R, S, C) that were copied from it."""
    _, p_size, q_size, r_size, s_size, c_size = taps.shape
    for w in range(x.shape[2]):
        for c in range(c_size):
            x[n, h, w, c] = 0
        for r in range(r_size):
            p, p_rest = divmod(h + pad_h - r, stride_h)
            if p_rest == 0 and 0 <= p < p_size:
                for s in range(s_size):
                    q, q_rest = divmod(w + pad_w - s, stride_w)
                    if q_rest == 0 and 0 <= q < q_size:
                        for c in range(c_size):
                            x[n, h, w, c] += taps[n, p, q, r, s, c]
