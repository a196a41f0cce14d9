"""How a network does on examples that were held out of its training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..data.sampling import Example
from ..network import Network
from . import metrics
from .tiles import predict_proba


def loss_and_dice(network: Network, examples: Sequence[Example]) -> dict[str, float]:
    """Return val_loss, the weighted mean cross-entropy, and val_dice, the mean over the classes present; of weight 0, no pixel.

    Nothing where no pixel has weight.
    """
    total = weight = 0.0
    truths, predictions = [], []
    for example in examples:
        probabilities = predict_proba(network, example.image)
        of_truth = np.take_along_axis(probabilities, example.label[..., None], axis=-1)[..., 0]
        pixel_loss = -np.log(np.maximum(of_truth, np.finfo(np.float32).tiny))
        counted = np.ones(of_truth.shape) if example.weight is None else example.weight
        total += float((counted * pixel_loss).sum(dtype=np.float64))
        weight += float(counted.sum(dtype=np.float64))
        truths.append(example.label[counted > 0])
        predictions.append(probabilities.argmax(axis=-1)[counted > 0])
    if weight == 0:
        return {}
    dice = metrics.dice(truths, predictions, classes=range(network.out_channels))
    return {"val_loss": total / weight, "val_dice": float(np.nanmean(dice))}
