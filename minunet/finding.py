"""What `UNet.find_learning_rate` does: it trains a network of its own for a moment, at rates that rise until it falls apart."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from . import losses
from .checks import NotFiniteError
from .data.rng import generator
from .fitting import Beginning, begin, optimizer_of, sampler_of
from .kernels.buffers import pooled
from .parameters import check_parameters
from .training import step
from .training.step import forget_graphs

if TYPE_CHECKING:
    from .unet import UNet

LOWEST, HIGHEST, STEPS = 1e-6, 1.0, 100  # rates, and steps from the one to the other
SMOOTH = 0.9  # of a mean of the losses so far, which says more than one patch's
BURST = 4.0  # times the least mean loss, at which the search ends
TENTH = 0.1  # of the rate of the least loss: from there on it is no longer learning that lowers it


@dataclass(frozen=True)
class LearningRates:
    """What a search for a learning rate has seen: of each step its rate, its loss, and the mean of the losses up to there."""

    rates: NDArray[np.float64]
    losses: NDArray[np.float64]
    means: NDArray[np.float64]

    @property
    def suggestion(self) -> float:
        """A tenth of the rate at which the mean loss was least."""
        return float(TENTH * self.rates[np.argmin(self.means)])


def find_learning_rate(unet: UNet, x: Any, y: Any, **companions: Any) -> LearningRates:
    """Train a copy of what `fit` would train, at rates that rise by one factor from step to step; nothing of it is kept."""
    check_parameters(unet)
    unet._require_weights()
    start = begin(unet, x, y, validation_data=None, **companions)
    with unet._computing(start.network), pooled():
        found = list(_searched(unet, start))
        forget_graphs(start.network)
    if not found:
        raise FloatingPointError(
            f"the loss of the first step is not finite, at a learning rate of {LOWEST:g}: no rate can mend that. `fit` "
            "tells where it comes from"
        )
    rates, values = (np.array(series) for series in zip(*found, strict=True))
    return LearningRates(rates, values, _means(values))


def _searched(unet: UNet, start: Beginning) -> Iterator[tuple[float, float]]:
    """Yield each step's rate and loss, until that is not finite, or far above what it was."""
    optimizer, loss, seen = optimizer_of(unet), losses.resolve(unet.loss), list[float]()
    sampler = sampler_of(unet, start)
    for i in range(STEPS):
        optimizer.learning_rate = LOWEST * (HIGHEST / LOWEST) ** (i / (STEPS - 1))
        x, labels, weights = sampler.batch(0, i, int(unet.batch_size))
        rng = generator(start.seed, "dropout", 0, i)
        try:
            value = float(
                step(
                    start.network, optimizer, x, labels, loss=loss, weights=weights, class_weight=start.data.class_weight,
                    rng=rng, clip_norm=unet.clip_norm,
                )
            )  # fmt: skip
        except NotFiniteError:
            return
        if not math.isfinite(value):
            return
        yield optimizer.learning_rate, value
        seen.append(value)
        means = _means(np.array(seen))
        if means[-1] > BURST * abs(means.min()):
            return


def _means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a running mean that forgets, of each step: as Adam's first moment, with its correction for the start at 0."""
    mean, found = 0.0, []
    for t, value in enumerate(values.tolist(), 1):
        mean = SMOOTH * mean + (1 - SMOOTH) * value
        found.append(mean / (1 - SMOOTH**t))
    return np.array(found)
