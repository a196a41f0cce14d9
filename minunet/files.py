"""Files: opened only where they are ordinary ones, and written whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from .text import shown
from .writing import Folder


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open an ordinary file for reading. Of anything else there is an OSError at once: a pipe would be waited for, for ever."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    descriptor = os.open(path, flags)
    try:
        mode = os.fstat(descriptor).st_mode  # of what was opened: the name may lead elsewhere by now
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(f"{shown(path, whole=True)} is a folder; a file is taken here")
        if not stat.S_ISREG(mode):
            kinds = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
            what = kinds.get(stat.S_IFMT(mode), "no ordinary file")
            raise OSError(f"{shown(path, whole=True)} is {what}; an ordinary file is taken here")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


@dataclass(frozen=True)
class Output(os.PathLike[str]):
    """A path that says how `atomic_write` is to write there: through no link, and over nothing unless `replace` allows it."""

    path: str | os.PathLike[str]
    replace: bool = False

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    def __str__(self) -> str:
        return os.fspath(self.path)


def atomic_write(path: str | os.PathLike[str], data: bytes) -> None:
    """Replace the file at path by data: whoever looks, at any time or after a crash, sees the old file or the new one.

    As with open(), a link is followed, an old file's owner and permissions stay, and the umask decides about a new one's;
    an `Output` follows none, and may be for a new file only. OSError names the file and the cause.
    """
    target, replace = _target(path)
    with Folder(target.parent, follow=False) as folder:
        folder.write(target.name, data, replace=replace)


@contextmanager
def written(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Give a file to be written in a `with` block, which is put at path as `atomic_write` does; of an error, nothing is."""
    target, replace = _target(path)
    with Folder(target.parent, follow=False) as folder, folder.writing(target.name, replace=replace) as file:
        yield file


def require_writable(path: str | os.PathLike[str], n_bytes: int = 0) -> None:
    """Raise an OSError that says why, if n_bytes could not be written to path: to be asked before long work, not after."""
    target, replace = _target(path)
    with Folder(target.parent, follow=False) as folder:
        folder.require(target.name, replace=replace)
        folder.probe()
        free = _free_bytes(folder.path)
        if free is not None and free < n_bytes:
            error = OSError(f"{target} takes about {n_bytes:,} bytes, but only {free:,} are free there")
            error.errno = errno.ENOSPC
            raise error


def taken(path: str | os.PathLike[str]) -> bool:
    """Return whether anything stands at path: a link does, wherever it leads. OSError if no such name can be."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _target(path: str | os.PathLike[str]) -> tuple[Path, bool]:
    """Return the file that is to be written, in a folder that is there, and whether it may replace one."""
    given = Path(path)
    if isinstance(path, Output):
        target, replace = Path(os.path.realpath(given.parent)) / given.name, path.replace
    else:
        target, replace = Path(os.path.realpath(given)), True
    folder = target.parent
    if target == folder or not given.name:
        raise IsADirectoryError(f"{given} is a folder; give the name of a file in it, such as {given / 'model.safetensors'}")
    if not folder.exists():
        raise FileNotFoundError(f"there is no folder {folder} to write {target.name} into; make it first")
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file, so that {target.name} cannot be written into it; give another folder")
    return target, replace


def _free_bytes(folder: Path) -> int | None:
    """Return what this user may still write there; None where the file system does not say."""
    try:
        if hasattr(os, "statvfs"):
            status = os.statvfs(folder)
            blocks = status.f_bfree if os.geteuid() == 0 else status.f_bavail
            return blocks * status.f_frsize if status.f_blocks else None
        return shutil.disk_usage(folder).free
    except OSError:
        return None
