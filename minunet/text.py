"""Text of strangers in messages: names of files, values and words from files. None of it is shown raw, or at length."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path
from reprlib import Repr
from typing import Any

MAX_SHOWN = 200  # characters of a file's path or of a value
MAX_LINE = 700
MAX_TOLD = 150  # of what a library or a file has to say

_repr = Repr()
_repr.maxlevel, _repr.maxstring, _repr.maxother, _repr.maxlong = 2, 60, 60, 60


def printable(text: object) -> str:
    """Return the text on one line, with escapes for whatever could move the cursor, change colours, or turn letters around."""
    whole = str(text)
    return whole if whole.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in whole)


def line(text: str, most: int = MAX_LINE) -> str:
    """Return text printable, and with its middle left out where it is long."""
    if len(text) > most:  # before escaping, for that takes time; and after, for that makes it longer
        text = f"{text[: most // 2]}...{text[-most // 2 :]}"
    text = printable(text)
    return text if len(text) <= most + 3 else f"{text[: most // 2]}...{text[-most // 2 :]}"


def short(value: Any) -> str:
    """Return how a value is written in Python, shortened: what it holds may be megabytes, or move the cursor."""
    return line(_repr.repr(value), MAX_SHOWN)


def told(text: object) -> str:
    """Return what a file or a library says for a message: its first line, shortened."""
    first = (str(text).strip().splitlines() or [""])[0][: MAX_TOLD + 1]
    return printable(first if len(first) <= MAX_TOLD else first[: MAX_TOLD - 3] + "...")


def shown(path: str | os.PathLike[str], *, whole: bool = False) -> str:
    """Return a file's name for a message, on one line; or its whole path, where that is not long."""
    if not whole:
        return printable(Path(path).name)
    given = os.fspath(path)
    return line(given if len(given) <= MAX_SHOWN else f".../{Path(given).name}", MAX_SHOWN)


def folded(name: str) -> str:
    """Return a name as file systems compare it that tell neither capitals nor the two ways to store an accent apart."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())
