"""A table of the epochs on disk, while it trains: a callback."""

from __future__ import annotations

import csv
import io
import math
import os
from pathlib import Path

from .. import files
from ..text import shown
from ..warn import warn

FIRST = ["epoch", "loss"]  # by these columns a file is known to be such a table


class CSVLog:
    """A callback for `fit` that writes each epoch's figures to a CSV file: a line an epoch, which counts from 1.

    The columns are those of the first epoch (docs/training-log.md); a figure that is not known is an empty cell. At the end of
    each epoch the file is replaced whole, so that whoever looks, or a kill, finds whole lines. With resume=True the lines of
    the epochs before are kept, and those that come again stand once.

    path : FileExistsError where there is a file that is no such table, unless `replace`; OSError where none could be written.
        A table from before is replaced when the first epoch of another training ends. What hinders writing later is told once,
        and tried again after the next epoch: it ends no training.
    """

    def __init__(self, path: str | os.PathLike[str], *, replace: bool = False) -> None:
        self.path = Path(os.path.abspath(path))  # the current folder may become another
        self._rows: list[dict[str, str]] = []
        self._replace, self._failed, self._read = replace, False, False
        files.require_writable(self.path)
        if not replace:
            self._table()

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Write the epoch, which counts from 0, beside those before it."""
        row = {"epoch": str(epoch + 1)} | {name: _cell(value) for name, value in logs.items()}
        self._rows = [*(old for old in self._rows if int(old["epoch"]) <= epoch), row]
        try:
            first = int(self._rows[0]["epoch"])
            if not (self._read or first == 1):
                self._rows[:0] = [old for old in self._table() if int(old["epoch"]) < first]
            self._read = True
            files.atomic_write(self.path, self._text().encode("utf-8", "backslashreplace"))
            self._failed = False
        except OSError as error:
            if not self._failed:
                warn(f"the table of the epochs was not written: {error}. The training goes on; it is tried again")
            self._failed = True

    def _text(self) -> str:
        out = io.StringIO()
        writer = csv.DictWriter(out, list(dict.fromkeys(name for row in self._rows for name in row)), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        return out.getvalue()

    def _table(self) -> list[dict[str, str]]:
        """Return the lines of the file that is there; none of an empty one."""
        if not files.taken(self.path):
            return []
        with files.open_regular(self.path) as file:
            reader = csv.DictReader(io.TextIOWrapper(file, "utf-8", "replace", newline=""))
            try:
                names = list(reader.fieldnames or [])
                rows = [row for row in reader if _is_epoch(row)] if names[:2] == FIRST else []
            except csv.Error:
                names, rows = ["no table"], []
        if names and names[:2] != FIRST and not self._replace:
            raise FileExistsError(
                f"{shown(self.path, whole=True)} is there already, and is no table of epochs; give another path, or "
                "CSVLog(path, replace=True) (--force)"
            )
        return rows


def _is_epoch(row: dict[str, str]) -> bool:
    number = row["epoch"] or ""
    return None not in row and number.isdecimal() and len(number) < 10


def _cell(value: float) -> str:
    return "" if math.isnan(value) else repr(value)
