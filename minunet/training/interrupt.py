"""Ctrl-C in training: finish the step, then stop with a usable model."""

from __future__ import annotations

import signal
import threading
from types import FrameType


class StopOnInterrupt:
    """A `with` block in which the first Ctrl-C only sets `requested`; the second one raises KeyboardInterrupt.

    Only the main thread receives signals; elsewhere this does nothing.
    """

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> StopOnInterrupt:
        self._in_main_thread = threading.current_thread() is threading.main_thread()
        if self._in_main_thread:
            self._previous = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        if self._in_main_thread:
            signal.signal(signal.SIGINT, self._previous or signal.SIG_DFL)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
