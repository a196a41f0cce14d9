"""What is done to each element, or down each column of channels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..geometry import pixels
from .jit import jit
from .threads import chunks, run

Array = NDArray[np.floating]

ROWS = 4096  # pixels a job: enough to be worth a thread, and a number that no thread count changes


def relu(x: Array) -> Array:
    """max(x, 0), with NaN kept."""
    y = np.empty(x.shape, x.dtype)
    _by_rows(_relu, pixels(x), pixels(y))
    return y


def relu_grad(dy: Array, y: Array) -> Array:
    """dy where y > 0, else 0."""
    dx = np.empty(dy.shape, dy.dtype)
    _by_rows(masked_copy, pixels(dy), pixels(y), pixels(dx))
    return dx


def bias_grad(dy: Array) -> Array:
    """db = sum of dy over images and pixels, in float64, one partial sum a chunk."""
    rows = pixels(dy)
    pieces = list(chunks(len(rows), ROWS))
    partial = np.zeros((len(pieces), rows.shape[1]))

    def job(i: int) -> None:
        column_sums(rows[slice(*pieces[i])], partial[i])

    run(len(pieces), job)
    return partial.sum(axis=0).astype(dy.dtype)


def _by_rows(kernel: Any, *arrays: Array) -> None:
    """Run a kernel over chunks of pixels of arrays (pixels, C)."""
    pieces = list(chunks(len(arrays[0]), ROWS))
    run(len(pieces), lambda i: kernel(*(a[slice(*pieces[i])] for a in arrays)))


@jit
def bias_relu(y: Any, b: Any, relu: bool) -> None:
    """Add b to each row of y (pixels, K), then relu, in place."""
    if b is not None:
        for p in range(y.shape[0]):
            for k in range(y.shape[1]):
                y[p, k] += b[k]
    if relu:
        for p in range(y.shape[0]):
            for k in range(y.shape[1]):
                y[p, k] = 0 if y[p, k] <= 0 else y[p, k]


@jit
def masked_copy(dy: Any, y: Any, out: Any) -> Any:
    """out = dy where y > 0, else 0; all (pixels, K). Return out."""
    for p in range(dy.shape[0]):
        for k in range(dy.shape[1]):
            out[p, k] = dy[p, k] if y[p, k] > 0 else 0
    return out


@jit
def column_sums(dy: Any, total: Any) -> None:
    """Add each column of dy (pixels, K) to total (K,), row after row."""
    for p in range(dy.shape[0]):
        for k in range(dy.shape[1]):
            total[k] += dy[p, k]


@jit
def _relu(x: Any, y: Any) -> None:
    for p in range(x.shape[0]):
        for k in range(x.shape[1]):
            y[p, k] = 0 if x[p, k] <= 0 else x[p, k]
