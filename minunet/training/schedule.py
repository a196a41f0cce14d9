"""How long to train, and the learning rate on the way."""

from __future__ import annotations

import math
from dataclasses import dataclass

MIN_STEPS = 25  # an epoch of few small images is still worth a validation
POWER = 0.9


@dataclass(frozen=True)
class Schedule:
    """max_epochs of steps_per_epoch, or max_minutes, whichever is spent first; the learning rate decays to 0 with it."""

    learning_rate: float
    steps_per_epoch: int
    max_epochs: int
    max_minutes: float | None

    @property
    def n_steps(self) -> int:
        """The number of steps where time does not run out."""
        return self.steps_per_epoch * self.max_epochs

    def spent(self, steps: int, seconds: float) -> float:
        """Return the share, 0 to 1, of the training that is over after so many steps and seconds."""
        by_time = seconds / (60 * self.max_minutes) if self.max_minutes else 0.0
        return min(1.0, max(steps / self.n_steps, by_time))

    def learning_rate_at(self, spent: float) -> float:
        """Return learning_rate (1 - spent)^0.9: the "poly" decay (Chen et al. 2018, DeepLab, section 4.1)."""
        return self.learning_rate * (1 - spent) ** POWER


def steps_per_epoch(training_pixels: int, batch_size: int, patch_size: int) -> int:
    """Return the steps that see as many pixels as the training images have, at least 25."""
    return max(MIN_STEPS, math.ceil(training_pixels / (batch_size * patch_size**2)))
