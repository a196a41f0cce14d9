"""What a checkpoint says beside its model: where its training stands, and on which data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ._version import __version__
from .checks import Array, check_moments
from .data.fingerprint import LETTERS, Fingerprint
from .evaluation.held_out import names
from .optim import Optimizer
from .training.keeper import Position
from .untrusted import LIST, OBJECT, WHOLE, Field, check_fields, is_number, require

MAX_VERSION = 100  # characters
MAX_NUMBERS = 600_000  # of a history in a file: many more would not fit a header, and of a longer one it has the last epochs
MAX_SECONDS = 1e10  # some centuries
NUMBER: Field = (lambda value: is_number(value) and 0 <= value < math.inf, "a finite number from 0 up")
SECONDS: Field = (lambda value: is_number(value) and 0 <= value <= MAX_SECONDS, f"a number from 0 to {MAX_SECONDS:.0e}")
TRAINING: dict[str, Field] = {
    "minunet": (lambda value: isinstance(value, str) and len(value) <= MAX_VERSION, "the version of minunet, a short text"),
    "moments": WHOLE, "n_updates": WHOLE, "learning_rate": NUMBER,
    "epoch": WHOLE, "index": WHOLE, "n_steps": WHOLE, "seconds": SECONDS, "losses": LIST, "data": OBJECT,
}  # fmt: skip
_LETTERS: Field = (
    lambda value: isinstance(value, str) and len(value) % LETTERS == 0 and set(value) <= set("0123456789abcdef"),
    f"hexadecimal digits, {LETTERS} for each array",
)
_ALWAYS = {"loss", "learning_rate", "seconds", "steps"}
DATA = dict.fromkeys(("images", "masks", "weights", "validation", "held_out"), _LETTERS)


def described(position: Position, optimizer: Optimizer, data: Fingerprint, n_moments: int) -> dict[str, Any]:
    """Return what JSON can hold of a training, but for its moments: arrays of the layout of the weights."""
    return {
        "minunet": __version__, "moments": n_moments, "n_updates": optimizer.n_updates,
        "learning_rate": optimizer.learning_rate, "epoch": position.epoch, "index": position.index, "n_steps": position.n_steps,
        "seconds": position.seconds, "losses": position.losses, "data": data,
    }  # fmt: skip


def position(said: dict[str, Any], history: dict[str, list[float]]) -> Position:
    """Return where a training stands; `check` has passed what is said."""
    return Position(said["epoch"], said["index"], said["n_steps"], said["seconds"], list(said["losses"]), dict(history))


def check(said: Any, history: dict[str, Any], classes: Sequence[int]) -> None:
    """Refuse what contradicts itself, or its model's history and classes, by the name of the field."""
    check_fields("training", said, TRAINING)
    check_fields("training.data", said["data"], DATA)
    losses, index, epoch, n_steps = (said[name] for name in ("losses", "index", "epoch", "n_steps"))
    numbers = len(losses) == index and all(type(v) is float for v in losses) and math.isfinite(sum(losses))
    require(numbers, "training.losses", losses, f"{index} finite numbers, one for each step of the epoch")
    held_out = history.keys() - _ALWAYS
    known = held_out <= names(classes) and (not held_out or "val_dice" in held_out)
    require(not history or (known and history.keys() >= _ALWAYS), "history", sorted(history), "the series that a training logs")
    epochs = len(history.get("loss", ()))
    all_of_them = epoch == epochs or most_epochs(history) <= epochs < epoch
    require(all_of_them, "training.epoch", epoch, f"{epochs}, as many as the history has")
    steps = index + (history["steps"][-1] if epochs else 0)
    require(n_steps == steps, "training.n_steps", n_steps, f"{steps}: those of the history, and of this epoch")
    require(said["n_updates"] == n_steps, "training.n_updates", said["n_updates"], f"{n_steps}, one for each step")


def most_epochs(history: dict[str, Any]) -> int:
    """Return of how many epochs a file holds a history of so many series."""
    return MAX_NUMBERS // max(len(history), 1)


def check_resumed(
    said: dict[str, Any], moments: Sequence[Array], optimizer: Optimizer, steps_per_epoch: int, *, averages: bool,
    apart: tuple[bool, bool],
) -> None:  # fmt: skip
    """Refuse what no training with this optimizer, and so many steps an epoch, can have left.

    averages : behind the optimizer's moments is the mean of the weights. apart : whether the model's weights are others than
    those that are trained, and whether these are there.
    """
    require(said["index"] <= steps_per_epoch, "training.index", said["index"], f"{steps_per_epoch} at most, an epoch's steps")
    has = averages + (optimizer.n_moments if said["n_steps"] else 0)
    takes = f"{has}, as {type(optimizer).__name__} has" + (", and the mean of the weights" if averages else "")
    require(len(moments) == has, "training.moments", len(moments), takes)
    are_apart, are_there = apart
    takes = "those beside the model's, which are others" if are_apart else "none, for they are the model's"
    require(are_apart == are_there, "the weights that are trained", "there" if are_there else "missing", takes)
    check_moments(tuple(moments[: has - averages]), optimizer._squares)
