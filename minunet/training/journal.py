"""What a training tells other programs, in lines with their numbers as attributes; docs/training-log.md lists them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from .. import kernels, text
from ..data.prepare import Prepared
from ..log import tell
from ..network import Network
from .schedule import Schedule

if TYPE_CHECKING:
    from .loop import Loop

TOLD = ("loss", "val_loss", "val_dice", "learning_rate", "seconds", "steps")
ENDS = {
    "epochs": (logging.INFO, "max_epochs are spent"),
    "minutes": (logging.INFO, "max_minutes are spent"),
    "callback": (logging.INFO, "a callback asked for it"),
    "early_stopping": (logging.INFO, "val_dice does not rise any more"),
    "interrupted": (logging.WARNING, "it was interrupted"),
    "failed": (logging.WARNING, "it failed"),
    "diverged": (logging.ERROR, "it diverged"),
}


def begins(network: Network, schedule: Schedule, data: Prepared, done: int) -> None:
    """Tell what is trained on, of what size the network is, where it computes, and for how long; `done` steps are behind it."""
    classes, place, n_threads = data.classes.tolist(), kernels.place(network.flat), kernels.n_threads()
    words = (
        f"training begins: {len(data.training)} images or parts of them, {len(data.validation)} held out, {len(classes)} "
        f"classes; {network.n_parameters} parameters, on {place} with {n_threads} "
        f"thread{'s' if n_threads > 1 else ''}; "
        f"{schedule.max_epochs} epochs of {schedule.steps_per_epoch} steps"
        + (f", {schedule.max_minutes:g} minutes at most" if schedule.max_minutes else "")
        + (f"; it goes on after step {done}" if done else "")
    )
    tell(
        "training", logging.INFO, words, event="begin", examples=len(data.training), held_out=len(data.validation),
        classes=classes, parameters=network.n_parameters, place=place, threads=n_threads, epochs=schedule.max_epochs,
        steps=schedule.n_steps, steps_done=done,
    )  # fmt: skip


def epoch_ends(epoch: int, epochs: int, logs: dict[str, float]) -> None:
    """Tell an epoch's figures; `epoch` counts from 1. Not all in words: the attributes have each class's."""
    figures = ", ".join(f"{name} {logs[name]:.4g}" for name in TOLD if name in logs)
    tell("training", logging.INFO, f"epoch {epoch}/{epochs}: {figures}", event="epoch", epoch=epoch, epochs=epochs, **logs)


def is_kept(steps: int, seconds: float) -> None:
    """Tell that a checkpoint was written, and what that took."""
    words = f"checkpoint written after step {steps}, in {seconds:.2f} s"
    tell("training", logging.INFO, words, event="checkpoint", steps=steps, seconds=seconds)


def ends(loop: Loop, error: BaseException | None = None) -> None:
    """Tell that a training ended, and why: by itself, or by an exception."""
    reason = _reason(loop, error)
    level, why = ENDS[reason]
    epochs, steps, seconds = loop.at.epoch, loop.at.n_steps, loop._seconds()
    said = f" ({type(error).__name__}: {text.told(error)})" if error and reason != "interrupted" else ""
    words = f"training ends after {epochs} epochs, {steps} steps, {seconds:.0f} s: {why}{said}"
    tell("training", level, words, event="end", reason=reason, epochs=epochs, steps=steps, seconds=seconds)


def _reason(loop: Loop, error: BaseException | None) -> str:
    if loop.interrupted:
        return "interrupted"
    if error:
        return "diverged" if isinstance(error, FloatingPointError) else "failed"
    if loop.stopped:
        return "callback"
    if loop.stale:
        return "early_stopping"
    return "epochs" if loop.at.epoch == loop.schedule.max_epochs else "minutes"
