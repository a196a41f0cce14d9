"""From probabilities to classes: the most probable one, or, of two, the second from a threshold on; and the choice of that."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

GRID = np.arange(1, 100) / 100  # the thresholds to choose from


def decide(probabilities: NDArray[np.floating], threshold: float | None = None) -> NDArray[np.intp]:
    """Return the class index of each pixel (...) from its probabilities (..., K). All that names a class does so here.

    threshold : of two classes, the probability of the second from which on a pixel is of that; None takes the larger one.
    """
    if threshold is None:
        return probabilities.argmax(axis=-1)
    return (probabilities[..., 1] >= np.asarray(threshold, probabilities.dtype)).astype(np.intp)


class Choice:
    """Finds the threshold of GRID with the highest Dice of the second class, by exact counts of pixels."""

    def __init__(self) -> None:
        self.counts = np.zeros((2, len(GRID) + 1), np.int64)  # by the true class, and how many of GRID a pixel reaches

    def add(self, probability: NDArray[np.floating], truth: NDArray[np.integer]) -> None:
        """Count pixels: the probability of the second class (M,), and the true class indices (M,)."""
        reached = np.searchsorted(GRID.astype(probability.dtype), probability, side="right")
        for c in (0, 1):
            self.counts[c] += np.bincount(reached[truth == c], minlength=len(GRID) + 1)

    def best(self) -> float | None:
        """Return it; of equal ones that nearest to 0.5, and the lower of two. None where nothing was counted."""
        if not self.counts.any():
            return None
        false, true = (row[::-1].cumsum()[::-1][1:] for row in self.counts)  # of the second class's pixels, by threshold
        dice = 2 * true / np.maximum(true + false + self.counts[1].sum(), 1)
        return float(GRID[min(np.flatnonzero(dice == dice.max()), key=lambda i: (abs(i - len(GRID) // 2), i))])
