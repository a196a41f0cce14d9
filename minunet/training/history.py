"""What is known of each epoch of a training, and what that tells of the whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ..unet import UNet

History = dict[str, list[float]]  # a number for each epoch, by name


def last_known(values: Sequence[float]) -> tuple[int, float] | None:
    """Return the last epoch, counted from 1, of which a figure is known, and the figure: a validation may have been cut short."""
    return next(((i, values[i - 1]) for i in range(len(values), 0, -1) if not np.isnan(values[i - 1])), None)


def of_model(unet: UNet) -> tuple[int, float] | None:
    """Return of which epoch, counted from 1, a fitted model's validation Dice is known, and that: the best one, or the last."""
    if unet.early_stopping and unet.best_epoch_ is not None and unet.best_score_ is not None:
        return unet.best_epoch_ + 1, unet.best_score_
    return last_known(unet.history_.get("val_dice", ()))


def told(history: History) -> dict[str, Any]:
    """Return what a history tells, by the names of attributes."""
    scores = history.get("val_dice", [])
    best = int(np.nanargmax(scores)) if not np.isnan(scores).all() else None  # of none, too, all are
    score = None if best is None else scores[best]
    return {"history_": history, "n_iter_": len(history.get("loss", ())), "best_epoch_": best, "best_score_": score}
