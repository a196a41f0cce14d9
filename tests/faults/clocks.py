"""Clocks that jump: a laptop that slept, a server whose time was set."""

from __future__ import annotations

import math
import random
import re
import time
from itertools import pairwise
from pathlib import Path

import minunet

from .house import SETTINGS, House
from .trial import Fault, forked, orderly, require

CLOCKS = ("time", "perf_counter", "monotonic")
JUMPS = (1.0, 3600.0, 1e7, 1e12)  # seconds


def jump(rng: random.Random) -> None:
    """Let every clock of this process leap at drawn readings, to and fro."""
    real = {name: getattr(time, name) for name in CLOCKS}
    offsets = dict.fromkeys(CLOCKS, 0.0)

    def read(name: str) -> float:
        if rng.random() < 0.02:
            offsets[name] += rng.choice((-1, 1)) * rng.choice(JUMPS)
        return real[name]() + offsets[name]

    for name in CLOCKS:
        setattr(time, name, lambda name=name: read(name))


def clocks_that_jump(house: House, room: Path, rng: random.Random) -> int:
    """Fit with and without a limit of time: it ends, and no figure is negative, or no number."""
    minutes = rng.choice((None, 0.001, 1.0, 1000.0))

    def fit() -> None:
        unet = minunet.UNet(**SETTINGS | {"max_epochs": 3, "verbose": 1}, max_minutes=minutes, n_threads=1, random_state=0)
        jump(rng)
        unet.fit(house.x, house.y)
        history = unet.history_
        require(1 <= unet.n_iter_ <= 3, f"{unet.n_iter_} epochs")
        require(minutes is not None or unet.n_iter_ == 3, f"nothing limits the time, and it ended after {unet.n_iter_} epochs")
        for name, values in history.items():
            require(all(math.isfinite(value) for value in values), f"{name}: {values}")
        require(min(history["seconds"]) >= 0, f"negative seconds: {history['seconds']}")
        require(all(a <= b for a, b in pairwise(history["seconds"])), f"seconds run backwards: {history['seconds']}")
        require(all(0 <= rate <= 1e-3 for rate in history["learning_rate"]), f"learning rates {history['learning_rate']}")

    outcome = forked(fit)
    orderly(outcome, 0)
    require(not re.search(r"(?<![\de])-", outcome.err), f"a negative time was told: {outcome.told}")
    return 1


FAULTS = (Fault("clocks that jump", "time, perf_counter and monotonic leap to and fro in fit", clocks_that_jump),)
