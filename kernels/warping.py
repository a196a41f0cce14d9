"""The definition of an image read between its pixels, in NumPy: what augmentation warps with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


def warp(image: Array, rows: Array, cols: Array) -> Array:
    """Return an image (H, W, C) at rows and columns (P, Q), which may lie anywhere between its pixels: (P, Q, C), of its dtype.

    Cubic convolution: each is a sum over 4 x 4 pixels, weighed by `cubic`. On a pixel it is that pixel. Beyond its borders, an
    image goes on with its edge.
    """
    (h, w, _), tops, lefts = image.shape, np.floor(rows), np.floor(cols)
    down, across = (cubic(at - start).astype(image.dtype)[..., None] for at, start in ((rows, tops), (cols, lefts)))
    tops, lefts = tops.astype(np.intp), lefts.astype(np.intp)
    y = np.zeros((*rows.shape, image.shape[2]), image.dtype)
    for i in range(4):
        line = np.zeros_like(y)
        row = np.clip(tops + (i - 1), 0, h - 1)
        for j in range(4):
            line += across[j] * image[row, np.clip(lefts + (j - 1), 0, w - 1)]
        y += down[i] * line
    return y


def cubic(t: Array) -> Array:
    """Return the weights (4, ...) of the pixels at -1, 0, 1 and 2 for a place 0 <= t < 1: Catmull and Rom's spline.

    What is a polynomial of degree 2 stays one. Keys 1981, "Cubic convolution interpolation", equation 15: a = -1/2.
    """
    return np.stack([
        ((1 - 0.5 * t) * t - 0.5) * t,
        (1.5 * t - 2.5) * t * t + 1,
        ((2 - 1.5 * t) * t + 0.5) * t,
        (0.5 * t - 0.5) * t * t,
    ])  # fmt: skip
