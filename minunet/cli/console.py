"""What the commands say: no name of a file can command the terminal, and no reader that goes away stops the work."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from ..streams import Stream
from ..text import printable


def complain(text: object) -> None:
    """Say on stderr what went wrong, or is odd."""
    print(f"minunet: {printable(text)}\n", end="", file=sys.stderr, flush=True)  # in one piece: others may write there, too


_insisted: list[Any] = []  # a text, and how much had been said when it was


def insist(text: object) -> None:
    """Complain of what nobody may miss: if more is said after it, it is said again, as the last line of a command that failed."""
    complain(text)
    _insisted[:] = text, _n_said()


def insisted() -> bool:
    """Return whether the command has failed by that; it is the last line now."""
    if _insisted and _n_said() != _insisted[1]:
        complain(_insisted[0])
    return bool(_insisted)


def _n_said() -> int:
    return sum(getattr(stream, "n_written", 0) for stream in (sys.stdout, sys.stderr))


def told(error: BaseException) -> str:
    """Return an error in a sentence: of the system's, which file and why."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    if isinstance(error, FileNotFoundError) and error.strerror and _is_homeless():
        return "the current folder is not there any more: change to one that is, or give whole paths"
    return str(error) or ("there is not enough memory" if isinstance(error, MemoryError) else type(error).__name__)


def _is_homeless() -> bool:
    try:
        os.getcwd()
    except OSError:
        return True
    return False


def _quiet(hook: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a hook that tells no Ctrl-C which arrived where nothing can be raised: the command ends by what was noted of it."""
    return lambda found: None if issubclass(found.exc_type, KeyboardInterrupt) else hook(found)


@contextlib.contextmanager
def guarded() -> Iterator[Stream]:
    """A `with` block of the command line: stdout and stderr are `Stream`s. Give that of stdout."""
    _insisted.clear()
    with contextlib.ExitStack() as stack:
        out, err = Stream(sys.stdout, escape=True), Stream(sys.stderr)
        stack.enter_context(contextlib.redirect_stdout(out))  # type: ignore[type-var]
        stack.enter_context(contextlib.redirect_stderr(err))  # type: ignore[type-var]
        stack.callback(setattr, sys, "unraisablehook", sys.unraisablehook)
        sys.unraisablehook = _quiet(sys.unraisablehook)
        stack.callback(setattr, warnings, "formatwarning", warnings.formatwarning)
        warnings.formatwarning = lambda message, *_: f"minunet: warning: {printable(message)}\n"
        try:
            yield out
        finally:
            out.close_if_broken()
            err.close_if_broken()


def lost(out: Stream) -> str | None:
    """Return why something that was printed is nowhere; a reader that wants no more, as `head`, lost nothing."""
    out.flush()
    failure = out.failure
    return None if failure is None or failure.errno == errno.EPIPE else f"stdout could not be written: {failure.strerror}"


def fill_standard_descriptors() -> None:
    """Open what of 0, 1 and 2 is closed: else a file of ours gets the number, and whoever prints prints into it."""
    with contextlib.suppress(OSError):
        while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
            pass
        os.close(descriptor)
