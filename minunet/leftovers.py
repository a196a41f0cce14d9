"""Temporary files: named after the process that writes them, so that what a killed one left behind is known, and swept."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import socket
import stat
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

try:
    import fcntl
except ImportError:  # Windows, which lets nobody delete what is open
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from .writing import Folder

# .<start of the file's name>.<host>-<boot and namespace>-<process>-<its start>-<random>.minunet-tmp
_NAME = re.compile(r"\..*\.([0-9a-f]{8})-([0-9a-f]{8})-([0-9]+)-([0-9]+)-[0-9a-f]{8}\.minunet-tmp", re.DOTALL)


def temporary_name(name: str) -> str:
    """Return a new name for what will be called `name`: short, as some file systems take 143 bytes only."""
    process = os.getpid()
    return f".{name[:20]}.{_host()}-{_life()}-{process}-{_start(process) or 0}-{secrets.token_hex(4)}.minunet-tmp"


def lock(descriptor: int) -> bool | None:
    """Take the file for this process until it is closed: False where another has it, None where files cannot be locked."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def sweep(folder: Folder) -> None:
    """Delete the temporary files in the folder whose writers are dead. No link is followed, nothing of another host touched."""
    with contextlib.suppress(OSError):  # a folder that may be written into, but not listed
        for name in folder.names():
            if found := _NAME.fullmatch(name):
                with contextlib.suppress(OSError):
                    _sweep(folder, name, *found.groups())


def _sweep(folder: Folder, name: str, host: str, life: str, process: str, start: str) -> None:
    if host != _host():
        return
    known = life == _life() and start != "0"
    if known and _start(int(process)) == int(start):
        return
    if fcntl is None:
        folder.unlink(name)
        return
    descriptor = folder.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or os.geteuid() not in (0, status.st_uid):
            return
        locked = lock(descriptor)  # a living writer holds it, in whatever container it lives
        if locked or (locked is None and known):
            folder.unlink(name)
    finally:
        os.close(descriptor)


@cache
def _host() -> str:
    return _digest(socket.gethostname(), _text("/etc/machine-id"))


@cache
def _life() -> str:
    """Return what a process's number is good for: one boot of the machine, in one namespace."""
    namespace = ""
    with contextlib.suppress(OSError):
        namespace = os.readlink("/proc/self/ns/pid")
    return _digest(_text("/proc/sys/kernel/random/boot_id"), namespace)


def _start(process: int) -> int | None:
    """Return when a process started, in ticks since the boot: numbers are given anew. None: it is dead, or this is not Linux."""
    fields = _text(f"/proc/{process}/stat").rpartition(")")[2].split()
    return int(fields[19]) if len(fields) > 19 and fields[0] not in "ZX" else None


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:8]


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""


@contextlib.contextmanager
def sole(path: Path) -> Iterator[None]:
    """A `with` block that one process, and one thread of it, has for a path at a time; BlockingIOError elsewhere meanwhile.

    A file beside it is locked: what is killed lets go of it. Where files cannot be locked, nothing is held.
    """
    beside = path.with_name(f".{path.name[:20]}.{_digest(path.name)}.minunet-lock")
    try:
        descriptor = _locked(beside)
    except OSError as error:  # another user's, a folder, a link
        why = f"{beside.name} beside it cannot be locked: {error.strerror}. Delete that, if no training writes there"
        raise retold(error, f"{path} is not for this training alone, as {why}") from error
    if descriptor is None:
        cause = BlockingIOError(errno.EAGAIN, "")
        raise retold(cause, f"another training writes {path}: wait until it has ended, or give another path")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()  # while it is locked: whoever has opened it finds that it has no name
        with contextlib.suppress(OSError):
            os.close(descriptor)


def _locked(path: Path) -> int | None:
    """Return the descriptor of a file that is there and locked; None where another has locked it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0), 0o600)
        try:
            if lock(descriptor) is False:
                os.close(descriptor)
                return None
            if os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(descriptor)):
                return descriptor
        except FileNotFoundError:  # whoever had it has just let go
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def retold(error: OSError, message: str) -> OSError:
    """Return an error of the same kind and number that says what went wrong in a sentence."""
    told = type(error)(message)
    told.errno = error.errno or errno.EIO
    return told
