"""Where a training stands, and who writes it down: every few minutes, in less than a hundredth of the time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ..flat import Weights
from ..warn import warn
from . import journal
from .history import History

EVERY = 120.0  # seconds from one time within an epoch to the next; the end of an epoch is worth it sooner
SHARE = 0.01  # of the time, at most


@dataclass
class Position:
    """Where a training stands, between two steps: with the weights and the optimizer's moments, all that it goes on from."""

    epoch: int = 0
    index: int = 0  # the steps of this epoch that are done
    n_steps: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)  # of the steps of this epoch
    history: History = field(default_factory=dict)  # of the epochs before
    threshold: float | None = None  # of the model
    best: Weights | None = None  # the model's, where that is another epoch's: early_stopping


class Keeper:
    """Calls `write` when it is due, with the position and whether that is the end of all.

    What cannot be written ends no training: it is told, and tried again.
    """

    def __init__(self, write: Callable[[Position, bool], None], seconds: float = 0.0) -> None:
        """seconds : those of the training that lie before."""
        self._write = write
        self._last, self._cost, self._failed = seconds, 0.0, False

    def is_due(self, seconds: float, epoch_ended: bool) -> bool:
        """Tell whether it is time, after so many seconds of training."""
        passed = seconds - self._last
        return passed >= self._cost / SHARE and (epoch_ended or passed >= EVERY)

    def write(self, position: Position, over: bool) -> None:
        start = time.perf_counter()
        try:
            self._write(position, over)
            self._failed = False
            journal.is_kept(position.n_steps, time.perf_counter() - start)
        except (OSError, ValueError, MemoryError) as error:
            if not self._failed:
                why = str(error) or "there is not enough memory"
                warn(f"the checkpoint was not written: {why}. The training goes on; it is tried again")
            self._failed = True
        self._cost = max(0.0, time.perf_counter() - start)
        self._last = position.seconds
