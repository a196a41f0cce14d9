"""How a network does on examples that were held out of its training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..data.sampling import Example
from ..losses import CrossEntropy, Loss, Target
from ..network import Network
from . import metrics
from .boundary import boundary_counts, boundary_f_of
from .threshold import Choice, decide
from .tiles import predict_proba

MOST_CLASSES = 20  # that have figures of their own: more would be a history that nobody reads


class Validation(NamedTuple):
    """What is known of the held-out examples: figures by the names of the history, and the threshold that is best for them."""

    figures: dict[str, float]
    threshold: float | None = None


def names(classes: Sequence[int]) -> set[str]:
    """Return the names of the figures that there may be, by the masks' values."""
    own = {f"val_{what}_{value}" for what in ("dice", "iou") for value in classes} if len(classes) <= MOST_CLASSES else set()
    return {"val_loss", "val_dice", "val_pixel_error", "val_boundary_f"} | own


def validate(
    network: Network, examples: Sequence[Example], loss: Loss | None = None, *, classes: Sequence[int] | None = None,
    class_weight: NDArray[np.float64] | None = None, threshold: float | str | None = None,
    tell: Callable[[NDArray[np.int64]], object] | None = None,
) -> Validation:  # fmt: skip
    """Return the figures over all pixels of weight; none where there is no such pixel. No val_loss of a loss that does not count,

    or where no class has weight. A class that no mask has there has Dice and IoU NaN, and the means are over the others: val_dice
    of Dice, val_boundary_f of `metrics.boundary_f`.
    classes : the masks' values, of which up to 20 have val_dice_{value} and val_iou_{value}; 0 .. K-1 unless given.
    threshold : from which on a pixel is of the second class of two (`decide`); "validation" chooses it, for later: the figures
        are those of the most probable class, as what is chosen on pixels must not be reported on them.
    tell : is given the confusion matrix, pixels of class i that were given class j (K, K).
    """
    loss, k = CrossEntropy() if loss is None else loss, network.out_channels
    choice, given = (Choice(), None) if isinstance(threshold, str) else (None, threshold)
    counts: Any = 0.0
    found, boundaries = np.zeros((k, k), np.int64), np.zeros((4, k), np.int64)
    for example in examples:
        probabilities = predict_proba(network, example.image)
        label = example.label.astype(np.int32, copy=False)
        weights = np.ones(label.shape) if example.weight is None else example.weight
        of_loss = weights if class_weight is None else weights * class_weight[label]  # as in training
        counts = counts + loss.counts(probabilities, Target(label, of_loss))
        here = None if example.weight is None else example.weight > 0
        where = ... if here is None else here
        predicted, truth = decide(probabilities, given), label[where]
        found += np.bincount((truth * k + predicted[where]).ravel(), minlength=k * k).reshape(k, k)
        boundaries += boundary_counts(label, predicted, k, counted=here)
        if choice:
            choice.add(probabilities[where][..., 1].ravel(), truth.ravel())
    if not found.any():
        return Validation({}, given)
    if tell:
        tell(found)
    value = loss.of_counts(counts)
    figures = ({} if value is None else {"val_loss": value}) | _figures(found, boundaries, classes or range(k))
    return Validation(figures, choice.best() if choice else given)


def _figures(found: NDArray[np.int64], boundaries: NDArray[np.int64], classes: Sequence[int]) -> dict[str, float]:
    present = found.sum(axis=1) > 0
    dice, iou = (np.where(present, of(found), np.nan) for of in (metrics.dice_of, metrics.iou_of))
    f = boundary_f_of(boundaries)[boundaries[0] > 0]
    figures = {
        "val_dice": float(np.nanmean(dice)),
        "val_pixel_error": float(1 - np.trace(found) / found.sum()),
        "val_boundary_f": float(f.mean()) if f.size else float("nan"),
    }
    if len(classes) <= MOST_CLASSES:
        figures |= {f"val_dice_{value}": float(d) for value, d in zip(classes, dice, strict=True)}
        figures |= {f"val_iou_{value}": float(i) for value, i in zip(classes, iou, strict=True)}
    return figures
