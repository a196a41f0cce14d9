"""What a command will write: what cannot be written, or would replace something, is refused before any work."""

from __future__ import annotations

import argparse
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from .. import files
from ..data.images import is_image

PathLike = str | os.PathLike[str]


def require_free(paths: Iterable[Path], force: bool) -> None:
    """Refuse to replace what is there: a link is, wherever it leads. What is neither a file nor a link, nothing replaces."""
    for path in paths:
        if not files.taken(path):
            continue
        kind = os.lstat(path).st_mode
        if not stat.S_ISREG(kind) and not stat.S_ISLNK(kind):
            what = "a folder" if stat.S_ISDIR(kind) else "no ordinary file"
            raise FileExistsError(f"{path} is {what}, which is not replaced; give another name")
        if not force:
            raise FileExistsError(f"{path} is there already; --force replaces it")


def named(path: Path, force: bool) -> PathLike:
    """Return how to write to a file that the user named: through a link, as open() would, if it may be replaced."""
    return path if force else files.Output(path)


def is_same(a: PathLike, b: PathLike) -> bool:
    """Return whether two paths lead to one file, or would."""
    try:
        return os.path.samefile(a, b)
    except OSError:
        return os.path.realpath(a) == os.path.realpath(b)


def require_unread(parser: argparse.ArgumentParser, flag: str, path: Path, given: Iterable[Path]) -> None:
    """Refuse, as wrong use, to replace what is read, whatever it is called there: one of these files, or an image in a folder."""
    for one in given:
        inside = [file for file in sorted(one.iterdir()) if is_image(file)] if one.is_dir() and files.taken(path) else []
        for read in (one, *inside):
            if is_same(path, read):
                parser.error(f"{flag} {path} is {read}, which is read")


def make_folder(path: Path) -> None:
    """Make a folder that the user named, where it is missing."""
    if not path.is_dir() and os.path.lexists(path):
        kind = f"a link to {os.readlink(path)}, which is not there" if path.is_symlink() and not path.exists() else "a file"
        raise NotADirectoryError(f"{path} is {kind}; a folder is taken here, and made where it is missing")
    path.mkdir(parents=True, exist_ok=True)
