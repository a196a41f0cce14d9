"""What a fault is, and the children that it is tried on."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 120.0  # seconds until a child counts as hung
UNEXPECTED = 70  # the exit status of a forked child that raised what it was not to raise


class BrokenError(Exception):
    """Raised where a fault broke something: a sentence that says what."""


class SkippedError(Exception):
    """Raised where a fault cannot be tried here: the reason."""


@dataclass(frozen=True)
class Fault:
    """A trial (house, room, rng) -> how many moments, calls or limits it tried; BrokenError at the first that broke."""

    name: str
    what: str
    trial: Callable[..., int]


@dataclass(frozen=True)
class Outcome:
    """How a child ended: its exit status, negative for a signal, and what it said."""

    status: int
    out: str
    err: str

    @property
    def told(self) -> str:
        """Return the last lines of what it said, to be quoted."""
        return " | ".join((self.out + self.err).strip().splitlines()[-4:])[-400:]


def require(true: Any, what: str) -> None:
    """Raise BrokenError unless it is true."""
    if not true:
        raise BrokenError(what)


def orderly(outcome: Outcome, *allowed: int) -> None:
    """Require one of these exit statuses, and no traceback; what failed is told in a sentence."""
    require(outcome.status in allowed, f"exit status {outcome.status}, not {allowed}: {outcome.told}")
    require("Traceback" not in outcome.err, f"a traceback: {outcome.told}")
    if outcome.status == 1:
        require("minunet: " in outcome.err, f"no sentence: {outcome.told!r}")


def forked(work: Callable[[], int | None], *, kill_after: float | None = None) -> Outcome:
    """Run `work` in a fork of this process, whose kernels are loaded; kill it after so many seconds, if it is to be.

    It speaks into pipes, which no limit on files stops, and which hold what a child of ours says (64 KB).
    """
    if not hasattr(os, "fork"):
        raise SkippedError("no fork here")
    pipes = [os.pipe() for _ in range(2)]
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        _child(work, [write for _, write in pipes])
    for _, write in pipes:
        os.close(write)
    try:
        status = _wait(pid, kill_after)
        said = [os.read(read, 1 << 16).decode(errors="replace") for read, _ in pipes]
    finally:
        for read, _ in pipes:
            os.close(read)
    return Outcome(status, *said)


def _child(work: Callable[[], int | None], outputs: list[int]) -> None:
    """Run the work and end, whatever comes, without a way back into the parent's code."""
    status = UNEXPECTED
    try:
        for number, write in enumerate(outputs, 1):
            os.dup2(write, number)
            os.close(write)
        status = work() or 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        with contextlib.suppress(BaseException):
            traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _wait(pid: int, kill_after: float | None) -> int:
    """Return how the child ended; kill it when its time has come, and call it hung where nobody meant to."""
    end = time.monotonic() + (PATIENCE if kill_after is None else kill_after)
    pause = 0.0005
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(min(pause, max(0.0, end - time.monotonic())))
        pause = min(pause * 1.5, 0.02)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    require(kill_after is not None, f"hung for {PATIENCE:.0f} s")
    return os.waitstatus_to_exitcode(status)


def command(*arguments: str | Path, cache: Path, **options: Any) -> subprocess.Popen[str]:
    """Start Python with these arguments in a process of its own, as a user would."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("NUMBA_", "MINUNET_"))}
    environment = kept | {"PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": str(cache), "PYTHONUNBUFFERED": "1"}
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL} | options
    return subprocess.Popen([sys.executable, *map(str, arguments)], text=True, env=environment, cwd=ROOT, **options)


def ended(process: subprocess.Popen[str]) -> Outcome:
    """Wait for a process of `command`."""
    try:
        out, err = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired as error:
        process.kill()
        process.communicate()
        raise BrokenError(f"hung for {PATIENCE:.0f} s") from error
    return Outcome(process.returncode, out or "", err or "")
