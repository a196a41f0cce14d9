"""How a network does on examples that were held out of its training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..data.sampling import Example
from ..network import Network
from . import metrics
from .tiles import predict_proba


def loss_and_dice(network: Network, examples: Sequence[Example]) -> dict[str, float]:
    """Return val_loss, the mean cross-entropy over pixels of weight, and val_dice, the mean over the classes present."""
    if not examples:
        return {}
    total = weight = 0.0
    predictions = []
    for example in examples:
        probabilities = predict_proba(network, example.image)
        of_truth = np.take_along_axis(probabilities, example.label[..., None], axis=-1)[..., 0]
        pixel_loss = -np.log(np.maximum(of_truth, np.finfo(np.float32).tiny))
        counted = np.ones(of_truth.shape) if example.weight is None else example.weight
        total += float((counted * pixel_loss).sum(dtype=np.float64))
        weight += float(counted.sum(dtype=np.float64))
        predictions.append(probabilities.argmax(axis=-1))
    classes = list(range(network.out_channels))
    dice = metrics.dice([e.label for e in examples], predictions, classes=classes)
    return {"val_loss": total / weight if weight else 0.0, "val_dice": float(np.nanmean(dice))}
