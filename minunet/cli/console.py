"""What the commands say: no name of a file can command the terminal, and no reader that goes away stops the work."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TextIO, cast

from ..text import printable


def complain(text: object) -> None:
    """Say on stderr what went wrong, or is odd."""
    print(f"minunet: {printable(text)}", file=sys.stderr, flush=True)


def told(error: BaseException) -> str:
    """Return an error in a sentence: of the system's, which file and why."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    return str(error) or ("there is not enough memory" if isinstance(error, MemoryError) else type(error).__name__)


class Stream:
    """A stream to print to: what it does not take any more is left out, and `failure` tells why."""

    def __init__(self, stream: TextIO, *, escape: bool) -> None:
        self._stream, self._escape = stream, escape
        self.failure: OSError | None = None

    def write(self, text: str) -> int:
        if self._escape and not text.isprintable():
            text = "".join(c if c in "\n\t" else printable(c) for c in text)
        try:
            try:
                self._stream.write(text)
            except UnicodeEncodeError:
                encoding = self._stream.encoding
                self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        except OSError as error:
            self.failure = self.failure or error
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self.failure = self.failure or error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def close_if_broken(self) -> None:
        """Lead what Python still holds for a stream that takes nothing to nowhere: it would complain of it at its end."""
        self.flush()
        if self.failure:
            with contextlib.suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._stream.fileno())
                os.close(nowhere)


class _Nowhere(io.TextIOBase):
    """In the place of a stream that the program was started without."""

    def write(self, text: str) -> int:
        return len(text)


def _quiet(hook: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a hook that tells no Ctrl-C which arrived where nothing can be raised: the command ends by what was noted of it."""
    return lambda found: None if issubclass(found.exc_type, KeyboardInterrupt) else hook(found)


@contextlib.contextmanager
def guarded() -> Iterator[Stream]:
    """A `with` block of the command line: stdout and stderr are `Stream`s. Give that of stdout."""
    with contextlib.ExitStack() as stack:
        nowhere = cast(TextIO, _Nowhere())
        out, err = Stream(sys.stdout or nowhere, escape=True), Stream(sys.stderr or nowhere, escape=False)
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
