"""im2col and its adjoint, and the columns of a block that the convolutions share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..geometry import Pair, output_hw, pixels
from .jit import jit
from .pointwise import masked_copy
from .threads import run, scratch

Array = NDArray[np.floating]


def im2col(x: Array, kernel: Pair, *, stride: Pair, padding: Pair) -> Array:
    """Lay each receptive field out as a row: (N, H, W, C) -> (N*P*Q, R*S*C)."""
    n, _, _, c = x.shape
    p, q = output_hw(x.shape, kernel, stride, padding)
    cols = np.empty((n * p * q, kernel[0] * kernel[1] * c), x.dtype)

    def job(i: int) -> None:
        image, row = divmod(i, p)
        cols[i * q : (i + 1) * q] = block_columns(x, None, image, row, row + 1, q, kernel, stride, padding)

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


def block_columns(
    x: Array, mask: Array | None, n: int, p0: int, p1: int, q: int, kernel: Pair, stride: Pair, padding: Pair
) -> Array:
    """Return, in scratch, the receptive fields of output rows p0 to p1 of image n: ((p1-p0)*Q, R*S*C).

    Where a mask is given, x counts only where mask > 0.
    """
    _, h, w, c = x.shape
    first = min(max(p0 * stride[0] - padding[0], 0), h)
    last = max(first, min((p1 - 1) * stride[0] - padding[0] + kernel[0], h))
    if mask is not None:
        rows = scratch("rows", (last - first, w * c), x.dtype)
        masked_copy(pixels(x[n : n + 1, first:last]), pixels(mask[n : n + 1, first:last]), rows.reshape(-1, c))
    else:
        rows = x[n, first:last].reshape(last - first, w * c)  # a copy where x is a channel slice, else a view
    cols = scratch("columns", ((p1 - p0) * q, kernel[0] * kernel[1] * c), x.dtype)
    _columns(rows, first, h, c, p0, p1, q, *kernel, *stride, *padding, cols)
    return cols


@jit
def _columns(
    rows: Any, first: int, h_size: int, c_size: int, p0: int, p1: int, q_size: int, r_size: int, s_size: int,
    stride_h: int, stride_w: int, pad_h: int, pad_w: int, cols: Any,
) -> None:  # fmt: skip
    """Copy windows to columns; rows (., W*C) are the image's from row `first` on. S*C numbers of a window lie in a run."""
    width, length = rows.shape[1], s_size * c_size
    for p in range(p0, p1):
        for q in range(q_size):
            target = cols[(p - p0) * q_size + q]
            start = (q * stride_w - pad_w) * c_size
            low, high = min(max(-start, 0), length), max(min(width - start, length), 0)  # what lies in the image
            for r in range(r_size):
                h = p * stride_h - pad_h + r
                run = target[r * length : (r + 1) * length]
                if 0 <= h < h_size and low < high:
                    _zero(run[:low])
                    _copy(rows[h - first, start + low : start + high], run[low:high])
                    _zero(run[high:])
                else:
                    _zero(run)


@jit
def _copy(source: Any, target: Any) -> None:
    for i in range(target.size):
        target[i] = source[i]


@jit
def _zero(target: Any) -> None:
    for i in range(target.size):
        target[i] = 0


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
