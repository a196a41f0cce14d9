"""Trainings that write themselves down at every step, and end wherever a test wants them to."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import minunet
from minunet.training import keeper, schedule
from minunet.training.keeper import Keeper, Position

STEPS = 3  # of an epoch, at least


class Ended(BaseException):
    """Raised where a training is to end as if it were killed."""


@contextlib.contextmanager
def at_every_step(after: Callable[[Position], object] = lambda position: None) -> Iterator[None]:
    """Let trainings have short epochs, and write a checkpoint at every step; `after` is called when one was written."""
    before = keeper.EVERY, keeper.SHARE, schedule.MIN_STEPS, Keeper.write

    def write(self: Keeper, position: Position, over: bool) -> None:
        before[3](self, position, over)
        if not self._failed:
            after(position)

    keeper.EVERY, keeper.SHARE, schedule.MIN_STEPS, Keeper.write = 0.0, math.inf, STEPS, write  # type: ignore[method-assign]
    try:
        yield
    finally:
        keeper.EVERY, keeper.SHARE, schedule.MIN_STEPS, Keeper.write = before  # type: ignore[method-assign]


def stopped(unet: minunet.UNet, x: Any, y: Any, path: Path, epoch: int, index: int) -> None:
    """Train until the checkpoint of so many epochs, and steps of the next one, is written."""

    def end(position: Position) -> None:
        if (position.epoch, position.index) == (epoch, index):
            raise Ended

    with at_every_step(end), warnings.catch_warnings(), contextlib.suppress(Ended):
        warnings.simplefilter("ignore")
        unet.fit(x, y, checkpoint=path)
        raise AssertionError(f"there was no step {index} of epoch {epoch}")
