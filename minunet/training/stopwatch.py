"""How long a training has taken."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator


class Stopwatch:
    """The seconds that it is given and those since it was made, but for pauses. They never go back, whatever the clock does."""

    def __init__(self, seconds: float = 0.0) -> None:
        self._seconds = seconds
        self._last = time.perf_counter()

    def read(self) -> float:
        """Return the seconds."""
        now = time.perf_counter()
        self._seconds += max(0.0, now - self._last)
        self._last = now
        return self._seconds

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Let the time that a block takes not count."""
        self.read()
        try:
            yield
        finally:
            self._last = time.perf_counter()
