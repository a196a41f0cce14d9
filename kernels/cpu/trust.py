"""Whose files these are: code is read only from where nobody but this user, and root, can have put it.

A cache of compiled code is code: whoever can write a file there, or can put another folder in its place, runs what he likes
as whoever reads it. So the folder, each folder and each link on the way to it, and each file is looked at, as sshd looks at
its keys. Windows has no such owners and modes: there its own rules hold, by which a user's profile is the user's.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import secrets
import stat
import time
from collections.abc import Iterator
from pathlib import Path

OTHERS = stat.S_IWGRP | stat.S_IWOTH  # an access list that lets others write shows in the group's bit
LINKS = 40  # on one way, as many as Linux follows
ABANDONED = 3600.0  # seconds after which nobody is still writing a temporary file of a megabyte
PART = 2**20  # bytes that are read at once


class UntrustedError(Exception):
    """Raised where others could have written what was to be trusted, or where it is damaged: a sentence that says which."""


def make_folder(folder: Path) -> None:
    """Make the folder and those above it, for this user alone. UntrustedError where others may write, OSError if it fails."""
    check_folder(folder)  # as far as it is there: nothing is made in a place of others
    for path in [*reversed(folder.parents), folder]:
        if not path.is_dir():
            with contextlib.suppress(FileExistsError):  # another process has made it, or it is a file: mkdir of the next says so
                os.mkdir(path, 0o755 if path.name == "__pycache__" else 0o700)  # Python's own folder is for all who import
    check_folder(folder)


def check_folder(folder: Path) -> None:
    """Raise UntrustedError if anybody else may put files into the folder, or another folder in its place.

    Through a folder where all may write, but remove only what is their own, as in /tmp, the way may lead; it may not end there.
    """
    if not hasattr(os, "geteuid"):
        return
    for path, status in _way(folder):
        last = path == folder
        _check_owner(path, status, _owners() if last else _owners() | _owners_outside())
        if stat.S_ISLNK(status.st_mode):
            if last:
                raise UntrustedError(f"{path} is a link; the folder itself is taken")
        elif last or not status.st_mode & stat.S_ISVTX:
            _check_mode(path, status)


def read_file(path: Path, limit: int) -> bytes:
    """Return what is in an ordinary file that only this user, or root, can have written. UntrustedError of any other."""
    flags = os.O_RDONLY
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY", "O_CLOEXEC"):  # a pipe would be waited for, for ever
        flags |= getattr(os, name, 0)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK):  # what O_NOFOLLOW says of a link
            raise UntrustedError(f"{path} is a link; a file is taken") from error
        raise
    try:
        _check_file(path, os.fstat(descriptor), limit)  # of what was opened: the name may lead elsewhere by now
        parts = []
        while part := os.read(descriptor, PART):  # Python takes as much as it is told to read, be the file ever so small
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(descriptor)


def write_file(path: Path, data: bytes) -> None:
    """Put the file in its place whole, readable by this user alone. Not synchronised: who reads it must know it by a hash."""
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    descriptor = os.open(temporary, flags, 0o600)
    try:
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error  # a write knows no names
        raise


def sweep(folder: Path) -> None:
    """Remove the temporary files of processes that died while they wrote."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".tmp") and time.time() - entry.stat(follow_symlinks=False).st_mtime > ABANDONED:
                os.unlink(entry.path)


def _way(path: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Give each folder and each link that the system passes on its way to an absolute path, as far as there is one."""
    at = Path(path.anchor)
    yield at, os.lstat(at)
    ahead = list(reversed(path.parts[1:]))
    links = 0
    while ahead:
        name = ahead.pop()
        if name == "..":
            at = at.parent
            continue
        step = at / name
        try:
            status = os.lstat(step)
        except FileNotFoundError:
            return
        yield step, status
        if not stat.S_ISLNK(status.st_mode):
            at = step
            continue
        links += 1
        if links > LINKS:
            raise UntrustedError(f"{path} leads through more than {LINKS} links")
        target = Path(os.readlink(step))
        ahead += reversed(target.parts[1:] if target.is_absolute() else target.parts)
        at = Path(target.anchor) if target.is_absolute() else at


def _check_file(path: Path, status: os.stat_result, limit: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise UntrustedError(f"{path} is no ordinary file")
    if hasattr(os, "geteuid"):
        _check_owner(path, status, _owners())
        _check_mode(path, status)
    if status.st_nlink > 1:
        raise UntrustedError(f"{path} has {status.st_nlink} names; a file of one name is taken")
    if status.st_size > limit:
        raise UntrustedError(f"{path} has {status.st_size} bytes; at most {limit} are taken")


def _check_owner(path: Path, status: os.stat_result, owners: frozenset[int]) -> None:
    if status.st_uid not in owners:
        raise UntrustedError(f"{path} belongs to another user (number {status.st_uid}; this one is {os.geteuid()})")


def _check_mode(path: Path, status: os.stat_result) -> None:
    if status.st_mode & OTHERS:
        raise UntrustedError(f"others may write {path} (mode {stat.S_IMODE(status.st_mode):04o})")


def _owners() -> frozenset[int]:
    return frozenset({0, os.geteuid()})


@functools.cache
def _owners_outside() -> frozenset[int]:
    """Return the number by which a container without root shows the folders of root outside: one that no user in it has."""
    try:
        nobody = int(Path("/proc/sys/kernel/overflowuid").read_text())
        users = [[int(number) for number in line.split()] for line in Path("/proc/self/uid_map").read_text().splitlines()]
    except (OSError, ValueError):  # not Linux
        return frozenset()
    return frozenset() if any(first <= nobody < first + count for first, _, count in users) else frozenset({nobody})
