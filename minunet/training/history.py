"""What is known of each epoch of a training, and what that tells of the whole."""

from __future__ import annotations

from typing import Any

import numpy as np

History = dict[str, list[float]]  # a number for each epoch, by name


def told(history: History) -> dict[str, Any]:
    """Return what a history tells, by the names of attributes."""
    scores = history.get("val_dice", [])
    best = int(np.nanargmax(scores)) if not np.isnan(scores).all() else None  # of none, too, all are
    score = None if best is None else scores[best]
    return {"history_": history, "n_iter_": len(history.get("loss", ())), "best_epoch_": best, "best_score_": score}
