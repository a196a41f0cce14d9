"""Around each case: the time, the memory and what came out on stderr; a hang becomes an exception that nothing swallows."""

from __future__ import annotations

import faulthandler
import os
import resource
import signal
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from fuzz.judge import Broken

COMPILING = "minunet: compiling its kernels"  # what is said at first use, and rightly
HANG = 40  # seconds of a clock on the wall, beyond what a case may take of the processor: which others may have meanwhile
ADDRESSES = 2**32  # bytes that may be asked for beyond what a started process has


class Hang(BaseException):
    """Raised where a case does not end. No Exception: what is fuzzed may catch those."""


def _hang(*_: Any) -> None:
    raise Hang("it does not end")


def fence() -> None:
    """Limit this process: what takes gigabytes is a MemoryError, files that are not closed run out, nothing dumps a core."""
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if sys.platform == "linux" else 0
    if pages:
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ADDRESSES, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


class Watch:
    """Watches cases of one target. After each, `seconds` and `memory` tell what it took."""

    def __init__(self, target: ModuleType, errors: Path) -> None:
        self.target, self.seconds, self.memory = target, 0.0, 0
        self._errors = os.open(errors, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        os.dup2(self._errors, 2)  # C's too
        faulthandler.enable()
        faulthandler.register(signal.SIGUSR1, all_threads=True, chain=False)
        warnings.simplefilter("always")
        signal.signal(signal.SIGALRM, _hang)
        self._said, self._most = 0, 0

    def forget(self) -> None:
        """Take memory and stderr as they are now for what was before."""
        sys.stderr.flush()
        self._said, self._most = os.fstat(self._errors).st_size, _peak()

    @contextmanager
    def case(self) -> Iterator[None]:
        """Watch what runs inside: Broken where it takes too long or too much, or prints."""
        started = time.process_time()
        signal.setitimer(signal.ITIMER_REAL, self.target.SECONDS + HANG)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            self.seconds = time.process_time() - started
            self.memory = _peak() - self._most
            said = self._new_words()
        if said:
            raise Broken("nothing is printed on stderr", said[-300:])
        if self.seconds > self.target.SECONDS:
            raise Broken(f"it takes at most {self.target.SECONDS} s of the processor", round(self.seconds, 1))
        if self.memory > self.target.MEMORY:
            self._most += self.memory
            raise Broken(f"it takes at most {self.target.MEMORY >> 20} MiB", self.memory >> 20)

    def _new_words(self) -> str:
        sys.stderr.flush()
        size = os.fstat(self._errors).st_size
        said = os.pread(self._errors, size - self._said, self._said).decode(errors="replace") if size > self._said else ""
        self._said = size
        return "".join(line for line in said.splitlines(keepends=True) if not line.startswith(COMPILING))


def _peak() -> int:
    """Return the most memory, in bytes, that this process has had; not its parent's, which Linux's ru_maxrss counts too."""
    try:
        status = Path("/proc/self/status").read_text()
        return 1024 * int(status.split("VmHWM:")[1].split()[0])
    except (OSError, IndexError):
        scale = 1 if sys.platform == "darwin" else 1024
        return scale * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
