"""When to stop before the time: where what is held out tells that nothing comes any more."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .history import History, told


@dataclass(frozen=True)
class Patience:
    """So many epochs without a rise by `tol` of val_dice end a training; the model is that of the best epoch, always.

    Both follow from the history alone: whoever goes on from a checkpoint needs no counters.
    """

    epochs: int
    tol: float

    def __str__(self) -> str:
        return f"val_dice has not risen by {self.tol:g} for {self.epochs} epoch{'s' if self.epochs > 1 else ''}"

    def is_over(self, history: History) -> bool:
        """Tell whether there were so many: an epoch does not count where it is above the best before it by tol."""
        return _since_risen(history.get("val_dice", ()), self.tol) >= self.epochs


def _since_risen(scores: Sequence[float], tol: float) -> int:
    best, epochs = -math.inf, 0
    for score in scores:
        epochs = 0 if score >= best + tol else epochs + 1
        best = max(best, score)
    return epochs


def told_best(history: History) -> str:
    """Return which epoch's the model is, for a sentence; "" where none is known."""
    best = told(history)
    epoch, score = best["best_epoch_"], best["best_score_"]
    return "" if epoch is None else f"is that of epoch {epoch + 1}, the best so far (val_dice {score:.3f})"


def is_best(history: History) -> bool:
    """Tell whether the last epoch is the best one, or none is known."""
    best = told(history)["best_epoch_"]
    return best is None or best == len(history["val_dice"]) - 1
