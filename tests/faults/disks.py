"""Disks that are full, and folders that cannot be written."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

from .cuts import told
from .house import House
from .kills import RELU, RIGHT
from .trial import Fault, SkippedError, command, ended, forked, orderly, require


@contextlib.contextmanager
def mounted(folder: Path, size: int) -> Iterator[Path]:
    """Mount a small file system of memory there, and unmount it, always."""
    folder.mkdir()
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        raise SkippedError("only root can mount")
    order = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "minunet-faults", str(folder)]
    try:
        done = subprocess.run(order, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise SkippedError("there is no mount here") from error
    if done.returncode:
        raise SkippedError(f"mount is not permitted here ({done.stderr.strip()})")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def full_save(house: House, room: Path, rng: random.Random) -> int:
    """Save over an old model on a disk with room for a part of the new one."""
    size = len(house.old) + rng.randrange(4096, 2 * len(house.new))
    with mounted(room / "disk", size) as disk:
        path = disk / "model"
        path.write_bytes(house.old)
        outcome = forked(lambda: told(lambda: house.unets[1].save(path)))
        orderly(outcome, 0, 1)
        require(house.which(path) == ("old" if outcome.status else "new"), f"another file: {outcome.told}")
        require([found.name for found in disk.iterdir()] == ["model"], f"{sorted(p.name for p in disk.iterdir())} is there")
    return 1


def full_predict(house: House, room: Path, rng: random.Random) -> int:
    """Predict a folder onto a disk that becomes full."""
    with mounted(room / "disk", rng.randrange(4096, 40960)) as disk:
        outcome = forked(lambda: house.predict(disk / "out"))
        orderly(outcome, 0, 1)
        house.require_predictions(disk / "out", all_of_them=outcome.status == 0)
    return 1


def full_cache(house: House, room: Path, rng: random.Random) -> int:
    """Compile with a cache on a disk that is too small for it."""
    with mounted(room / "disk", rng.randrange(4096, 100000)) as disk:
        outcome = ended(command("-c", RELU, cache=disk / "cache"))
        orderly(outcome, 0)
        require(outcome.out.strip() == RIGHT, f"another result: {outcome.told}")
        require(len(outcome.err.splitlines()) <= 2, f"said more than once: {outcome.told}")
    return 1


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Let nobody write there: by its mode, or for root, whom no mode stops, by mounting it so upon itself."""
    if hasattr(os, "geteuid") and os.geteuid() != 0:
        folder.chmod(0o555)
        try:
            yield
        finally:
            folder.chmod(0o755)
        return
    orders = [["mount", "--bind", str(folder), str(folder)], ["mount", "-o", "remount,ro,bind", str(folder)]]
    n_done = 0
    try:
        for order in orders:
            try:
                done = subprocess.run(order, capture_output=True, text=True)
            except FileNotFoundError as error:
                raise SkippedError("there is no mount here") from error
            if done.returncode:
                raise SkippedError(f"mount is not permitted here ({done.stderr.strip()})")
            n_done += 1
        yield
    finally:
        if n_done:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def read_only_folder(house: House, room: Path, rng: random.Random) -> int:
    """Save, predict and train into a folder that cannot be written, and compile with a cache there."""
    folder = room / "folder"
    folder.mkdir()
    (folder / "model").write_bytes(house.old)
    with read_only(folder):
        outcome = forked(lambda: told(lambda: house.unets[1].save(folder / "model")))
        orderly(outcome, 1)
        outcome = forked(lambda: house.predict(folder / "out"))
        orderly(outcome, 1)
        outcome = forked(lambda: house.train(folder / "trained", "--force"))
        orderly(outcome, 1)
        require("epoch" not in outcome.err, "it trained, and could not have saved")
        outcome = ended(command("-c", RELU, cache=folder))
        orderly(outcome, 0)
        require(outcome.out.strip() == RIGHT and not outcome.err, f"it said: {outcome.told}")
    require((folder / "model").read_bytes() == house.old, "the old model is another")
    require([path.name for path in folder.iterdir()] == ["model"], "something else is there")
    return 4


FAULTS = (
    Fault("disk: full, save", "a small tmpfs, an old model on it", full_save),
    Fault("disk: full, predict", "a small tmpfs that becomes full", full_predict),
    Fault("disk: full, kernel cache", "a small tmpfs for compiled kernels", full_cache),
    Fault("disk: read-only folder", "save, predict, train and compile there", read_only_folder),
)
