"""The loss and its gradient with respect to the logits."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from . import kernels
from .checks import Array, activation, require


def softmax(logits: Array) -> Array:
    """Return the probabilities exp(z_k) / sum over j of exp(z_j) over the last axis; any shape (..., K)."""
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))  # the largest exponent is 0: no overflow
    return e / e.sum(axis=-1, keepdims=True)


def softmax_cross_entropy(
    logits: Array, labels: NDArray[np.integer], *, class_weight: ArrayLike | None = None,
    weights: ArrayLike | None = None, ignore_index: int | None = None,
) -> tuple[Array, Array]:  # fmt: skip
    """Return the mean cross-entropy over pixels, weighted, and its gradient with respect to the logits.

        loss = sum over n, p, q of  w l / sum of w          l = -log softmax(logits[n, p, q])[labels[n, p, q]]
        dlogits[n, p, q, k] = (softmax_k - [k = label]) w / sum of w

    for l = log(sum over j of exp z_j) - z_label, whose derivative by z_k is softmax_k - [k = label].

    logits (N, P, Q, K), labels (N, P, Q) whole numbers in 0 .. K-1. A pixel's weight w is weights[n, p, q] times
    class_weight[label], both 1 unless given, and 0 where the label is ignore_index. With all weights 0 the loss is 0.
    The loss is a 0-d array. Labels and weights are looked at on the CPU: NumPy's serve logits on a GPU best.
    Ronneberger et al. 2015, equation 1.
    """
    require(logits.dtype in (np.float32, np.float64), "logits", f"of dtype {logits.dtype}", "float32 or float64")
    logits = activation("logits", logits)
    labels, w = labels_and_weights(
        labels, logits.shape, logits.dtype, class_weight=class_weight, weights=weights, ignore_index=ignore_index
    )
    return kernels.for_array(logits).softmax_cross_entropy(logits, labels, w)


def labels_and_weights(
    labels: NDArray[np.integer], shape: tuple[int, ...], dtype: DTypeLike, *, class_weight: ArrayLike | None = None,
    weights: ArrayLike | None = None, ignore_index: int | None = None,
) -> tuple[NDArray[np.integer], Array]:  # fmt: skip
    """Return what the loss of logits of this shape and dtype takes: labels, and a weight for each pixel. Or a ValueError."""
    labels = np.ascontiguousarray(kernels.to_host(labels))
    if labels.shape != shape[:3]:
        raise ValueError(f"labels has shape {labels.shape}; with logits {shape} it takes {shape[:3]}")
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels is of dtype {labels.dtype}; it takes whole numbers, the index of each pixel's class")
    k = shape[3]
    w = np.ones(labels.shape, dtype)
    if weights is not None:
        w *= _non_negative("weights", weights, labels.shape)
    if ignore_index is not None:
        w[labels == ignore_index] = 0
    outside = ((labels < 0) | (labels >= k)) & (w != 0)
    if outside.any():
        where = tuple(int(i) for i in np.argwhere(outside)[0])
        raise ValueError(
            f"labels{list(where)} is {labels[where]}; with {k} logits a pixel it takes 0 to {k - 1}, or ignore_index"
        )
    if class_weight is not None:
        w *= _non_negative("class_weight", class_weight, (k,)).astype(dtype)[np.where(w != 0, labels, 0)]
    return labels, w


def _non_negative(name: str, given: ArrayLike, shape: tuple[int, ...]) -> NDArray:
    array = np.asarray(kernels.to_host(given))
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}; it takes {shape}")
    if not (np.isfinite(array).all() and (array >= 0).all()):
        raise ValueError(f"{name} holds negative or non-finite values; it takes finite numbers from 0 up")
    return array
