"""Files: opened only where they are ordinary ones, and written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import tempfile
from pathlib import Path
from typing import BinaryIO


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open an ordinary file for reading. Of anything else there is an OSError at once: a pipe would be waited for, for ever."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    descriptor = os.open(path, flags)
    try:
        mode = os.fstat(descriptor).st_mode  # of what was opened: the name may lead elsewhere by now
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(f"{path} is a folder; a file is taken here")
        if not stat.S_ISREG(mode):
            kinds = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
            raise OSError(f"{path} is {kinds.get(stat.S_IFMT(mode), 'no ordinary file')}; an ordinary file is taken here")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def atomic_write(path: str | os.PathLike[str], data: bytes) -> None:
    """Replace the file at path by data: whoever looks, at any time or after a crash, sees the old file or the new one.

    As with open(), a link is followed, an old file's permissions stay, and the umask decides about a new one's.
    """
    target, mode = _target(path)
    temporary = target.with_name(f".{target.name[:40]}.{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            if mode is not None:  # before anything is in it: a private file is private all the time
                os.chmod(temporary, mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_folder(target.parent)


def require_writable(path: str | os.PathLike[str]) -> None:
    """Raise an OSError that says why, if a file at path could not be written: to be asked before long work, not after."""
    folder = _target(path)[0].parent
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise PermissionError(f"nothing can be written into {folder}: {error.strerror}") from error


def _target(path: str | os.PathLike[str]) -> tuple[Path, int | None]:
    """Return the file that path leads to, links followed, and its permissions if it is there; OSError if it must stay."""
    target = Path(os.path.realpath(path))
    folder = target.parent
    if target.is_dir():
        raise IsADirectoryError(f"{target} is a folder; give the name of a file in it, such as {target / 'model.safetensors'}")
    if not folder.exists():
        raise FileNotFoundError(f"there is no folder {folder} to write {target.name} into; make it first")
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file, so that {target.name} cannot be written into it; give another folder")
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return target, None
    if not stat.S_ISREG(mode):  # a device or a pipe would be gone for everybody
        raise FileExistsError(f"{target} is no ordinary file and will not be replaced; give another name")
    if not os.access(target, os.W_OK):
        raise PermissionError(f"{target} is there and may not be written; give another name, or make it writable")
    return target, stat.S_IMODE(mode)


def _sync_folder(folder: Path) -> None:
    """Make the new name durable, where a folder can be opened (not on Windows) and synchronised.

    Some network file systems refuse; the file is whole all the same, so that is no failure.
    """
    if not hasattr(os, "O_DIRECTORY"):
        return
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
