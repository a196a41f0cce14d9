"""A terminal to print to, and what a person sees on it afterwards."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
from collections.abc import Iterator
from unittest import mock

MOVES = re.compile(r"\r|\n|\x1b\[A|[^\r\n\x1b]+")


class Pieces:
    """A stream that is none of a terminal: what was written to it, and None where it was flushed."""

    def __init__(self) -> None:
        self.pieces: list[str | None] = []

    def write(self, text: str) -> None:
        self.pieces.append(text)

    def flush(self) -> None:
        self.pieces.append(None)

    @property
    def lines(self) -> list[str]:
        """The lines; each was written in one piece, and flushed."""
        pieces = [piece for piece in self.pieces if piece != ""]  # of print, whose end is that
        assert all(piece.endswith("\n") for piece in pieces if piece is not None), pieces
        assert all(following is None for piece, following in zip(pieces, [*pieces[1:], None], strict=True) if piece), pieces
        text = "".join(filter(None, pieces))
        assert not set(text) & set("\r\x1b\b")
        return text.splitlines()


class Terminal:
    """What was printed to a pseudo-terminal."""

    def __init__(self) -> None:
        self.raw = b""

    @property
    def lines(self) -> list[str]:
        """The lines on its screen: what is printed over something else replaces that."""
        text = self.raw.decode().replace("\r\n", "\n")
        found, row, column = [""], 0, 0
        assert "".join(MOVES.findall(text)) == text, "no other escape sequence is printed"
        for piece in MOVES.findall(text):
            if piece == "\r":
                column = 0
            elif piece == "\n":
                row, column = row + 1, 0
                found += [""] * (row == len(found))
            elif piece == "\x1b[A":
                row -= 1
            else:
                found[row] = found[row][:column].ljust(column) + piece + found[row][column + len(piece) :]
                column += len(piece)
        return [line.rstrip() for line in found]


@contextlib.contextmanager
def terminal(*, columns: int = 200) -> Iterator[Terminal]:
    """A `with` block in which stdout and stderr are a terminal."""
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    found = Terminal()

    def read() -> None:
        with contextlib.suppress(OSError):  # it ends when nobody has the other side open any more
            while data := os.read(ours, 2**16):
                found.raw += data

    reader = threading.Thread(target=read)
    reader.start()
    with open(theirs, "w", encoding="utf-8") as out, open(os.dup(theirs), "w", encoding="utf-8", buffering=1) as err:
        out.reconfigure(line_buffering=True)
        try:
            with mock.patch.object(sys, "stdout", out), mock.patch.object(sys, "stderr", err):
                yield found
        finally:
            out.flush(), err.flush()
    reader.join()
    os.close(ours)
