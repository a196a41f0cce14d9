"""The save at the end of a training, where its place is full, read-only, gone or taken by then, and Ctrl-C was pressed, too."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import re
import shutil
import signal
import subprocess
from pathlib import Path

import minunet
from minunet.cli import rescue, train

from .disks import mounted
from .house import House
from .interruptions import rehearsed, require_no_temporary, run_command
from .limits import limit, require_limits
from .moments import Moment, Press, digest
from .trial import Fault, SkippedError, forked, require


def fill(folder: Path) -> None:
    """Leave no byte on the disk that the folder is on."""
    with open(folder / "filler", "wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(512)):
            pass


def protect(folder: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(folder.parent)], check=True)


def take_the_folder(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("")


ACCIDENTS = {
    "full": fill, "read-only": protect, "its folder a file": take_the_folder, "taken": lambda folder: (folder / "model").mkdir(),
    "limited": lambda folder: limit("FSIZE", 4096),
}  # fmt: skip
ON_A_DISK = ("full", "read-only")


def last_save(house: House, room: Path, rng: random.Random) -> int:
    """Train, be interrupted, and find the place so: the last line says where the model is, and it is that of its last step."""
    require_limits()
    moment = Moment("step", rng.randint(1, rehearsed(house, "plain").stages["step"][0]), 1)
    tried = 0
    for name in ACCIDENTS:
        with contextlib.suppress(SkippedError):
            with mounted(room / name, 1 << 20) if name in ON_A_DISK else contextlib.nullcontext(room) as disk:
                one_save(house, room, disk / f"out, {name}", name, moment)
            tried += 1
    return tried


def one_save(house: House, room: Path, folder: Path, name: str, moment: Moment) -> None:
    def work() -> None:
        def keep(*args: object, **options: bool) -> bool:
            ACCIDENTS[name](folder)
            return rescue.keep(*args, **options)  # type: ignore[arg-type]

        train.keep = keep
        os.chdir(room)
        run_command(house, folder, False, Press(signal.SIGINT, moment, None, room / "pressed"))

    outcome = forked(work)
    last = outcome.err.splitlines()[-1]
    require(outcome.status == 1 and "Traceback" not in outcome.err, f"{name}: exit status {outcome.status}: {outcome.told}")
    if name == "limited":
        require("could be saved nowhere else, and is lost" in last, f"{name}: the last line is {last!r}")
        require(os.strerror(errno.EFBIG) in last, f"{name}: it does not say why: {last!r}")
        return
    found = re.search(r"\. The model is in (.*)$", last)
    require(found, f"{name}: the last line is {last!r}")
    assert found
    unet, known = minunet.load(found[1]), rehearsed(house, "plain").weights
    require(unet.interrupted_, f"{name}: the model does not tell")
    require(digest(unet.network_) == known[int(unet.history_["steps"][-1]) - 1], f"{name}: not the weights of its last step")
    os.unlink(found[1])
    require_no_temporary(room)


FAULTS = (Fault("interrupt: last save", "its place full, read-only, gone or taken, and Ctrl-C, too", last_save),)
