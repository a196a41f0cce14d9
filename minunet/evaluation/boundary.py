"""How near predicted boundaries come to the true ones: of class indices, counted so that images can be added up.

A pixel lies on its class's boundary where one of its 4 neighbours is of another class. It is met where the other mask has a
boundary pixel of the same class within a tolerance. Csurka et al. 2013, section 2.2 ("boundary F1"); Martin et al. 2004.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 2.0  # pixels


def boundary_counts(
    truth: NDArray[np.integer], prediction: NDArray[np.integer], k: int, tolerance: float = TOLERANCE,
    counted: NDArray[np.bool_] | None = None,
) -> NDArray[np.int64]:  # fmt: skip
    """Return of each of k classes the boundary pixels of the truth, those of them that are met, and both of the prediction.

    truth, prediction : class indices (H, W). counted : which pixels count, (H, W): others are on no boundary, and make none.
    Of shape (4, K), to be added up over images. Takes time with the square of the tolerance, and not with k.
    """
    t, p = _on_boundary(truth, counted, -1), _on_boundary(prediction, counted, -2)
    met_t, met_p = np.zeros(t.shape, bool), np.zeros(p.shape, bool)
    (h, w), tolerance = t.shape, min(tolerance, math.hypot(*t.shape))
    high = min(int(tolerance), h - 1)
    for dy in range(-high, high + 1):
        wide = min(math.isqrt(int(tolerance**2 - dy**2)), w - 1)
        for dx in range(-wide, wide + 1):
            here, there = _overlap(t.shape, dy, dx)
            same = t[here] == p[there]
            met_t[here] |= same
            met_p[there] |= same
    found = [_numbers(a[here], k) for a, met in ((t, met_t), (p, met_p)) for here in (a >= 0, met)]
    return np.stack(found)


def boundary_f_of(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return 2 P R / (P + R) for each class: P the share of its predicted boundary that is met, R that of its true one.

    NaN where a class has neither. counts : of `boundary_counts`, (4, K).
    """
    of_truth, met_truth, of_prediction, met_prediction = counts.astype(np.float64)
    recall, precision = met_truth / np.maximum(of_truth, 1), met_prediction / np.maximum(of_prediction, 1)
    f = 2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)
    return np.where(of_truth + of_prediction > 0, f, np.nan)


def _on_boundary(labels: NDArray[np.integer], counted: NDArray[np.bool_] | None, other: int) -> NDArray[np.int32]:
    """Return the labels of boundary pixels, and `other` elsewhere."""
    on = np.zeros(labels.shape, bool)
    for a, b in (np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1]):
        differs = labels[a] != labels[b]
        if counted is not None:
            differs &= counted[a] & counted[b]
        on[a] |= differs
        on[b] |= differs
    return np.where(on, labels, other).astype(np.int32)


def _overlap(shape: tuple[int, ...], dy: int, dx: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return where both pixels of each pair lie of which the second is (dy, dx) from the first."""
    spans = [(slice(max(0, -d), n - max(0, d)), slice(max(0, d), n - max(0, -d))) for n, d in zip(shape, (dy, dx), strict=True)]
    return (spans[0][0], spans[1][0]), (spans[0][1], spans[1][1])


def _numbers(labels: NDArray[np.int32], k: int) -> NDArray[np.int64]:
    return np.bincount(labels, minlength=k).astype(np.int64)
