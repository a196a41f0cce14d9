"""Ctrl-C in training: finish the step, then stop with a usable model."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType
from typing import Any

from .. import signals


class Cut(BaseException):
    """Raised by the first Ctrl-C where `cuts` says that it may: what is going on would take longer than a step."""


class StopOnInterrupt:
    """A `with` block in which the first Ctrl-C only sets `requested`, or raises Cut; another one raises KeyboardInterrupt.

    Where the command line runs, SIGTERM and SIGHUP set it too; and from here on it holds its signals, so that nothing cuts
    into saving the model, until it releases them. `ending` takes them elsewhere too, where nobody else does: they would end the
    program at once. `signal` is the one of these that came first. Only the main thread receives signals; elsewhere this does
    nothing.
    """

    def __init__(self, *, ending: bool = False) -> None:
        self.requested, self.cuts, self._raises = False, False, True
        self.signal: int | None = None
        self._owner = signals.of_command_line()
        self._ending = ending
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopOnInterrupt:
        self._frame: FrameType | None = sys._getframe(1)
        if threading.current_thread() is threading.main_thread():
            try:
                signals.install(self._handle, self._numbers(), self._previous)
                if self._owner:
                    self._owner.hold()
            except BaseException:
                signals.restore(self._previous)
                raise
        return self

    def _numbers(self) -> tuple[int, ...]:
        if self._owner:
            return signals.ENDING
        untaken = (n for n in signals.ENDING[1:] if self._ending and signal.getsignal(n) == signal.SIG_DFL)
        return signal.SIGINT, *untaken

    def __exit__(self, *error: object) -> None:
        self._raises = self.cuts = False
        signals.restore(self._previous)
        self._frame = None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self._is_within(frame):  # an exception from outside cut __exit__ short: nobody looks at `requested` any more
            signals.restore(self._previous)
            self._frame = None
            signal.raise_signal(number)
            return
        if self._owner:
            self._owner.note(number)
        elif number != signal.SIGINT:
            self.signal = self.signal or number
        if self.requested and self._raises and number == signal.SIGINT:
            self._raises = self._owner is None  # a program that is ending is not to be cut into once more
            raise KeyboardInterrupt
        self.requested = True
        if self.cuts:
            self.cuts = False
            raise Cut

    def _is_within(self, frame: FrameType | None) -> bool:
        while frame is not None and frame is not self._frame:
            frame = frame.f_back
        return frame is not None
