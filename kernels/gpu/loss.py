"""Softmax cross-entropy and its gradient in one pass over the pixels: three launches, and nothing waits for the sums."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .device import BLOCK, WARP, Kernel, asarray, blocks, empty, launch, store
from .layout import pixel

FILE = "loss.cu"

MOST_PARTS = 2**10  # of a sum over pixels, whatever the device: enough to fill any, few enough for each block to add them
SHARED = BLOCK // WARP * np.dtype(np.float64).itemsize  # bytes: each warp's sum


def softmax_cross_entropy(logits: Any, labels: Any, weights: Any) -> tuple[Any, Any]:
    """Return sum(w l) / sum(w) over pixels, l = -log softmax(logits)[label], and its gradient. labels, weights: also NumPy's."""
    kind, k, pixels = store(logits.dtype), logits.shape[3], math.prod(logits.shape[:3])
    labels, weights = on_device(labels, np.int32), on_device(weights, logits.dtype)
    weight_sums, n = sums_of_weights(weights), parts(pixels)
    losses = empty((n,), np.float64)
    loss, dlogits = empty((), logits.dtype), empty(logits.shape, logits.dtype)
    launch(
        Kernel(FILE, "cross_entropy", kind), n, BLOCK, logits, pixel(logits), labels, weights, pixels, k, weight_sums, n,
        dlogits, losses, shared=SHARED,
    )  # fmt: skip
    launch(Kernel(FILE, "sum_losses", kind), 1, BLOCK, losses, n, loss, shared=SHARED)
    return loss, dlogits


def sums_of_weights(weights: Any) -> Any:
    """Return sums of parts of the weights, float64: added in order, their total."""
    sums = empty((parts(weights.size),), np.float64)
    launch(Kernel(FILE, "sum_weights", store(weights.dtype)), sums.size, BLOCK, weights, weights.size, sums, shared=SHARED)
    return sums


def parts(pixels: int, each: int = BLOCK) -> int:
    """Return into how many parts, of `each` if it can be, a sum over pixels is cut: by numbers that decide how it is rounded."""
    return max(1, min(MOST_PARTS, blocks(pixels, each)))


def on_device(a: Any, dtype: DTypeLike) -> Any:
    """Return a there, dense. A label that does not fit has weight 0: it may change."""
    return asarray(a.astype(dtype, order="C", copy=False))
