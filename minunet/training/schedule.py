"""How long to train, and the learning rate on the way."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from .history import History

MIN_STEPS = 25  # an epoch of few small images is still worth a validation
POWER = 0.9
START = 0.01  # of the rate, with which a warm-up begins: of 0, the first step would come to nothing
RISE, FIRST = 0.3, 1 / 25  # of one cycle: how much of it the rate rises, and from which part of it
PATIENCE = 5  # epochs without a lower loss are a plateau: half of what early stopping waits, which is to see what comes of it
LESS = 1e-4  # of the loss, by which it must fall to be lower


def _poly(spent: float) -> float:
    """Chen et al. 2018 (DeepLab), section 4.1."""
    return (1 - spent) ** POWER


def _cosine(spent: float) -> float:
    """Loshchilov and Hutter 2017 (SGDR), equation 5, without restarts."""
    return (1 + math.cos(math.pi * spent)) / 2


def _step(spent: float) -> float:
    """A tenth at a half and again at three quarters of the training: He et al. 2016 (residual networks), section 4.2."""
    return 0.1 ** ((spent >= 0.5) + (spent >= 0.75))


def _one_cycle(spent: float) -> float:
    """Up and down once, each as half a cosine: Smith and Topin 2018, whose momentum falls and rises meanwhile. Here it stays."""
    if spent < RISE:
        return FIRST + (1 - FIRST) * _cosine(1 - spent / RISE)
    return _cosine((spent - RISE) / (1 - RISE))


def _constant(spent: float) -> float:
    return 1.0


SCHEDULES: dict[str, Callable[[float], float]] = {  # by name: which part of the rate, when so much of the training is spent
    "poly": _poly, "cosine": _cosine, "step": _step, "plateau": _constant, "one_cycle": _one_cycle, "constant": _constant,
}  # fmt: skip


def plateaus(history: History) -> int:
    """Return how often the loss has stood still: val_loss, or that of the training where no val_loss is known."""
    losses = [value for value in history.get("val_loss", []) if not math.isnan(value)] or history.get("loss", [])
    found, waited, least = 0, 0, math.inf
    for loss in losses:
        if least == math.inf or loss < least - LESS * abs(least):
            waited, least = 0, loss
        else:
            waited += 1
        if waited == PATIENCE:
            found, waited = found + 1, 0
    return found


@dataclass(frozen=True)
class Schedule:
    """max_epochs of steps_per_epoch, or max_minutes, whichever is spent first; the learning rate goes with it.

    warm_up : the share of the training in which it rises to learning_rate; what SCHEDULES has by this name follows.
    """

    learning_rate: float
    steps_per_epoch: int
    max_epochs: int
    max_minutes: float | None
    name: str = "poly"
    warm_up: float = 0.0

    @property
    def n_steps(self) -> int:
        """The number of steps where time does not run out."""
        return self.steps_per_epoch * self.max_epochs

    def spent(self, steps: int, seconds: float) -> float:
        """Return the share, 0 to 1, of the training that is over after so many steps and seconds."""
        by_time = seconds / (60 * self.max_minutes) if self.max_minutes else 0.0
        return min(1.0, max(steps / self.n_steps, by_time))

    def learning_rate_at(self, spent: float, history: History | None = None) -> float:
        """Return the learning rate of a step before which so much is spent, and of whose epochs this is known.

        At each plateau the rate is divided by 10, as in He et al. 2016, section 3.4.
        """
        if spent < self.warm_up:
            return self.learning_rate * (START + (1 - START) * spent / self.warm_up)
        rate = self.learning_rate * SCHEDULES[self.name]((spent - self.warm_up) / (1 - self.warm_up))
        return rate * 0.1 ** plateaus(history or {}) if self.name == "plateau" else rate


def steps_per_epoch(training_pixels: int, batch_size: int, patch_size: int) -> int:
    """Return the steps that see as many pixels as the training images have, at least 25."""
    return max(MIN_STEPS, math.ceil(training_pixels / (batch_size * patch_size**2)))
