"""Cut points: each call to the system that a writer makes fails once, is interrupted, or is the last of its process."""

from __future__ import annotations

import builtins
import contextlib
import errno
import functools
import importlib.util
import io
import os
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minunet.kernels.cpu import trust
from minunet.kernels.cpu.cache import Pair

from .house import House, temporary
from .trial import Fault, Outcome, SkippedError, forked, orderly, require

CALLS = (
    "open", "write", "pwrite", "writev", "fsync", "fdatasync", "close", "replace", "rename", "link", "symlink", "unlink",
    "remove", "mkdir", "rmdir", "chmod", "fchmod", "chown", "fchown", "truncate", "ftruncate", "utime",
    "posix_fallocate", "setxattr",
)  # fmt: skip
CLEANING = {"unlink", "remove", "rmdir"}  # where these fail, what they were to remove stays
CRASHED = 9  # the exit status of a process whose last call it was


@dataclass
class Calls:
    """Counts the calls that concern files of a folder; `at` the one of that number `action` comes."""

    folder: Path
    action: str = ""
    at: int = -1
    names: list[str] = field(default_factory=list)
    descriptors: set[int] = field(default_factory=set)

    @contextlib.contextmanager
    def watched(self) -> Iterator[Calls]:
        """Stand between Python and the system, in this process."""
        real = {name: getattr(os, name) for name in CALLS if hasattr(os, name)}
        before = builtins.open
        try:
            for name, function in real.items():
                setattr(os, name, functools.partial(self._call, name, function))
            builtins.open = io.open = functools.partial(self._opened, before)  # type: ignore[assignment]
            yield self
        finally:
            builtins.open = io.open = before  # type: ignore[misc]
            for name, function in real.items():
                setattr(os, name, function)

    def concerns(self, value: Any) -> bool:
        """Return whether a path or a descriptor is of a file in the folder."""
        if isinstance(value, int):
            return value in self.descriptors
        return isinstance(value, str | os.PathLike) and str(self.folder) in os.path.abspath(os.fspath(value))

    def step(self, name: str, before: Callable[[], Any], half: Callable[[], Any] | None = None) -> Any:
        """Do a call, unless it is the one. A write that fails has written the half, as on a disk that becomes full."""
        number = len(self.names)
        self.names.append(name)
        if number != self.at:
            return before()
        if self.action == "crash before":
            os._exit(CRASHED)
        if self.action in ("crash after", "interrupt after"):
            before()
        elif half is not None:
            half()
        if self.action.startswith("crash"):
            os._exit(CRASHED)
        if self.action.startswith("interrupt"):
            raise KeyboardInterrupt
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _call(self, name: str, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        ours = any(self.concerns(value) for value in (*arguments[:2], *options.values()) if not isinstance(value, bool))
        if not ours:
            return function(*arguments, **options)
        half = None
        if name in ("write", "pwrite"):
            rest = memoryview(arguments[1])
            half = lambda: function(arguments[0], rest[: len(rest) // 2], *arguments[2:])  # noqa: E731
        if name == "close":
            half = lambda: function(*arguments)  # noqa: E731  # Linux lets go of the number, whatever close says
        result = self.step(name, lambda: function(*arguments, **options), half)
        if name == "open":
            self.descriptors.add(result)
        if name == "close":
            self.descriptors.discard(arguments[0])
        return result

    def _opened(self, function: Callable[..., Any], file: Any, mode: str = "r", *more: Any, **options: Any) -> Any:
        if not self.concerns(file) or not set(mode) & set("wxa+"):
            return function(file, mode, *more, **options)
        opened = function if isinstance(file, int) else functools.partial(self.step, "open", lambda: function(file, mode, *more))
        stream = opened(file, mode, *more, **options) if isinstance(file, int) else opened()
        self.descriptors.add(stream.fileno())
        return Stream(stream, self)


class Stream:
    """A file of Python's whose writes are calls."""

    def __init__(self, file: Any, calls: Calls) -> None:
        self._file, self._calls = file, calls

    def write(self, data: Any) -> int:
        return self._calls.step("write", lambda: self._file.write(data), lambda: self._file.write(data[: len(data) // 2]))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


ACTIONS = ("fail", "interrupt after", "interrupt before", "crash before", "crash after")


def each_cut(room: Path, action: str, prepare: Callable[[Path], None], work: Callable[[Path], int]) -> Iterator[tuple[Any, ...]]:
    """Give (folder, the call's name, outcome) for each call that the work makes in a folder made ready by `prepare`."""

    def run(at: int) -> tuple[Path, Outcome]:
        folder = room / f"{action.replace(' ', '-')}{at}"
        folder.mkdir()
        prepare(folder)

        def watched() -> int:
            with Calls(folder, action, at).watched() as calls:
                try:
                    status = work(folder)
                finally:
                    sys.stderr.flush()
                    print("\n" + " ".join(calls.names), flush=True)
            return status

        return folder, forked(watched)

    _, undisturbed = run(-1)
    orderly(undisturbed, 0)
    names = undisturbed.out.splitlines()[-1].split()
    require(names, "no call was seen")
    for at, name in enumerate(names):
        folder, outcome = run(at)
        yield folder, f"{action} at call {at}, {name}", name, outcome


def told(work: Callable[[], Any]) -> int:
    """Do the work as the command line does: what fails is a sentence and a status."""
    try:
        work()
        return 0
    except KeyboardInterrupt:
        print("minunet: interrupted", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"minunet: {error}", file=sys.stderr)
        return 1


def cut_save(house: House, room: Path, rng: random.Random) -> int:
    """Save over an old model, cut at every call in every way."""
    n = 0
    for action in ACTIONS:
        cuts = each_cut(
            room, action, lambda folder: (folder / "model").write_bytes(house.old) and None,
            lambda folder: told(lambda: house.unets[1].save(folder / "model")),
        )  # fmt: skip
        for folder, which, name, outcome in cuts:
            n += 1
            orderly(outcome, *((CRASHED,) if action.startswith("crash") else (0, 1, 130)))
            found = house.which(folder / "model")
            require(outcome.status or found == "new", f"{which}: it told of no failure, and the old file is there")
            if not action.startswith("crash") and name not in CLEANING:
                left = sorted(path.name for path in folder.iterdir())
                require(left == ["model"], f"{which}: {left} is there")
    return n


def cut_predict(house: House, room: Path, rng: random.Random) -> int:
    """Predict into a new folder, cut at every call in one way."""
    n, action = 0, rng.choice(ACTIONS)
    for folder, which, name, outcome in each_cut(room, action, lambda folder: None, lambda folder: house.predict(folder / "out")):
        n += 1
        orderly(outcome, *((CRASHED,) if action.startswith("crash") else (0, 1, 130)))
        house.require_predictions(folder / "out", all_of_them=outcome.status == 0 and name not in CLEANING)
        if not action.startswith("crash") and name not in CLEANING and (folder / "out").exists():
            left = [path.name for path in (folder / "out").iterdir() if temporary(path.name)]
            require(not left, f"{which}: {left} is there")
    return n


def cut_kernel_cache(house: House, room: Path, rng: random.Random) -> int:
    """Keep a kernel's code in the place of another, cut at every call in every way: what is read is whole, or nothing."""
    n, old, new = 0, b"old code" * 1000, b"new code" * 1000
    for action in ACTIONS:

        def prepare(folder: Path) -> None:
            folder.chmod(0o700)
            Pair([1], folder / "kernel.nbi").write(old, alone=False)

        def keep(folder: Path) -> int:
            return told(lambda: Pair([1], folder / "kernel.nbi").write(new, alone=True))

        for folder, which, _, outcome in each_cut(room, action, prepare, keep):
            n += 1
            orderly(outcome, *((CRASHED,) if action.startswith("crash") else (0, 1, 130)))
            try:
                found = Pair([1], folder / "kernel.nbi").read()
            except trust.UntrustedError as error:
                require(False, f"{which}: {error}")
            require(found in (old, new), f"{which}: neither the old code nor the new")
    return n


def swept(house: House, room: Path, rng: random.Random) -> int:
    """What a process left that died while it saved, at any call, the next one removes."""
    if importlib.util.find_spec("minunet.leftovers") is None:
        raise SkippedError("nothing sweeps here yet (minunet/leftovers.py)")
    n = 0
    cuts = each_cut(
        room, "crash after", lambda folder: (folder / "model").write_bytes(house.old) and None,
        lambda folder: told(lambda: house.unets[1].save(folder / "model")),
    )  # fmt: skip
    for folder, which, _, _ in cuts:
        n += 1
        orderly(forked(lambda folder=folder: told(lambda: house.unets[0].save(folder / "model"))), 0)
        left = sorted(path.name for path in folder.iterdir())
        require(left == ["model"] and house.which(folder / "model") == "old", f"{which}: {left} is there")
    return n


FAULTS = (
    Fault("cut points: save", "each call of a save fails, is interrupted, is the last", cut_save),
    Fault("cut points: predict", "each call of `minunet predict`, in one of these ways", cut_predict),
    Fault("cut points: kernel cache", "each call that keeps a compiled kernel", cut_kernel_cache),
    Fault("cut points: swept", "what dead processes left is gone after the next save", swept),
)
