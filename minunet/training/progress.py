"""What a person sees while it trains: a bar in a terminal, one plain line an epoch elsewhere."""

from __future__ import annotations

import math
import time

from ..bar import Bar
from ..streams import stderr
from .keeper import Position
from .schedule import Schedule

SHOWN: tuple[str, ...] = ("loss", "val_loss", "val_dice")
STAMP = "%Y-%m-%d %H:%M:%S"  # who comes back in the morning asks when
FIRST_STEPS = 5  # the first compiles; after these the pace is known


class Progress:
    """Report steps and epochs to stderr; verbose=0 says nothing."""

    def __init__(self, schedule: Schedule, verbose: int, at: Position | None = None) -> None:
        """at : where a training that is gone on with stands."""
        self.schedule, self.verbose = schedule, verbose
        self.warm_up = 0.0
        self.out = stderr()
        self.bar = None
        if verbose > 0 and at and at.n_steps:
            self._say(f"the training goes on after step {at.n_steps}, in epoch {at.epoch + 1}")
        if verbose > 0 and self.out.isatty():
            self.bar = Bar(total=schedule.n_steps, initial=at.n_steps if at else 0, unit="step", desc="training")
        self.shown: dict[str, str] = {}

    def on_step(self, step: int, seconds: float, loss: float) -> None:
        """Move the bar; `step` counts from 1."""
        if step == 1:
            self.warm_up = seconds
        if self.bar is None:
            return
        self.bar.update()
        self.shown["loss"] = f"{loss:.3f}"
        if step == FIRST_STEPS:
            expected = self._expected(step, seconds)
            self.bar.set_description(f"training, about {_duration(expected)} in all", refresh=False)
            self.bar.total = round(self.schedule.n_steps * expected / self._by_steps(step, seconds))
        self.bar.set_postfix(self.shown, refresh=False)

    def on_epoch_end(self, epoch: int, step: int, seconds: float, logs: dict[str, float]) -> None:
        """Show the epoch's figures; `epoch` counts from 1."""
        figures = {name: f"{logs[name]:.3f}" for name in SHOWN if not math.isnan(logs.get(name, math.nan))}
        if self.bar is not None:
            self.shown |= figures
            self.bar.set_postfix(self.shown)
        elif self.verbose > 0:
            listed = "  ".join(f"{name} {value}" for name, value in figures.items())
            expected = _duration(self._expected(step, seconds))
            line = f"epoch {epoch}/{self.schedule.max_epochs}  {listed}  {_duration(seconds)} of about {expected}"
            self._say(f"{line}  {time.strftime(STAMP)}")

    def tell(self, text: str) -> None:
        """Say how it ended."""
        if self.verbose > 0:
            self._say(text)

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self.bar is not None:
            self.bar.close()

    def _say(self, line: str) -> None:
        self.out.write(f"{line}\n")  # in one piece: other processes may write there, too
        self.out.flush()

    def _by_steps(self, step: int, seconds: float) -> float:
        """Return the time that all steps will take at the pace of those after the first, which compiled."""
        pace = (seconds - self.warm_up) / (step - 1) if step > 1 else seconds
        return self.warm_up + pace * (self.schedule.n_steps - 1)

    def _expected(self, step: int, seconds: float) -> float:
        limit = 60 * self.schedule.max_minutes if self.schedule.max_minutes else float("inf")
        return min(self._by_steps(step, seconds), limit)


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
