"""An image read between its pixels: one thread's work beside a training step, so it takes none of the kernels' own threads."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .jit import jit, part

Array = NDArray[np.floating]


def warp(image: Array, rows: Array, cols: Array) -> Array:
    """Return an image (H, W, C) at rows and columns (P, Q), which may lie anywhere between its pixels: (P, Q, C)."""
    y = np.empty((*rows.shape, image.shape[2]), image.dtype)
    _warp(*(np.require(a, requirements=["C", "ALIGNED"]) for a in (image, rows.astype(float), cols.astype(float))), y)
    return y


@jit
def _warp(image: Any, rows: Any, cols: Any, y: Any) -> None:
    h, w, n_channels = image.shape
    down, across = np.empty(4, image.dtype), np.empty(4, image.dtype)  # weights, in which the image's dtype is kept
    top, left = np.empty(4, np.int64), np.empty(4, np.int64)
    for p in range(rows.shape[0]):
        for q in range(rows.shape[1]):
            _taps(rows[p, q], h, top, down)
            _taps(cols[p, q], w, left, across)
            j0, j1, j2, j3 = left[0], left[1], left[2], left[3]
            for c in range(n_channels):
                value = image.dtype.type(0)
                for i in range(4):
                    row = image[top[i]]
                    line = across[0] * row[j0, c] + across[1] * row[j1, c] + across[2] * row[j2, c] + across[3] * row[j3, c]
                    value += down[i] * line
                y[p, q, c] = value


@part
def _taps(place: float, size: int, pixels: Any, weights: Any) -> None:
    """Fill in the four pixels beside a place, none beyond the border, and their weights."""
    first = math.floor(place)
    t = place - first
    weights[0] = ((1 - 0.5 * t) * t - 0.5) * t
    weights[1] = (1.5 * t - 2.5) * t * t + 1
    weights[2] = ((2 - 1.5 * t) * t + 0.5) * t
    weights[3] = (0.5 * t - 0.5) * t * t
    for i in range(4):
        pixels[i] = min(max(int(first) + i - 1, 0), size - 1)
