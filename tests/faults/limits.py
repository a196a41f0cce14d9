"""Limits on the size of files, on memory, open files and threads."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

import minunet

from .cuts import told
from .house import House, temporary
from .trial import Fault, SkippedError, forked, orderly, require

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

NOBODY = 65534
PAGE = 4096


def limit(kind: str, value: int) -> None:
    """Set a limit of this process."""
    assert resource
    resource.setrlimit(getattr(resource, f"RLIMIT_{kind}"), (value, value))


def require_limits() -> None:
    if resource is None:
        raise SkippedError("no limits here")


def file_size(house: House, room: Path, rng: random.Random) -> int:
    """Save and predict where no file may be larger than a drawn size."""
    require_limits()
    path, output = room / "model", room / "out"
    path.write_bytes(house.old)
    size = rng.randrange(2 * len(house.old))

    def save() -> int:
        limit("FSIZE", size)
        return told(lambda: house.unets[1].save(path))

    def predict() -> int:
        limit("FSIZE", size // 40)
        return house.predict(output)

    outcome = forked(save)
    orderly(outcome, 0, 1)
    require(house.which(path) == ("old" if outcome.status else "new"), f"limit {size}: another file: {outcome.told}")
    outcome = forked(predict)
    orderly(outcome, 0, 1)
    house.require_predictions(output, all_of_them=outcome.status == 0)
    left = [found.name for folder in (room, output) if folder.exists() for found in folder.iterdir() if temporary(found.name)]
    require(not left, f"limit {size}: {left} is there")
    return 2


def memory(house: House, room: Path, rng: random.Random) -> int:
    """Predict, load and train where only so much more memory may be had: it works, or is told, and the model is whole."""
    require_limits()
    if not Path("/proc/self/statm").exists():
        raise SkippedError("how much memory is in use is not known here")
    x = np.tile(house.x, (1, 6, 6))  # 288 x 288: some megabytes
    y = np.tile(house.y, (1, 6, 6))
    more = int(2 ** rng.uniform(12, 27))
    unet = house.unets[1].set_params(n_threads=1)
    before = unet.network_.flat.tobytes()
    expected = unet.predict_proba(house.x)

    def tried(work: Callable[[], object]) -> int:
        threading.stack_size(1 << 20)
        limit("AS", int(Path("/proc/self/statm").read_text().split()[0]) * PAGE + more)
        try:
            work()
            status = 0
        except MemoryError as error:
            status = 1
            said = str(error)
        except ValueError as error:  # fit refuses before it begins
            status, said = 1, str(error)
            require("a step takes about" in said or "the weights alone take" in said, f"ValueError: {said}")
        except RuntimeError as error:  # a thread is memory too
            status, said = 1, str(error)
            require("thread" in said, f"RuntimeError: {said}")
        limit_off()
        if status == 1:
            os.write(2, f"minunet: {said}\n".encode())
        return status

    def limit_off() -> None:
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))

    def judged(work: Callable[[], object], *, may_train: bool = False) -> int:
        status = tried(work)
        old = unet.network_.flat.tobytes() == before
        require(old or (may_train and (status == 0 or unet.n_iter_ >= 1)), "the model is neither the old nor a new one")
        if old and not may_train:
            for given, right in zip(unet.predict_proba(house.x), expected, strict=True):
                require(np.array_equal(given, right), "the model predicts otherwise")
        return status

    orderly(forked(lambda: judged(lambda: unet.predict_proba(x))), 0, 1)
    orderly(forked(lambda: judged(lambda: minunet.load(house.model))), 0, 1)
    orderly(forked(lambda: judged(lambda: unet.fit(x, y), may_train=True)), 0, 1)
    unet.set_params(n_threads=None)
    return 3


def open_files(house: House, room: Path, rng: random.Random) -> int:
    """Predict, save and train where only so many files may be open at once."""
    require_limits()
    path, output = room / "model", room / "out"
    path.write_bytes(house.old)
    most = rng.randrange(3, 14)

    def limited(work: Callable[[], int]) -> int:
        limit("NOFILE", most)
        return work()

    outcome = forked(lambda: limited(lambda: told(lambda: house.unets[1].save(path))))
    orderly(outcome, 0, 1)
    require(house.which(path) == ("old" if outcome.status else "new"), f"{most} files: another file: {outcome.told}")
    outcome = forked(lambda: limited(lambda: house.predict(output)))
    orderly(outcome, 0, 1)
    house.require_predictions(output, all_of_them=outcome.status == 0)
    path.write_bytes(house.old)
    outcome = forked(lambda: limited(lambda: house.train(path, "--force")))
    orderly(outcome, 0, 1)
    require(outcome.status == 0 or path.read_bytes() == house.old, f"{most} files: the old model is another: {outcome.told}")
    return 3


def threads(house: House, room: Path, rng: random.Random) -> int:
    """Predict where no thread, or only so many, can be started: kernels run on those that there are, with the same bits."""
    most = rng.randrange(3)

    def refuse_threads() -> None:
        start, started = threading.Thread.start, []

        def few(thread: threading.Thread) -> None:
            if len(started) >= most:
                raise RuntimeError("can't start new thread")
            started.append(thread)
            start(thread)

        threading.Thread.start = few  # type: ignore[method-assign]

    orderly(forked(lambda: _same_bits(house, refuse_threads)), 0)
    return 1


def processes(house: House, room: Path, rng: random.Random) -> int:
    """The same under RLIMIT_NPROC, which counts threads, and which root has to become somebody for."""
    require_limits()

    def become_nobody() -> None:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        limit("NPROC", 0)
        try:
            threading.Thread(target=int).start()
        except RuntimeError:
            return
        os._exit(SKIPPED)

    outcome = forked(lambda: _same_bits(house, become_nobody))
    if outcome.status == SKIPPED:
        raise SkippedError("RLIMIT_NPROC stops no thread here")
    orderly(outcome, 0)
    return 1


SKIPPED = 77


def _same_bits(house: House, prepare: Callable[[], None]) -> int:
    """Predict on four threads, after `prepare`, and compare with what one thread gave."""
    unet = house.unets[0].set_params(n_threads=4)
    prepare()
    for given, right in zip(unet.predict_proba(house.x), house.probabilities, strict=True):
        require(np.array_equal(given, right), "another number of threads gave other bits")
    return 0


FAULTS = (
    Fault("limit: size of files", "RLIMIT_FSIZE in save and predict", file_size),
    Fault("limit: memory", "RLIMIT_AS in predict, load and fit", memory),
    Fault("limit: open files", "RLIMIT_NOFILE in save, predict and train", open_files),
    Fault("limit: threads", "threads that cannot be started", threads),
    Fault("limit: processes", "the same, by RLIMIT_NPROC", processes),
)
