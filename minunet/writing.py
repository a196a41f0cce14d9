"""A folder held open, and files written into it: whole or not at all, by plain names, through no link."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from . import leftovers

_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_BY_DESCRIPTOR = {os.open, os.stat, os.unlink, os.rename, os.link} <= os.supports_dir_fd  # not on Windows
_ACL = "system.posix_acl_access"


class Folder:
    """A folder to write into. Whatever becomes of its path meanwhile, a write goes to the folder that was opened.

    Opening it sweeps what killed processes left there. A `with` block, or `close`, lets go of it.
    """

    def __init__(self, path: str | os.PathLike[str], *, follow: bool = True) -> None:
        self.path = Path(path)
        self._descriptor = _opened(self.path, follow) if _BY_DESCRIPTOR else None
        leftovers.sweep(self)

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def names(self) -> list[str]:
        return os.listdir(self.path if self._descriptor is None else self._descriptor)

    def open(self, name: str, flags: int, mode: int = 0o600) -> int:
        return os.open(self._entry(name), flags | getattr(os, "O_CLOEXEC", 0), mode, **self._at("dir_fd"))

    def unlink(self, name: str) -> None:
        os.unlink(self._entry(name), **self._at("dir_fd"))

    def status(self, name: str) -> os.stat_result | None:
        """Return what stands under the name, a link itself being something; None if nothing does."""
        try:
            return os.stat(self._entry(name), follow_symlinks=False, **self._at("dir_fd"))
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes, *, replace: bool) -> None:
        """Write a file: whoever looks, at any time or after a crash, sees what was there before, or all of it.

        What stands under the name is replaced only if `replace` says so: a file, which leaves its owner, mode and
        attributes, as far as it may be; or a link itself, never what it leads to. OSError names the file and the cause.
        """
        with self._naming(name), self.writing(name, replace=replace) as file:
            file.write(data)

    @contextlib.contextmanager
    def writing(self, name: str, *, replace: bool) -> Iterator[BinaryIO]:
        """Give a file to write, which stands under the name as `write` says when the block has ended; or, of an error, not."""
        with self._naming(name):
            old = self.require(name, replace=replace)
            temporary, descriptor = self._temporary(name, private=old is not None)
        try:
            with os.fdopen(descriptor, "w+b") as file:
                if old is not None:  # before anything is in it: a private file is private all the time
                    self._keep_attributes(name, old, descriptor)
                yield file
                with self._naming(name):
                    file.flush()
                    os.fsync(descriptor)
                    if self._descriptor is not None:  # locked until it has its name
                        self._give(temporary, name, replace)
            with self._naming(name):
                if self._descriptor is None:  # Windows renames nothing that is open
                    self._give(temporary, name, replace)
        except BaseException:
            with contextlib.suppress(OSError):
                self.unlink(temporary)
            raise
        self._sync()

    def require(self, name: str, *, replace: bool) -> os.stat_result | None:
        """Raise an OSError that says why, if a file of this name may not be written. Return the file that it would replace."""
        with self._naming(name):
            return self._require(name, replace)

    def _require(self, name: str, replace: bool) -> os.stat_result | None:
        path = self.path / name
        if name in ("", ".", "..") or Path(name).name != name:
            raise ValueError(f"{name!r} is no plain name of a file")
        old = self.status(name)
        if old is None:
            return None
        if stat.S_ISDIR(old.st_mode):
            raise IsADirectoryError(f"{path} is a folder; give the name of a file in it, such as {path / 'model.safetensors'}")
        if not stat.S_ISREG(old.st_mode) and not stat.S_ISLNK(old.st_mode):  # a device or a pipe would be gone for everybody
            raise FileExistsError(f"{path} is no ordinary file and will not be replaced; give another name")
        if not replace:
            raise FileExistsError(f"{path} is there already")
        if stat.S_ISLNK(old.st_mode):
            return None
        if not os.access(self._entry(name), os.W_OK, **self._at("dir_fd")):
            now = self.status(name)
            if now is None or not os.path.samestat(now, old):  # it is another by now, or gone
                return self._require(name, replace)
            raise PermissionError(f"{path} is there and may not be written; give another name, or make it writable")
        return old

    def probe(self) -> None:
        """Raise an OSError that says why, if nothing can be written into the folder."""
        try:
            temporary, descriptor = self._temporary("probe", private=True)
            try:
                os.write(descriptor, b"1")
                os.fsync(descriptor)
            finally:
                try:
                    os.close(descriptor)
                finally:
                    self.unlink(temporary)
        except OSError as error:
            raise leftovers.retold(error, f"nothing can be written into {self.path}: {error.strerror or error}") from error

    def _temporary(self, name: str, *, private: bool) -> tuple[str, int]:
        """Return a new file, locked: as long as it is open, nobody sweeps it."""
        while True:
            temporary = leftovers.temporary_name(name)
            try:
                descriptor = self.open(temporary, _NEW, 0o600 if private else 0o666)
            except BaseException:  # Ctrl-C arrives when the file is there, and its number not yet here
                with contextlib.suppress(OSError):
                    self.unlink(temporary)
                raise
            try:
                held = leftovers.lock(descriptor) is not False
                entry = self.status(temporary)
                if held and entry is not None and os.path.samestat(entry, os.fstat(descriptor)):
                    return temporary, descriptor
            except BaseException:
                os.close(descriptor)
                with contextlib.suppress(OSError):
                    self.unlink(temporary)
                raise
            os.close(descriptor)  # another process swept it before it was locked

    def _give(self, temporary: str, name: str, replace: bool) -> None:
        """Give the temporary file its name."""
        ends = self._at("src_dir_fd") | self._at("dst_dir_fd")
        source, target = self._entry(temporary), self._entry(name)
        if replace:
            os.replace(source, target, **ends)
            return
        try:
            os.link(source, target, follow_symlinks=False, **ends)  # fails if the name is taken, at whatever moment it was
        except FileExistsError:
            raise FileExistsError(f"{self.path / name} appeared meanwhile, and was not replaced") from None
        except (OSError, NotImplementedError):  # a file system without hard links
            if self.status(name) is not None:
                raise FileExistsError(f"{self.path / name} appeared meanwhile, and was not replaced") from None
            os.rename(source, target, **ends)
        else:
            self.unlink(temporary)

    def _keep_attributes(self, name: str, old: os.stat_result, descriptor: int) -> None:
        """Give a file the owner, mode, access list and user's attributes of the one that it replaces, where that is permitted."""
        if not hasattr(os, "fchown"):
            return
        mode = stat.S_IMODE(old.st_mode) & 0o777
        new = os.fstat(descriptor)
        if new.st_gid != old.st_gid:
            try:
                os.fchown(descriptor, -1, old.st_gid)
            except OSError:  # another group gets no more than everybody
                mode = mode & ~0o070 | (mode & 0o007) << 3
        if new.st_uid != old.st_uid:
            with contextlib.suppress(OSError):
                os.fchown(descriptor, old.st_uid, -1)
        os.fchmod(descriptor, mode)
        if hasattr(os, "listxattr"):
            with contextlib.suppress(OSError):
                self._copy_attributes(name, old, descriptor)

    def _copy_attributes(self, name: str, old: os.stat_result, descriptor: int) -> None:
        source = self.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            if not os.path.samestat(os.fstat(source), old):
                return
            names = os.listxattr(source)
            if _ACL not in names:  # one that the folder gives to new files
                with contextlib.suppress(OSError):
                    os.removexattr(descriptor, _ACL)
            for attribute in names:
                if attribute == _ACL or attribute.startswith("user."):  # others are the system's own
                    with contextlib.suppress(OSError):
                        os.setxattr(descriptor, attribute, os.getxattr(source, attribute))
        finally:
            os.close(source)

    def _sync(self) -> None:
        """Make new names durable, where a folder can be synchronised.

        Some network file systems refuse; the file is whole all the same, so that is no failure.
        """
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.fsync(self._descriptor)

    @contextlib.contextmanager
    def _naming(self, name: str) -> Any:
        """Say in an OSError of the system which file could not be written."""
        try:
            yield
        except OSError as error:
            if error.strerror is None:  # a sentence of ours
                raise
            raise leftovers.retold(error, f"{self.path / name} could not be written: {error.strerror}") from error

    def _entry(self, name: str) -> str:
        return str(self.path / name) if self._descriptor is None else name

    def _at(self, argument: str) -> dict[str, Any]:
        return {} if self._descriptor is None else {argument: self._descriptor}


def _opened(path: Path, follow: bool) -> int:
    flags = os.O_DIRECTORY | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    try:
        return os.open(path, os.O_RDONLY | flags)
    except PermissionError:  # it may still be written into
        return os.open(path, getattr(os, "O_PATH", os.O_RDONLY) | flags)
    except FileNotFoundError as error:
        raise leftovers.retold(error, f"there is no folder {path}") from error
    except NotADirectoryError as error:
        raise leftovers.retold(error, f"{path} is no folder") from error
