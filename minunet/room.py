"""How much memory this process may still take, and what says so: the machine, its control groups, `ulimit`; or a GPU.

Each limit leaves two numbers. `room` is what can be had at most, when all that is not this process's has been given back: whoever
wants more fails, or is killed. `free` is what can be had at this moment without taking it from others, or from the disk.

* Of the machine, with its swap, there is room for all but what this process has itself: other programs can end or be swapped out.
* Of a group all that is taken in it counts, since a container, or a job of a cluster, is one's own; but not what the system keeps
  there of files, and drops when asked. Swap is room where the group, and each around it, may have some. Above `memory.high` a
  group is slowed down, and not killed: that says what is free, and no more.
* `ulimit -v` counts addresses, `ulimit -d` what could be written: both grow at least as memory does.
* Of a GPU what is free counts alone: it has no swap, and what others hold there they keep.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from . import devices
from .kernels.groups import folders, read

INFINITE = float("inf")
GROUP = "the container (cgroup)"
_SHELL = {"Max address space": ("`ulimit -v`", 0), "Max data size": ("`ulimit -d`", 5)}  # and what of statm counts


class Limit(NamedTuple):
    """What sets a limit, by a name for people; how many bytes it is, if that is known; and how many of them are left."""

    whose: str
    has: float | None
    room: float
    free: float

    @property
    def told_room(self) -> str:
        """What it leaves at most, for people."""
        return self.told_free if self.has is None else f"{self.whose} leaves {size_text(self.room)} of {size_text(self.has)}"

    @property
    def told_free(self) -> str:
        """What it leaves now, for people."""
        return f"{self.whose} has {size_text(self.free)} free"


def tightest(place: str = "cpu", root: Path = Path("/")) -> Limit:
    """Return the limit that leaves the least room at this place. root : where /proc and /sys are looked for."""
    return min(_limits(place, root), key=lambda limit: limit.room)


def scarcest(place: str = "cpu", root: Path = Path("/")) -> Limit:
    """Return the limit that has the least free at this place, never less than nothing."""
    limit = min(_limits(place, root), key=lambda limit: limit.free)
    return limit._replace(free=max(limit.free, 0))


def size_text(n_bytes: float) -> str:
    """Return bytes for people to read: 1.46 GB, 59 MB."""
    n_bytes = max(n_bytes, 0)
    return f"{n_bytes / 2**30:.2f} GB" if n_bytes >= 2**30 else f"{n_bytes / 2**20:.0f} MB"


def _limits(place: str, root: Path) -> list[Limit]:
    """Return all limits that are known. It never raises for what a system does not tell."""
    if place != "cpu":
        free = devices.free_bytes(place)
        return [Limit(place, None, free, free)]
    statm = [int(word) * _PAGE for word in _text(root / "proc/self/statm").split() if word.isdecimal()]
    statm = statm if len(statm) == 7 else []
    machine = {name: 1024 * value for name, value in _numbers(root / "proc/meminfo").items()}
    swap = machine.get("SwapFree", 0)
    return [*_of_machine(machine, statm), *_of_groups(root, swap), *_of_shell(root, statm)]


def _of_machine(told: dict[str, int], statm: list[int]) -> Iterator[Limit]:
    """Yield the limits of memory with its swap, and of what is free. Where nothing tells of that, half of what is built in is."""
    own = max(statm[1] - statm[2], 0) if statm else 0  # resident, less what are files' pages
    if "MemTotal" in told:
        has = told["MemTotal"] + told.get("SwapTotal", 0)
        yield Limit(f"this machine{' with its swap' if told.get('SwapTotal') else ''}", has, has - own, INFINITE)
    try:
        half = _PAGE * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, OSError, ValueError):
        half = 2**32
    yield Limit("this machine", told.get("MemTotal"), INFINITE, told.get("MemAvailable", half))


def _of_groups(root: Path, swap: float) -> list[Limit]:
    try:
        groups = list(folders(root, "memory"))
    except (OSError, ValueError):  # another system, or one that does not tell
        return []
    for group in groups:
        swap = min(swap, _number(group / "memory.swap.max") - (_number(group / "memory.swap.current", 0)))
    return [limit for group in groups for limit in _of_group(group, max(swap, 0)) if limit.has != INFINITE]


def _of_group(group: Path, swap: float) -> Iterator[Limit]:
    """Yield a group's limits, of either version; those that are none are infinite."""
    told = _numbers(group / "memory.stat")
    files = [told.get(f"total_{kind}_file", told.get(f"{kind}_file", 0)) for kind in ("inactive", "active")]
    for limit, used, more in (
        ("memory.max", "memory.current", swap), ("memory.limit_in_bytes", "memory.usage_in_bytes", swap),
        ("memory.memsw.limit_in_bytes", "memory.memsw.usage_in_bytes", 0),
    ):  # fmt: skip
        has, taken = _number(group / limit), _number(group / used, INFINITE)
        if taken != INFINITE:
            yield Limit(GROUP, has, has - taken + sum(files) + more, has - taken + files[0])
    high, taken = _number(group / "memory.high"), _number(group / "memory.current", 0)
    yield Limit(GROUP, high, INFINITE, high - taken + files[0])


def _of_shell(root: Path, statm: list[int]) -> Iterator[Limit]:
    """Yield what `ulimit` says, where it is known how much of that is taken."""
    for line in _text(root / "proc/self/limits").splitlines() if statm else ():
        name, soft = line[:26].strip(), line[26:].split()[:1]
        if name in _SHELL and soft and soft[0].isdecimal():
            whose, counted = _SHELL[name]
            yield Limit(whose, has := int(soft[0]), left := has - statm[counted], left)


def _numbers(path: Path) -> dict[str, int]:
    """Return the numbers of a file of lines, each a name and a number, by name; of what is none, nothing."""
    lines = [line.split() for line in _text(path).splitlines()]
    return {line[0].rstrip(":"): int(line[1]) for line in lines if len(line) > 1 and line[1].isdecimal()}


def _number(path: Path, otherwise: float = INFINITE) -> float:
    """Return the number that a file holds; otherwise, where it holds none ("max"), or is not there."""
    text = _text(path).strip()
    return int(text) if text.isdecimal() else otherwise


def _text(path: Path) -> str:
    try:
        return read(path)
    except OSError:
        return ""


try:
    _PAGE = os.sysconf("SC_PAGE_SIZE")
except (AttributeError, OSError, ValueError):
    _PAGE = 4096
