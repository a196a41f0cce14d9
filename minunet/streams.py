"""Streams to print to, whatever stands in their place: a log that only takes text, a pipe that nobody reads, nothing at all."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from typing import Any, TextIO

from .text import printable


class Stream:
    """A stream to print to: what it does not take is left out, and `failure` tells why. Only `write` is asked of it.

    Letters that its encoding has not are written as escapes. escape : so is whatever could command a terminal.
    """

    def __init__(self, stream: TextIO | None, *, escape: bool = False) -> None:
        self._stream: Any = _Nowhere() if stream is None else stream  # a program without a console is started without
        self._escape = escape
        self.failure: OSError | None = None
        self.n_written = 0  # times

    def write(self, text: str) -> int:
        self.n_written += 1
        if self._escape and not text.isprintable():
            text = "".join(c if c in "\n\t" else printable(c) for c in text)
        try:
            try:
                self._stream.write(text)
            except UnicodeEncodeError:
                encoding = getattr(self._stream, "encoding", None) or "ascii"
                self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        except Exception as error:  # what a window's log raises when it was closed is any of a dozen types
            self._fail(error)
        return len(text)

    def flush(self) -> None:
        try:
            getattr(self._stream, "flush", lambda: None)()
        except Exception as error:
            self._fail(error)

    def isatty(self) -> bool:
        """Tell whether it is a terminal; what cannot say so is none."""
        try:
            return bool(self._stream.isatty())
        except Exception:
            return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def close_if_broken(self) -> None:
        """Lead what Python still holds for a stream that takes nothing to nowhere: it would complain of it at its end."""
        self.flush()
        if self.failure:
            with contextlib.suppress(OSError, ValueError, AttributeError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._stream.fileno())
                os.close(nowhere)

    def _fail(self, error: Exception) -> None:
        self.failure = self.failure or (error if isinstance(error, OSError) else OSError(errno.EIO, str(error)))


def stderr() -> Stream:
    """Return the stderr of this moment, as a stream that stops no work."""
    return Stream(sys.stderr)


class _Nowhere(io.TextIOBase):
    def write(self, text: str) -> int:
        return len(text)
