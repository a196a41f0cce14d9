"""How a network does on examples that were held out of its training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.sampling import Example
from ..losses import CrossEntropy, Loss, Target
from ..network import Network
from . import metrics
from .tiles import predict_proba


def loss_and_dice(
    network: Network, examples: Sequence[Example], loss: Loss | None = None,
    tell: Callable[[NDArray[np.int64]], object] | None = None,
) -> dict[str, float]:  # fmt: skip
    """Return val_loss, as the loss counts it over all pixels, and val_dice, the mean over the classes present; of weight 0, none.

    Nothing where no pixel has weight, and no val_loss of a loss that does not count.
    tell : is given the confusion matrix, pixels of class i that were given class j (K, K).
    """
    loss = CrossEntropy() if loss is None else loss
    counts: Any = 0.0
    truths, predictions = [], []
    for example in examples:
        probabilities = predict_proba(network, example.image)
        weights = np.ones(example.label.shape) if example.weight is None else example.weight
        counts = counts + loss.counts(probabilities, Target(example.label, weights))
        truths.append(example.label[weights > 0])
        predictions.append(probabilities.argmax(axis=-1)[weights > 0])
    if not any(truth.size for truth in truths):
        return {}
    value = loss.of_counts(counts)
    found = metrics.confusion_matrix(truths, predictions, classes=range(network.out_channels))
    if tell:
        tell(found)
    return ({} if value is None else {"val_loss": value}) | {"val_dice": float(np.nanmean(metrics.dice_of(found)))}
