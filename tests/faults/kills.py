"""kill -9, and the signals that ask, at drawn moments."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

from .house import TRAINING, House
from .trial import Fault, Outcome, command, ended, forked, orderly, require

RELU = """
import numpy as np
from minunet.kernels import cpu
x = np.array([-1, 2], np.float32).reshape(1, 1, 1, 2)
print(*cpu.relu(x).ravel().tolist(), *cpu.bias_grad(x).tolist())
"""
RIGHT = "0.0 2.0 -1.0 2.0"
ASKED = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


def kill_save(house: House, room: Path, rng: random.Random) -> int:
    """Save two models in turns over each other, and be killed."""
    path = room / "model"
    path.write_bytes(house.old)

    def save() -> None:
        while True:
            for unet in house.unets:
                unet.save(path)

    outcome = forked(save, kill_after=rng.uniform(0, 0.05))
    require(outcome.status == -signal.SIGKILL, f"it ended before it was killed: {outcome.told}")
    house.which(path)
    return 1


def kill_predict(house: House, room: Path, rng: random.Random) -> int:
    """Predict a folder, be killed, and predict it again."""
    output = room / "out"
    outcome = forked(lambda: house.predict(output), kill_after=rng.uniform(0, 0.25))
    require(outcome.status in (0, -signal.SIGKILL), f"exit status {outcome.status}: {outcome.told}")
    house.require_predictions(output, all_of_them=outcome.status == 0)
    orderly(forked(lambda: house.predict(output, "--force")), 0)
    house.require_predictions(output, all_of_them=False)
    require(all((output / name).exists() for name in house.predictions), "the second run did not write all")
    return 1


def kill_train(house: House, room: Path, rng: random.Random) -> int:
    """Train over an old model, and be killed: it is there, or the new one, which loads."""
    path = room / "model.safetensors"
    path.write_bytes(house.old)
    outcome = forked(lambda: house.train(path, "--force"), kill_after=rng.uniform(0, 1.2))
    require(outcome.status in (0, -signal.SIGKILL), f"exit status {outcome.status}: {outcome.told}")
    old_or_trained(house, path, trained=outcome.status == 0)
    return 1


def asked_to_stop(house: House, room: Path, rng: random.Random) -> int:
    """Train over an old model, and be sent Ctrl-C, a hang-up or a termination: their statuses, and a whole model."""
    path = room / "model.safetensors"
    path.write_bytes(house.old)
    number = rng.choice(sorted(ASKED))
    training = ("train", house.images, house.masks, "-o", path, "--force", *TRAINING, "--max-epochs", "400")
    process = command("-m", "minunet", *training, cache=house.cache)
    assert process.stderr
    process.stderr.readline()  # of the first epoch: now it trains
    time.sleep(rng.uniform(0, 0.5))
    process.send_signal(number)
    outcome = ended(process)
    orderly(outcome, ASKED[number], -number)
    old_or_trained(house, path, trained=False)
    return 1


def old_or_trained(house: House, path: Path, *, trained: bool) -> None:
    """Require the old file, or (always, if it was trained to the end) one that loads and predicts."""
    require(path.exists(), "the old model is gone")
    if path.read_bytes() == house.old:
        require(not trained, "it told of no failure, and the old file is there")
        return
    code = f"import minunet, sys; minunet.load({str(path)!r}).predict(__import__('numpy').zeros((16, 16)))"
    orderly(forked(lambda: exec(code)), 0)


def kill_compile(house: House, room: Path, rng: random.Random) -> int:
    """Compile with an empty cache, be killed while or when a kernel is kept; the next finds nothing damaged, and mends."""
    cache = room / "cache"
    process = command("-c", RELU, cache=cache)
    if rng.random() < 0.3:
        time.sleep(rng.uniform(0.5, 3))
    else:
        while process.poll() is None and not list(cache.glob("*/*")):
            time.sleep(0.0005)
        time.sleep(rng.uniform(0, 0.003) if rng.random() < 0.7 else rng.uniform(0, 0.5))
    process.kill()
    ended(process)
    for run in range(2):
        outcome = ended(command("-c", RELU, cache=cache))
        orderly(outcome, 0)
        require(outcome.out.strip() == RIGHT, f"another result: {outcome.told}")
        require("damaged" not in outcome.err and (not run or not outcome.err), f"it said: {outcome.told}")
    return 1


def cold_together(house: House, room: Path, rng: random.Random) -> int:
    """Three processes compile into one empty cache at once, one is killed; the next finds all that the others kept."""
    cache = room / "cache"
    processes = [command("-c", RELU, cache=cache) for _ in range(3)]
    time.sleep(rng.uniform(0.5, 4))
    processes[0].kill()
    ended(processes[0])
    outcomes: list[Outcome] = [ended(process) for process in processes[1:]]
    outcomes.append(ended(command("-c", RELU, cache=cache)))
    for outcome in outcomes:
        orderly(outcome, 0)
        require(outcome.out.strip() == RIGHT and "damaged" not in outcome.err, f"it said: {outcome.told}")
    require(not outcomes[-1].err, f"it said: {outcomes[-1].told}")
    return 3


FAULTS = (
    Fault("kill: save", "kill -9 while models are saved over each other", kill_save),
    Fault("kill: predict", "kill -9 while a folder is predicted, then again", kill_predict),
    Fault("kill: train", "kill -9 while one is trained over an old model", kill_train),
    Fault("kill: asked to stop", "Ctrl-C, SIGTERM, SIGHUP in training", asked_to_stop),
    Fault("kill: compile", "kill -9 while kernels are compiled and kept", kill_compile),
    Fault("kill: cold together", "three processes, one empty cache, one of them killed", cold_together),
)
