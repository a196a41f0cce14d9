"""What a worker has done so far, in memory that outlives it: whoever dies of a signal can no longer tell in which case."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import Any

FIELDS = ("case", "executions", "refused", "accepted", "longest", "longest_case", "memory", "memory_case", "ready")
_FORMAT = struct.Struct(f"={len(FIELDS)}d")


class State:
    """Numbers by name, in a file that is shared. `case` is the one that runs, counted from 0; `ready` is 1 after the start."""

    def __init__(self, path: Path, *, fresh: bool = False) -> None:
        if fresh:
            path.write_bytes(bytes(_FORMAT.size))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _FORMAT.size)

    def read(self) -> dict[str, Any]:
        return dict(zip(FIELDS, _FORMAT.unpack(self._map[:]), strict=True))

    def write(self, **numbers: float) -> None:
        for name, number in numbers.items():
            struct.pack_into("=d", self._map, 8 * FIELDS.index(name), number)
