"""Moments of a training that can be named and counted: the n-th call of a Python function the k-th time that it is in a stage.

A signal is taken there, as anywhere where Python looks for one; by the clock, the short stages would hardly ever be met.
"""

from __future__ import annotations

import functools
import hashlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minunet import fitting
from minunet.cli import train
from minunet.training import keeper, loop


class Callback:
    """One of a user's own, which takes some time."""

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        for _ in range(20):
            self.look(logs)

    def look(self, logs: dict[str, float]) -> None:
        assert logs["loss"] > 0


STAGES: dict[str, tuple[Any, str]] = {
    "reading": (train, "_read"), "preparing": (fitting, "prepare"), "step": (loop, "step"),
    "validation": (fitting, "validate"), "end of an epoch": (loop.Loop, "_commit"), "callback": (Callback, "on_epoch_end"),
    "checkpoint": (keeper.Keeper, "write"), "saving": (train, "keep"), "judging": (train, "judge"),
    "report": (train, "write_report"),
}  # fmt: skip
BEFORE = ("reading", "preparing")  # the training proper


@dataclass
class Stage:
    """How often a training is in it, and how many calls it takes the last of the first two times; counting takes long."""

    times: int = 0
    calls: int = 0

    def entered(self) -> Callable[[], object] | None:
        self.times += 1
        if self.times > 2:
            return None
        self.calls = 0
        return self._count

    def _count(self) -> None:
        self.calls += 1


class Count:
    """Counts the calls within every stage, and keeps a hash of the weights after each step."""

    def __init__(self) -> None:
        self.stages = {stage: Stage() for stage in STAGES}
        self.weights: list[str] = []
        self.seconds: list[float] = []
        for name, stage in self.stages.items():
            _within(name, stage.entered, int)
        loop.step = functools.partial(self._step, loop.step)  # type: ignore[assignment]

    def _step(self, whole: Callable[..., Any], network: Any, *args: Any, **options: Any) -> Any:
        start = time.perf_counter()
        result = whole(network, *args, **options)
        self.seconds.append(time.perf_counter() - start)
        self.weights.append(digest(network))
        return result


@dataclass(frozen=True)
class Moment:
    """The call of a function the n-th time that a training is in a stage; both count from 1."""

    stage: str
    time: int
    call: int


class Press:
    """Sends this process a signal at a moment (its last, if there are not so many calls), and once more `gap` seconds later."""

    def __init__(self, number: int, moment: Moment, gap: float | None, told: Path) -> None:
        """gap : None for no second one. told : a file for the time when it was sent."""
        self._number, self._times, self._left, self._gap, self._told = number, moment.time, moment.call, gap, told
        self._over, self._lock = False, threading.Lock()
        take_all()
        _within(moment.stage, self._entered, self._leaves)

    def over(self) -> None:
        """Send no more."""
        with self._lock:
            self._over = True

    def _entered(self) -> Callable[[], object] | None:
        self._times -= 1
        return self._count if self._times == 0 else None

    def _leaves(self) -> None:
        if self._times == 0 and self._left > 0:
            self._left = 1
            self._count()

    def _count(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._told.write_text(str(time.monotonic()))
            if self._gap is not None:
                threading.Thread(target=self._again, daemon=True).start()
            os.kill(os.getpid(), self._number)

    def _again(self) -> None:
        time.sleep(self._gap or 0)
        with self._lock:
            if not self._over:
                os.kill(os.getpid(), self._number)


def take_all() -> None:
    """Take signals as a program in the foreground does: one in the background ignores Ctrl-C, and so do its children."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def digest(network: Any) -> str:
    return hashlib.sha256(network.flat.tobytes()).hexdigest()[:16]


def _within(stage: str, entered: Callable[[], Callable[[], object] | None], leaves: Callable[[], object]) -> None:
    """Call `entered` where a stage begins, what that returns at each call of a Python function in it, and `leaves` at its end."""
    owner, name = STAGES[stage]
    whole = getattr(owner, name)

    @functools.wraps(whole)
    def watched(*args: Any, **options: Any) -> Any:
        called = entered()
        if called:
            sys.setprofile(lambda frame, event, argument: called() if event == "call" else None)
        try:
            result = whole(*args, **options)
        finally:
            sys.setprofile(None)
        leaves()
        return result

    setattr(owner, name, watched)
