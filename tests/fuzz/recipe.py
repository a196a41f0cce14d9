"""A hostile file is a recipe: a name that says what is wrong with it, a few lines that make it, and what is to become of it."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

# What is to become of a file. Of some it may be either: readers differ, and what is read is no lie.
REFUSED, SAME = "is refused", "shows what the sound one shows"
EITHER, HARMLESS = "is refused, or shows what the sound one shows", "is refused, or read without harm"


class Recipe(NamedTuple):
    """`put` makes the file at a path. `kind` is "model" or "image", `ending` the name's; `place`: it is no file to look into."""

    kind: str
    name: str
    put: Callable[[Path], object]
    becomes: str = REFUSED
    ending: str = ""
    place: bool = False


def content(make: Callable[[], bytes]) -> Callable[[Path], object]:
    """Return what writes the bytes that `make` gives."""
    return lambda path: path.write_bytes(make())


def places(kind: str, ending: str) -> list[Recipe]:
    """Return what may stand where a file is expected."""

    def listening(path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(os.path.relpath(path))

    found: dict[str, Callable[[Path], object]] = {
        "nothing": lambda path: None,
        "folder": lambda path: path.mkdir(),
        "pipe that nobody writes to": lambda path: os.mkfifo(path),
        "socket": listening,
        "link to itself": lambda path: path.symlink_to(path.name),
        "link to nothing": lambda path: path.symlink_to("nowhere"),
        "link to zeros without end": lambda path: path.symlink_to("/dev/zero"),
        "link to nothing at all": lambda path: path.symlink_to("/dev/null"),
        "file as a folder": lambda path: None,
    }
    return [Recipe(kind, f"place: {name}", put, ending=ending, place=True) for name, put in found.items()]
