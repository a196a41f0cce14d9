"""Streams that are closed, full, or that nobody reads."""

from __future__ import annotations

import os
import random
import signal
import sys
from pathlib import Path

from .house import TRAINING, House
from .trial import Fault, Outcome, SkippedError, command, ended, require

WAYS = {
    "stdout closed": ">&-", "stderr closed": "2>&-", "both closed": ">&- 2>&-", "all closed": "<&- >&- 2>&-",
    "stdout full": ">/dev/full", "both full": ">/dev/full 2>&1", "stdout unread": "| true", "both unread": "2>&1 | true",
}  # fmt: skip
BASH = "/bin/bash"


def through_a_shell(house: House, redirection: str, *arguments: str | Path) -> Outcome:
    """Run the command line as a shell does with such a redirection; the status is the command's, not the pipe's."""
    order = f'"$@" {redirection}; exit ${{PIPESTATUS[0]}}'
    become = f"import os, sys; os.execv({BASH!r}, [{BASH!r}, '-c', {order!r}, {BASH!r}, *sys.argv[1:]])"
    return ended(command("-c", become, sys.executable, "-m", "minunet", *arguments, cache=house.cache))


def streams(house: House, room: Path, rng: random.Random) -> int:
    """Predict or train with such streams: what is written is whole, and the end is orderly."""
    if not (os.path.exists(BASH) and os.path.exists("/dev/full")):
        raise SkippedError("no bash, or no /dev/full, here")
    name = rng.choice(sorted(WAYS))
    output = room / "out"
    if rng.random() < 0.7:
        outcome = through_a_shell(house, WAYS[name], "predict", house.model, house.images, "-o", output)
        house.require_predictions(output, all_of_them=outcome.status == 0)
    else:
        path = room / "model.safetensors"
        outcome = through_a_shell(house, WAYS[name], "train", house.images, house.masks, "-o", path, *TRAINING)
        require(outcome.status != 0 or path.exists(), f"{name}: it told of no failure, and there is no model")
    allowed = (0, 1, 120, 128 + signal.SIGPIPE)  # 120: Python could not flush what was said at its end
    require(outcome.status in allowed, f"{name}: exit status {outcome.status}: {outcome.told}")
    require("Traceback" not in outcome.err, f"{name}: a traceback: {outcome.told}")
    return 1


FAULTS = (Fault("streams", "stdout or stderr closed, full, or unread", streams),)
