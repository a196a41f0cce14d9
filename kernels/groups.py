"""Linux's control groups: the folders that tell what this process may use, and what the groups around its own may."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def folders(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of the groups that this process is in, up to those that are mounted: of both versions.

    root : where /proc and /sys are looked for; controller : "cpu" or "memory". OSError or ValueError where the system does not
    tell. A group has no more than those that it lies in.
    """
    inside: dict[str, str] = {}  # by what controls: nothing is said of version 2
    for line in read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        inside |= dict.fromkeys(controllers.split(","), path)
    for line in read(root / "proc/self/mountinfo").splitlines():
        mount, _, kind = line.partition(" - ")
        source, place = (_unescaped(field) for field in mount.split()[3:5])
        system, _, options = kind.split()[:3]
        name = {"cgroup2": "", "cgroup": controller}.get(system)
        if name not in inside or (name and name not in options.split(",")):
            continue
        top = root / place.lstrip("/")
        group = PurePosixPath(inside[name])
        below = group.relative_to(source) if group.is_relative_to(source) and ".." not in group.parts else PurePosixPath()
        yield from (top / part for part in (below, *below.parents))  # the top itself is "."


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="surrogateescape")


def _unescaped(path: str) -> str:
    """Return a path as mountinfo means it: blanks and the like are octal there."""
    return re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), path)
