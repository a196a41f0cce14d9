"""Trainings that write themselves down at every step, ended in every way, and gone on with until they are done.

What is there is always a step of the training that nothing ended, in every bit: the last that was written, or the one after
it. And all come to the same end.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import signal
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from stopped import STEPS, at_every_step

import minunet
from minunet import description, modelfile
from minunet.training.keeper import Position

from .cuts import ACTIONS, CRASHED, Calls, told
from .disks import mounted
from .house import House
from .limits import limit, require_limits
from .trial import BrokenError, Fault, Outcome, forked, orderly, require

SETTINGS: dict[str, Any] = {
    "base_channels": 2, "depth": 1, "patch_size": 16, "batch_size": 2, "max_epochs": 2, "dropout": 0.25,
    "validation_fraction": 0.3, "random_state": 7, "n_threads": 1, "device": "cpu", "verbose": 0,
}  # fmt: skip
KINDS: tuple[dict[str, Any], ...] = ({}, {"optimizer": "sgd", "class_weight": "balanced", "normalize": "dataset"})
KILLS = 20  # in a turn
MOST = 4  # times that one training is ended
Place = tuple[int, int]  # an epoch and a step of it
NOWHERE = (-1, -1)


@dataclass(frozen=True)
class Whole:
    """A training that nothing ended: the digest of each of its checkpoints, and of its end, and what it took."""

    states: dict[Place, str]
    end: str
    seconds: float
    sizes: tuple[int, ...]
    n_calls: int


def train(house: House, kind: int, path: Path | None, after: Callable[[Position], object] = lambda position: None) -> str:
    """Go on with a training to its end; return the digest of that."""
    with at_every_step(after), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what could not be written is told, and that is right
        unet = minunet.UNet(**SETTINGS | KINDS[kind])
        unet.fit(house.x[:3, :24, :24], house.y[:3, :24, :24], checkpoint=path, resume=path is not None)
    return end(unet)


def end(unet: minunet.UNet) -> str:
    """Return a digest of what a training came to, but for its seconds."""
    return digest(unet.network_.flat, [], {name: values for name, values in unet.history_.items() if name != "seconds"})


def digest(flat: np.ndarray, moments: list[np.ndarray], said: dict[str, Any]) -> str:
    found = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    for array in (flat, *moments):
        found.update(array.tobytes())
    return found.hexdigest()


def state(path: Path) -> tuple[Place, str]:
    """Return which step a checkpoint is of, and a digest of all that is in it but seconds."""
    try:
        network, said, moments, _ = modelfile.load_checkpoint(path, description.check)
    except modelfile.ModelFileError as error:
        raise BrokenError(str(error)) from error
    training = said["training"]
    said["history"].pop("seconds", None)
    training.pop("seconds")
    return (training["epoch"], training["index"]), digest(network.flat, moments, said)


@cache
def whole(house: House, kind: int) -> Whole:
    """Train undisturbed: without a checkpoint, with one, and to see the calls. It loads what the trials' forks need, too."""
    states, sizes, path = {}, [], house.folder / f"whole{kind}"

    def note(position: Position) -> None:
        place, found = state(path)
        require(place == (position.epoch, position.index) and place not in states, f"{place} was written twice, or wrongly")
        states[place] = found
        sizes.append(path.stat().st_size)

    right = train(house, kind, None)
    require(train(house, kind, path, note) == right, "a training with a checkpoint comes to another end")
    require(len(states) == SETTINGS["max_epochs"] * (STEPS + 1), f"it wrote {sorted(states)}")
    path.unlink()
    started = time.perf_counter()
    with Calls(house.folder).watched() as calls:
        train(house, kind, path)
    return Whole(states, right, time.perf_counter() - started, tuple(sizes), len(calls.names))


def telling(house: House, kind: int, path: Path) -> Callable[[], int]:
    """Return what trains and tells on stdout, at once, of each step that it has written, and at last of its end."""

    def say(line: str) -> None:
        os.write(1, f"{line}\n".encode())

    def work() -> int:
        return told(lambda: say(f"end {train(house, kind, path, lambda at: say(f'{at.epoch} {at.index}'))}"))

    return work


def judged(path: Path, right: Whole, outcome: Outcome, last: Place) -> Place:
    """Require that no step is lost that was written before, or that this run has told of; return the one that is there."""
    lines = outcome.out.splitlines(keepends=True)
    written = [tuple(map(int, line.split())) for line in lines if line[0].isdigit() and line.endswith("\n")]
    ends = [line.split()[1] for line in lines if line.startswith("end ")]
    require(ends == [right.end] * (outcome.status == 0), f"another end: {outcome.told}")
    last = max(last, *written) if written else last
    if last == NOWHERE and not path.exists():
        return NOWHERE
    require(path.exists(), f"the checkpoint is gone, that was at {last}")
    place, found = state(path)
    require(right.states.get(place) == found, f"what is there is not the step {place} of the training that was not ended")
    require(place >= last, f"{place} is there, and {last} was written")
    n_steps = [steps for steps in minunet.load(path).history_.get("steps", [])]
    require(n_steps == [STEPS * (i + 1) for i in range(place[0])], f"as a model, it has {n_steps} steps behind it")
    return place


