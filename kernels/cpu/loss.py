"""Softmax cross-entropy and its gradient in one pass over the pixels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..geometry import pixels
from .jit import jit
from .threads import chunks, run

Array = NDArray[np.floating]

PIXELS = 4096  # a chunk: one partial sum of the loss


def softmax_cross_entropy(logits: Array, labels: NDArray[np.integer], weights: Array) -> tuple[Array, Array]:
    """Return sum(w l) / sum(w) over pixels, l = -log softmax(logits)[label], and its gradient."""
    dlogits = np.empty(logits.shape, logits.dtype)
    total = float(weights.sum(dtype=np.float64))
    z, dz = pixels(logits), pixels(dlogits)
    flat_labels, flat_weights = labels.reshape(-1), weights.reshape(-1)
    pieces = list(chunks(len(z), PIXELS))
    partial = np.zeros(len(pieces))

    def job(i: int) -> None:
        here = slice(*pieces[i])
        partial[i] = _cross_entropy(z[here], flat_labels[here], flat_weights[here], total, dz[here])

    run(len(pieces), job)
    return np.asarray(partial.sum(), logits.dtype), dlogits


@jit
def _cross_entropy(z: Any, labels: Any, weights: Any, total: float, dz: Any) -> float:
    """Fill dz (pixels, K) and return the chunk's share of the loss, both computed in float64."""
    loss = 0.0
    for p in range(z.shape[0]):
        if weights[p] == 0:
            dz[p, :] = 0
            continue
        largest = z[p, 0]
        for k in range(1, z.shape[1]):
            largest = z[p, k] if z[p, k] > largest else largest
        normaliser = 0.0
        for k in range(z.shape[1]):
            normaliser += math.exp(np.float64(z[p, k]) - largest)
        share = weights[p] / total
        loss += share * (math.log(normaliser) + (largest - np.float64(z[p, labels[p]])))
        for k in range(z.shape[1]):
            softmax = math.exp(np.float64(z[p, k]) - largest) / normaliser
            dz[p, k] = share * (softmax - (1 if k == labels[p] else 0))
    return loss
