"""Ctrl-C, once and twice, SIGTERM and SIGHUP at drawn moments of trainings: what was learned is a model, and the end in order."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import random
import re
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import minunet

from .house import SETTINGS, TRAINING, House, temporary
from .kills import ASKED
from .moments import BEFORE, STAGES, Callback, Count, Moment, Press, digest
from .trial import BrokenError, Fault, Outcome, SkippedError, command, ended, forked, orderly, require

N_EPOCHS = 3
GAPS = (0.0, 0.001, 0.01, 0.1)  # seconds between Ctrl-C and the next
NOTHING = ("no epoch was finished", "interrupted", "asked to end")  # one of these is said where there is no model


@dataclass(frozen=True)
class Ending:
    """What came of a signal: a model "kept" as it was then, one that had "ended", "none", or what Python did "before" all; and
    the seconds from the signal to the end, if it was sent in time."""

    what: str
    seconds: float | None


@dataclass(frozen=True)
class Rehearsal:
    """An undisturbed training: how often it is in each stage, for how many calls; weights after each step; and seconds."""

    stages: dict[str, tuple[int, int]]
    weights: list[str]
    step: float
    whole: float

    def moment(self, rng: random.Random, *, but: Rehearsal | None = None) -> Moment:
        """Draw one; but : not within a stage of this."""
        names = [name for name, (n, _) in self.stages.items() if n and not (but and but.stages[name][0])]
        name = rng.choice(names)
        times, calls = self.stages[name]
        return Moment(name, rng.randint(1, times), rng.randint(1, calls))


def of_command(house: House, room: Path, rng: random.Random, number: int | None = None, twice: bool = False) -> Ending:
    """The command, a fork of this process, gets a signal at a drawn call within a drawn stage."""
    return _pressed(house, room, rng, rehearsed(house, "plain").moment(rng), number, twice)


def of_report(house: House, room: Path, rng: random.Random, number: int | None = None, twice: bool = False) -> Ending:
    """The same, when the model is saved and the report is made."""
    if importlib.util.find_spec("matplotlib") is None:
        raise SkippedError("matplotlib is not installed")
    return _pressed(house, room, rng, rehearsed(house, "report").moment(rng, but=rehearsed(house, "plain")), number, twice, True)


def _pressed(
    house: House, room: Path, rng: random.Random, moment: Moment, number: int | None, twice: bool, reporting: bool = False
) -> Ending:
    number = number or rng.choice(sorted(ASKED))
    gap = rng.choice(GAPS) if twice else None
    start = time.monotonic()
    outcome = forked(lambda: run_command(house, room / "out", reporting, Press(number, moment, gap, room / "pressed")))
    seconds = _since_pressed(room, start)
    try:
        return Ending(judged(house, room / "out", outcome, number, begun=True), seconds)
    except BrokenError as error:
        raise BrokenError(f"{signal.Signals(number).name} at {moment}, again after {gap} s: {error}") from error


def at_any_time(house: House, room: Path, rng: random.Random, number: int | None = None, twice: bool = False) -> Ending:
    """The command, a process of its own, gets a signal at any time from its start on."""
    number = number or rng.choice(sorted(ASKED))
    process = command(*order(house, room / "out", False), cache=house.cache)
    return _asked(house, room, rng, process, rng.uniform(0, 1.05 * rehearsed(house, "process").whole), number, twice)


def compiling(house: House, room: Path, rng: random.Random, number: int | None = None, twice: bool = False) -> Ending:
    """The same, with an empty cache, while it compiles."""
    number = number or rng.choice(sorted(ASKED))
    process = command(*order(house, room / "out", False), cache=room / "cache")
    assert process.stderr
    while "compiling" not in (line := process.stderr.readline()):
        require(line, "it does not say that it compiles")
    return _asked(house, room, rng, process, rng.expovariate(0.5), number, twice)


def _asked(house: House, room: Path, rng: random.Random, process: Any, delay: float, number: int, twice: bool) -> Ending:
    time.sleep(delay)
    start = time.monotonic()
    was_over = process.poll() is not None
    process.send_signal(number)
    if twice:
        time.sleep(rng.choice(GAPS))
        process.send_signal(number)
    outcome = ended(process)
    what = judged(house, room / "out", outcome, number, begun=False)
    return Ending(what, None if was_over else time.monotonic() - start)


def of_fit(house: House, room: Path, rng: random.Random, number: int | None = None, twice: bool = False) -> Ending:
    """`UNet.fit` in a program that takes no signals gets Ctrl-C: it returns, or raises what Python raises; the model is whole."""
    known = rehearsed(house, "fit")
    moment, gap = known.moment(rng), rng.choice(GAPS) if twice else None
    start = time.monotonic()
    outcome = forked(lambda: run_fit(house, Press(signal.SIGINT, moment, gap, room / "pressed")))
    seconds = _since_pressed(room, start)
    where = f"Ctrl-C at {moment}, again after {gap} s"
    orderly(outcome, 0)
    found = json.loads(outcome.out.splitlines()[-1])
    require(found["handler"], f"{where}: Ctrl-C is not as it was before")
    if moment.stage in BEFORE:
        require(found["raised"] and "weights" not in found, f"{where}: before the training: {found}")
        return Ending("none", seconds)
    require(twice or not found["raised"], f"{where}: it raised")
    require(found["raised"] or found["interrupted"], f"{where}: it returned a model that does not tell: {found}")
    require(found["raised"] or "interrupted after" in outcome.err, f"{where}: no warning: {outcome.told}")
    told = outcome.err.count("epoch ")
    if "weights" not in found:
        require(found["raised"] and told == 0, f"{where}: {told} epochs were told, and there is no model: {found}")
        return Ending("none", seconds)
    require(found["epochs"] >= told, f"{where}: epoch {told} was told: {found}")
    require(found["weights"] == known.weights[found["steps"] - 1], f"{where}: not the weights of step {found['steps']}")
    return Ending("kept", seconds)


def of_checkpoint(house: House, room: Path, rng: random.Random, number: int | None = None, twice: bool = False) -> Ending:
    """The same with a checkpoint gets SIGTERM or SIGHUP: it dies by it, and whoever resumes has the same bits in the end."""
    number = number or rng.choice([signal.SIGTERM, signal.SIGHUP])
    known = rehearsed(house, "checkpoint")
    moment, path = known.moment(rng), room / "out" / "checkpoint"
    path.parent.mkdir()
    start = time.monotonic()
    outcome = forked(lambda: run_fit(house, Press(number, moment, None, room / "pressed"), checkpoint=path))
    seconds = _since_pressed(room, start)
    where = f"{signal.Signals(number).name} at {moment}"
    require(outcome.status == -number, f"{where}: exit status {outcome.status}, not by the signal: {outcome.told}")
    require(path.exists() or moment.stage in BEFORE, f"{where}: no checkpoint")
    require_no_temporary(path.parent)
    resumed = forked(lambda: run_fit(house, checkpoint=path, resume=True))
    orderly(resumed, 0)
    found = json.loads(resumed.out.splitlines()[-1])
    require(not found["interrupted"] and found["weights"] == known.weights[-1], f"{where}: resumed, it has other bits: {found}")
    return Ending("none" if moment.stage in BEFORE else "kept", seconds)


def judged(house: House, folder: Path, outcome: Outcome, number: int, *, begun: bool) -> str:
    """Require what is promised of a command that was asked to end; return what came of it. begun : it took signals already."""
    if not begun and outcome.status == -number and "minunet/cli" not in outcome.err:
        require(not folder.exists() or not os.listdir(folder), "it had begun")
        return "before"
    orderly(outcome, 0, ASKED[signal.Signals(number)])
    told = max(map(int, re.findall(r"^epoch (\d+)/", outcome.err, re.MULTILINE)), default=0)
    path, page = folder / "model", folder / "report" / "report.html"
    require_no_temporary(folder)
    require(not page.exists() or page.read_bytes().rstrip().endswith(b"</html>"), "half a report")
    if not path.exists():
        require(told == 0 and outcome.status, f"{told} epochs were finished, and there is no model: {outcome.told}")
        require(any(text in outcome.err for text in NOTHING), f"no word of it: {outcome.told}")
        return "none"
    unet = minunet.load(path)
    steps = int(unet.history_["steps"][-1])
    require(unet.n_iter_ >= told, f"epoch {told} was told, and the model has {unet.n_iter_}")
    require(unet.interrupted_ or unet.n_iter_ == N_EPOCHS, f"{unet.n_iter_} epochs, and the model does not tell")
    require(unet.interrupted_ or steps == len(rehearsed(house, "plain").weights), f"{steps} steps, and the model does not tell")
    require(outcome.status or not unet.interrupted_, "exit status 0, and the training was cut short")
    require(digest(unet.network_) == rehearsed(house, "plain").weights[steps - 1], f"not the weights of step {steps}")
    return "kept" if unet.interrupted_ else "ended"


def require_no_temporary(folder: Path) -> None:
    left = [path.name for path in folder.rglob("*") if temporary(path.name)] if folder.exists() else []
    require(not left, f"{left} is there")


def order(house: House, folder: Path, reporting: bool) -> list[str]:
    """Return the words of the command that is interrupted, after `python`; make its folder."""
    folder.mkdir(exist_ok=True)
    report = ["--report", str(folder / "report")] if reporting else []
    words = ["-m", "minunet", "train", str(house.images), str(house.masks), "-o", str(folder / "model"), *TRAINING, *report]
    return [*words, "--max-epochs", str(N_EPOCHS)]


def run_command(house: House, folder: Path, reporting: bool, press: Press | None = None) -> None:
    """Be the program, here; on one thread, since those of this process are not in a fork of it."""
    from minunet.program import program

    sys.argv[1:] = [*order(house, folder, reporting)[2:], "--n-threads", "1"]
    program()


def run_fit(house: House, press: Press | None = None, **options: Any) -> None:
    """Fit, and print what came of it."""
    settings = SETTINGS | {"max_epochs": N_EPOCHS, "validation_fraction": 0.25, "random_state": 0, "n_threads": 1, "verbose": 1}
    unet, raised = minunet.UNet(**settings), False
    try:
        try:
            unet.fit(house.x, house.y, callbacks=[Callback()], **options)
        finally:
            if press:
                press.over()
    except KeyboardInterrupt:
        raised = True
    found: dict[str, Any] = {"raised": raised, "handler": signal.getsignal(signal.SIGINT) is signal.default_int_handler}
    if hasattr(unet, "network_"):
        found |= {"interrupted": unet.interrupted_, "weights": digest(unet.network_), "epochs": unet.n_iter_}
        found |= {"steps": int(unet.history_["steps"][-1])}
    print(json.dumps(found), flush=True)


@functools.cache
def rehearsed(house: House, what: str) -> Rehearsal:
    """Return what an undisturbed training of this kind is."""
    with house.room() as room:
        start = time.monotonic()
        if what == "process":
            orderly(ended(command(*order(house, room / "out", False), cache=house.cache)), 0)
            return Rehearsal({}, [], 0.0, time.monotonic() - start)

        def counted() -> None:
            count = Count()
            try:
                if what in ("plain", "report"):
                    run_command(house, room / "out", what == "report")
                else:
                    run_fit(house, **{"checkpoint": room / "checkpoint"} if what == "checkpoint" else {})
            finally:
                stages = {name: (stage.times, stage.calls) for name, stage in count.stages.items()}
                print("\n" + json.dumps([stages, count.weights, sorted(count.seconds)[len(count.seconds) // 2]]), flush=True)

        outcome = forked(counted)
        orderly(outcome, 0)
        stages, weights, step = json.loads(outcome.out.splitlines()[-1])
    own = {"plain": ("reading", "saving"), "report": ("judging", "report"), "checkpoint": ("checkpoint",)}.get(what, ())
    for name in ("preparing", "step", "validation", "end of an epoch", *own):
        require(stages[name][0], f"{name} is not where {STAGES[name]} says")
    return Rehearsal(stages, weights, step, time.monotonic() - start)


def _since_pressed(room: Path, start: float) -> float:
    told = room / "pressed"
    require(told.exists(), f"no signal was sent in {time.monotonic() - start:.1f} s")
    return time.monotonic() - float(told.read_text())


def _fault(name: str, what: str, trial: Any) -> Fault:
    def attempt(house: House, room: Path, rng: random.Random) -> int:
        trial(house, room, rng, twice=rng.random() < 0.4)
        return 1

    return Fault(f"interrupt: {name}", what, attempt)


FAULTS = (
    _fault("command", "a signal, or two, at any call of a command that trains", of_command),
    _fault("report", "the same while its report is made", of_report),
    _fault("fit", "Ctrl-C, once or twice, at any call of a fit", of_fit),
    _fault("checkpoint", "SIGTERM or SIGHUP at any call of a fit with a checkpoint", of_checkpoint),
    _fault("at any time", "a signal, or two, to a process that trains", at_any_time),
    _fault("compiling", "the same while it compiles", compiling),
)
