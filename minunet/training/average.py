"""The mean of the weights on the way: kept beside them, and shown in their place wherever a network is judged or kept."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..kernels import run, updates

Array = NDArray[np.floating]

PIECE = 2**18  # weights that are exchanged at once: no memory was foretold for a third copy of all


class Average:
    """A running mean of a network's weights. While the network shows it, the weights that are trained lie in `other`.

    After update t, mean = keep mean + (1 - keep) weights, with keep = min(decay, (1 + t) / (10 + t)), so that what the first
    steps left is soon forgotten. (Polyak and Juditsky 1992 weigh all weights alike; this forgets the older ones.)
    """

    def __init__(self, flat: Array, decay: float) -> None:
        """flat : the network's weights, with which the mean begins."""
        self.flat, self.decay, self.other, self.shown = flat, decay, flat.copy(), False

    def resume(self, mean: Array) -> None:
        """Go on from a mean, beside the weights that the network has; it is shown."""
        self.other[...], self.shown = mean, False
        self.show(True)

    def update(self, t: int) -> None:
        """Take in the weights that update t has left, counted from 1."""
        run(updates.average_update, self.other, self.flat, keep=min(self.decay, (1 + t) / (10 + t)))

    def show(self, shown: bool) -> None:
        """Let the network have the mean, or its weights again."""
        if shown == self.shown:
            return
        for start in range(0, self.flat.size, PIECE):
            mine, others = self.flat[start : start + PIECE], self.other[start : start + PIECE]
            kept = mine.copy()
            mine[...] = others
            others[...] = kept
        self.shown = shown
