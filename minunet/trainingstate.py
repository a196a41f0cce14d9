"""What a checkpoint says beside its model: where its training stands, and on which data."""

from __future__ import annotations

import math
from typing import Any

from ._version import __version__
from .data.fingerprint import LETTERS, Fingerprint
from .optim import Optimizer
from .training.keeper import Position
from .untrusted import LIST, OBJECT, WHOLE, Field, check_fields, is_number, require

MAX_VERSION = 100  # characters
NUMBER: Field = (lambda value: is_number(value) and 0 <= value < math.inf, "a finite number from 0 up")
TRAINING: dict[str, Field] = {
    "minunet": (lambda value: isinstance(value, str) and len(value) <= MAX_VERSION, "the version of minunet, a short text"),
    "moments": WHOLE, "n_updates": WHOLE, "learning_rate": NUMBER,
    "epoch": WHOLE, "index": WHOLE, "n_steps": WHOLE, "seconds": NUMBER, "losses": LIST, "data": OBJECT,
}  # fmt: skip
_LETTERS: Field = (
    lambda value: isinstance(value, str) and len(value) % LETTERS == 0 and set(value) <= set("0123456789abcdef"),
    f"hexadecimal digits, {LETTERS} for each array",
)
DATA = dict.fromkeys(("images", "masks", "weights", "validation", "held_out"), _LETTERS)


def described(position: Position, optimizer: Optimizer, data: Fingerprint) -> dict[str, Any]:
    """Return what JSON can hold of a training, but for the optimizer's moments."""
    return {
        "minunet": __version__, "moments": len(optimizer.moments), "n_updates": optimizer.n_updates,
        "learning_rate": optimizer.learning_rate, "epoch": position.epoch, "index": position.index, "n_steps": position.n_steps,
        "seconds": position.seconds, "losses": position.losses, "data": data,
    }  # fmt: skip


def position(said: dict[str, Any], history: dict[str, list[float]]) -> Position:
    """Return where a training stands; `check` has passed what is said."""
    return Position(said["epoch"], said["index"], said["n_steps"], said["seconds"], list(said["losses"]), dict(history))


def check(said: Any, history: dict[str, Any]) -> None:
    """Refuse what contradicts itself, or its model's history, by the name of the field."""
    check_fields("training", said, TRAINING)
    check_fields("training.data", said["data"], DATA)
    losses, index = said["losses"], said["index"]
    numbers = len(losses) == index and all(is_number(value) and math.isfinite(value) for value in losses)
    require(numbers, "training.losses", losses, f"{index} finite numbers, one for each step of the epoch")
    epochs = len(history.get("loss", ()))
    require(said["epoch"] >= epochs, "training.epoch", said["epoch"], f"{epochs} at least, as the history has")
    least = index + said["epoch"]
    require(least <= said["n_steps"], "training.n_steps", said["n_steps"], f"{least} at least, a step for each epoch")
