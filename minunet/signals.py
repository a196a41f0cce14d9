"""The signals that ask a program to end, as the command line takes them: each ends it with its own exit code."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

Handler = Callable[[int, FrameType | None], Any]

_current: Signals | None = None


class Terminated(KeyboardInterrupt):
    """Raised by the command line's handlers: another signal than Ctrl-C asked the program to end."""


class Signals:
    """A `with` block of the command line, in which SIGINT, SIGTERM and SIGHUP raise what unwinds it; what was ignored stays so.

    From the start, and from `hold` on, they are only remembered, until `release`; so is the third and whatever follows.
    `number` is the first that came.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.holding, self._pending = True, False
        self._raised = 0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        global _current
        self._outer, _current = _current, self
        if self._outer is not None and self._outer.holding:  # what came before this is for this
            self.number, self._pending = self._outer.number, self._outer._pending
        if threading.current_thread() is threading.main_thread():
            install(self._handle, ENDING, self._previous)
        return self

    def __exit__(self, *error: object) -> None:
        global _current
        restore(self._previous)
        _current = self._outer

    @property
    def exit_code(self) -> int:
        """What a shell reports of a program that a signal ended; 130, Ctrl-C's, where none was seen."""
        return 128 + (self.number or signal.SIGINT)

    def note(self, number: int) -> None:
        self.number = self.number or number

    def hold(self) -> None:
        """From here on nothing is raised."""
        self.holding = True

    def release(self) -> None:
        """Raise again: at once, if one came meanwhile."""
        self.holding = False
        if self._pending:
            self._raise()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.note(number)
        self._pending = True
        if not self.holding:
            self._raise()

    def _raise(self) -> None:
        self._raised += 1
        self.holding = self._raised > 1  # a third within microseconds would cut into what takes the second
        raise KeyboardInterrupt if self.number == signal.SIGINT else Terminated


@contextlib.contextmanager
def held() -> Iterator[None]:
    """A `with` block, as short as writing a file, that the command line's signals do not cut into; they are raised after it."""
    signals = _current
    if signals is None or signals.holding:
        yield
        return
    signals.hold()
    try:
        yield
    except BaseException:  # which tells more than a signal
        signals.holding = False
        raise
    signals.release()


def of_command_line() -> Signals | None:
    """Return the command line's signals; None where Python is used without it."""
    return _current


def install(handler: Handler, numbers: tuple[int, ...], previous: dict[int, Any]) -> None:
    """Handle these signals, but for those that are ignored (nohup, a job in the background) or not Python's; keep what was."""
    for number in numbers:
        before = signal.getsignal(number)
        if before not in (signal.SIG_IGN, None):
            previous[number] = before
            signal.signal(number, handler)


def restore(previous: dict[int, Any]) -> None:
    while previous:
        number, before = next(iter(previous.items()))
        signal.signal(number, before)
        del previous[number]  # afterwards: what cuts in between loses none
