"""How long a training has taken."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator


class Stopwatch:
    """Seconds since it was made, pauses left out. They never go back, whatever the system's clock does."""

    def __init__(self) -> None:
        self._seconds = 0.0
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
