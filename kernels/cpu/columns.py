"""im2col and its adjoint, and the gathers that the convolutions share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..geometry import Pair, output_hw
from .jit import jit
from .threads import run

Array = NDArray[np.floating]


def im2col(x: Array, kernel: Pair, *, stride: Pair, padding: Pair) -> Array:
    """Lay each receptive field out as a row: (N, H, W, C) -> (N*P*Q, R*S*C)."""
    n, _, _, c = x.shape
    p, q = output_hw(x.shape, kernel, stride, padding)
    cols = np.empty((n * p * q, kernel[0] * kernel[1] * c), x.dtype)

    def job(i: int) -> None:
        image, row = divmod(i, p)
        columns(x, image, row, row + 1, q, *kernel, *stride, *padding, cols[i * q : (i + 1) * q])

    run(n * p, job)
    return cols


def col2im(cols: Array, x_shape: tuple[int, ...], kernel: Pair, *, stride: Pair, padding: Pair) -> Array:
    """Let each pixel gather its copies from the column matrix: the adjoint of im2col."""
    n, h, _, c = x_shape
    p, q = output_hw(x_shape, kernel, stride, padding)
    x = np.empty(x_shape, cols.dtype)
    taps = cols.reshape(n, p, q, kernel[0], kernel[1], c)

    def job(i: int) -> None:
        _gather_taps(taps, *divmod(i, h), *stride, *padding, x)

    run(n * h, job)
    return x


@jit
def columns(
    x: Any, n: int, p0: int, p1: int, q_size: int, r_size: int, s_size: int, stride_h: int, stride_w: int,
    pad_h: int, pad_w: int, cols: Any,
) -> None:  # fmt: skip
    """Fill cols ((p1-p0)*Q, R*S*C) with the receptive fields of output rows p0 to p1 of image n."""
    _, h_size, w_size, c_size = x.shape
    for p in range(p0, p1):
        for q in range(q_size):
            row = cols[(p - p0) * q_size + q]
            for r in range(r_size):
                h = p * stride_h - pad_h + r
                for s in range(s_size):
                    w = q * stride_w - pad_w + s
                    tap = (r * s_size + s) * c_size
                    if 0 <= h < h_size and 0 <= w < w_size:
                        for c in range(c_size):
                            row[tap + c] = x[n, h, w, c]
                    else:
                        for c in range(c_size):
                            row[tap + c] = 0


@jit
def grad_columns(
    dy: Any, mask: Any, masked: bool, n: int, i0: int, i1: int, w_count: int, h_start: int, w_start: int,
    r_taps: Any, s_taps: Any, stride_h: int, stride_w: int, pad_h: int, pad_w: int, cols: Any,
) -> None:  # fmt: skip
    """Fill cols with the dy that pixels (h_start + i stride_h, w_start + j stride_w) of dx, i in i0..i1, reached.

    A pixel h meets output row p through tap r where p stride - pad + r = h. The taps given are those that divide.
    """
    _, p_size, q_size, k_size = dy.shape
    for i in range(i0, i1):
        for j in range(w_count):
            row = cols[(i - i0) * w_count + j]
            tap = 0
            for r in r_taps:
                p = (h_start + i * stride_h + pad_h - r) // stride_h
                for s in s_taps:
                    q = (w_start + j * stride_w + pad_w - s) // stride_w
                    if not (0 <= p < p_size and 0 <= q < q_size):
                        for k in range(k_size):
                            row[tap + k] = 0
                    elif masked:
                        for k in range(k_size):
                            row[tap + k] = dy[n, p, q, k] if mask[n, p, q, k] > 0 else 0
                    else:
                        for k in range(k_size):
                            row[tap + k] = dy[n, p, q, k]
                    tap += k_size


@jit
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