def finished(house: House, kind: int, path: Path, right: Whole, last: Place) -> None:
    """Let the training end as if nothing had been, and leave nothing but its file."""
    outcome = forked(telling(house, kind, path))
    orderly(outcome, 0)
    place = judged(path, right, outcome, last)
    require(place == (SETTINGS["max_epochs"], 0), f"the checkpoint is at {place}")
    left = [found.name for found in path.parent.iterdir()]
    require(left == [path.name], f"{sorted(left)} is there")


def kill_checkpoint(house: House, room: Path, rng: random.Random) -> int:
    """Kill some trainings: a short run of the faults has one turn for this, and is to kill twenty times in it."""
    n, names = 0, itertools.count()
    while n < KILLS:
        (folder := room / str(next(names))).mkdir()
        n += killed(house, folder / "training", rng)
    return n


def killed(house: House, path: Path, rng: random.Random) -> int:
    """Train, be killed, and go on, some times; then to the end. Return how often it was."""
    last, kind, n = NOWHERE, rng.randrange(len(KINDS)), 0
    right = whole(house, kind)
    for _ in range(rng.randint(1, MOST)):
        outcome = forked(telling(house, kind, path), kill_after=rng.uniform(0, right.seconds))
        require(outcome.status in (0, -signal.SIGKILL), f"exit status {outcome.status}: {outcome.told}")
        last = judged(path, right, outcome, last)
        n += outcome.status != 0
    finished(house, kind, path, right, last)
    return n


def cut_checkpoint(house: House, room: Path, rng: random.Random) -> int:
    """Train, be cut at a drawn call that concerns the checkpoint, in a drawn way, and go on, some times; then to the end."""
    path, last, kind, n = room / "training", NOWHERE, rng.randrange(len(KINDS)), 0
    right = whole(house, kind)
    for _ in range(rng.randint(1, MOST)):
        action, at = rng.choice(ACTIONS), rng.randrange(right.n_calls)

        def cut(action: str = action, at: int = at) -> int:
            with Calls(room, action, at).watched():
                return telling(house, kind, path)()

        outcome = forked(cut)
        orderly(outcome, 0, 1, 130, *([CRASHED] if action.startswith("crash") else []))
        last = judged(path, right, outcome, last)
        n += 1
    finished(house, kind, path, right, last)
    return n


def full_checkpoint(house: House, room: Path, rng: random.Random) -> int:
    """Train with a checkpoint on a disk that has no room for it, or not for two; then there is."""
    kind = rng.randrange(len(KINDS))
    right = whole(house, kind)
    with mounted(room / "disk", rng.randrange(4096, 3 * max(right.sizes))) as disk:
        return trained_all_the_same(house, kind, disk / "training", telling(house, kind, disk / "training"), finish=False)


def size_of_checkpoint(house: House, room: Path, rng: random.Random) -> int:
    """Train where no file may be larger than the checkpoint is at some step of it."""
    require_limits()
    kind = rng.randrange(len(KINDS))
    right = whole(house, kind)
    size = rng.randrange(min(right.sizes) - 100, max(right.sizes))

    def limited() -> int:
        limit("FSIZE", size)
        return telling(house, kind, room / "training")()

    return trained_all_the_same(house, kind, room / "training", limited, finish=True)


def trained_all_the_same(house: House, kind: int, path: Path, work: Callable[[], int], *, finish: bool) -> int:
    """Require that what cannot be written ends no training, but perhaps lets none begin, and that what is there is right."""
    right = whole(house, kind)
    outcome = forked(work)
    orderly(outcome, 0, 1)
    require(outcome.status == 0 or "epoch" not in outcome.err, "it trained, and failed")
    last = judged(path, right, outcome, NOWHERE)
    left = [found.name for found in path.parent.iterdir()]
    require(left in ([], [path.name]), f"{sorted(left)} is there")
    if finish:
        finished(house, kind, path, right, last)
    return 1


FAULTS = (
    Fault("kill: checkpoint", "kill -9, again and again, at every moment of a training", kill_checkpoint),
    Fault("cut points: checkpoint", "a call of a training fails, interrupts it, is its last", cut_checkpoint),
    Fault("disk: full, checkpoint", "a small tmpfs that a training writes itself down to", full_checkpoint),
    Fault("limit: size of checkpoints", "RLIMIT_FSIZE that is reached within a training", size_of_checkpoint),
)
