"""Going on with what a file says of a training: it is refused in a sentence, and nothing has changed, or trained to the end."""

from __future__ import annotations

import math
import os
import tempfile
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from fuzz.judge import demand, sentence
from stopped import STEPS, at_every_step, stopped

import minunet

EPOCHS = 3
SETTINGS: dict[str, Any] = {
    "base_channels": 1, "depth": 0, "patch_size": 8, "batch_size": 8, "max_epochs": EPOCHS, "dropout": 0.25, "random_state": 0,
    "validation_fraction": 0.5, "n_threads": 1, "verbose": 0, "device": "cpu",
}  # fmt: skip


def images() -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(0).integers(0, 256, (4, 16, 16), np.uint8)
    return x, (x > 150).astype(np.uint8) * 255


def place() -> Path:
    """Return a path in a new folder, whose name shows in messages as it is."""
    return Path(tempfile.mkdtemp(prefix="fuzz-training-")) / "training.safetensors"


@cache
def checkpoint() -> bytes:
    """Return the checkpoint of a training that stands in its second epoch, after two of three steps."""
    stopped(minunet.UNet(**SETTINGS), *images(), path := place(), 1, 2)
    return path.read_bytes()


@cache
def at_its_end() -> tuple[bytes, dict[str, Any]]:
    """Return what that training comes to."""
    with at_every_step():
        return trained(minunet.UNet(**SETTINGS).fit(*images()))


def trained(unet: minunet.UNet) -> tuple[bytes, dict[str, Any]]:
    return unet.network_.flat.tobytes(), {name: values for name, values in unet.history_.items() if name != "seconds"}


def content(path: Path) -> bytes | None:
    """Return what is in a file; None where there is none."""
    return path.read_bytes() if path.is_file() else None


def beside(path: Path) -> list[str]:
    """Return the names that stand in a file's folder, if it has one."""
    return sorted(os.listdir(path.parent)) if path.parent.is_dir() else []


def go_on(path: Path) -> tuple[minunet.UNet | None, str]:
    """Go on with a training. Return what it came to, or why not; Broken where it is neither."""
    unet = minunet.UNet(**SETTINGS)
    before, file, others = dict(vars(unet)), content(path), beside(path)
    try:
        with at_every_step(), warnings.catch_warnings(record=True) as told, np.errstate(all="ignore"):
            warnings.simplefilter("always")
            unet.fit(*images(), checkpoint=path, resume=True)
    except (ValueError, OSError) as error:
        demand(vars(unet) == before, "what is refused changes no estimator", vars(unet).keys() - before.keys())
        demand(content(path) == file, "what is refused is left as it is")
        demand(beside(path) == others, "nothing is left beside what is refused")
        return None, sentence(str(error), *([] if path.is_symlink() else [path.name]))
    except FloatingPointError as error:  # of weights such as 1e38
        demand("diverged" in str(error) or "no finite answer" in str(error), "what is not finite is told as that", error)
        return None, sentence(str(error))
    _demand_whole(unet)
    if said := [str(warning.message) for warning in told]:  # of weights such as 1e30, gradients have no squares
        demand(len(said) == 1 and "values that are not finite" in said[0], "else all can be written", said)
    else:
        demand(trained(minunet.load(path)) == trained(unet), "the checkpoint at the end is the model")
    demand(beside(path) == others, "nothing is left beside it")
    return unet, ""


def _demand_whole(unet: minunet.UNet) -> None:
    """What was gone on with is as long as what it says, with all its figures."""
    history = unet.history_
    demand({len(values) for values in history.values()} == {EPOCHS}, "each series has a number for each epoch", history)
    demand(history["steps"][-1] - history["steps"][-2] == STEPS, "the last epoch has all its steps", history["steps"])
    right = 1e-3 * (1 - (history["steps"][-1] - 1) / (EPOCHS * STEPS)) ** 0.9
    demand(history["learning_rate"][-1] == right, "the learning rate is that of its time", history["learning_rate"])
    demand(all(map(math.isfinite, history["loss"])), "a loss is a number", history["loss"])
