"""Run as a program by `run`: cases of one target, one after another. What is wrong is printed, one JSON object a line."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
import traceback
from pathlib import Path

from fuzz import targets
from fuzz.judge import ACCEPTED, REFUSED, Broken
from fuzz.plants import PLANTS
from fuzz.source import by_chance, shrink
from fuzz.state import State
from fuzz.watch import Hang, Watch, fence

WARM = 20  # cases that are not judged, before the first that is


class Worker:
    """Judges cases, and remembers what was wrong by its kind: the first of a kind is shrunk and told, the others counted."""

    def __init__(self, target: str, folder: Path, shrinking: float) -> None:
        self.target, self.module, self.shrinking = target, targets.load(target), shrinking
        self.watch, self.state = Watch(self.module, folder / "errors"), State(folder / "state")
        self.kinds: dict[str, int] = {}
        self.messages: set[str] = set()
        self.counts = {REFUSED: 0, ACCEPTED: 0}
        self.longest, self.most = 0.0, 0

    def judge(self, data: bytes) -> BaseException | None:
        """Return what is wrong with a case."""
        try:
            with self.watch.case():
                verdict, message = self.module.test_one_input(data)
        except BaseException as error:
            return error
        self.counts[verdict] += 1
        self.messages.add(plain(message))
        return None

    def run(self, seed: str, first: int, seconds: float, most: int | None) -> None:
        """Judge cases by chance, from this number on, for so long; or so many."""
        end, case = time.monotonic() + seconds, first
        while time.monotonic() < end and (most is None or case < first + most):
            self.state.write(case=case)
            error = self.judge(data := by_chance(seed, self.target, case))
            if error is not None and late(error):  # at first use a kernel is compiled: that is not the case's time
                error = self.judge(data)
            self._note(case)
            if error is not None:
                self.tell(case, data, error)
            case += 1

    def _note(self, case: int) -> None:
        self.state.write(
            executions=self.state.read()["executions"] + 1, refused=self.counts[REFUSED], accepted=self.counts[ACCEPTED]
        )
        if self.watch.seconds > self.longest:
            self.longest = self.watch.seconds
            self.state.write(longest=self.longest, longest_case=case)
        if self.watch.memory > self.most:
            self.most = self.watch.memory
            self.state.write(memory=self.most, memory_case=case)

    def tell(self, case: int, data: bytes, error: BaseException) -> None:
        """Print what is wrong with a case, the first of its kind in the fewest bytes."""
        kind = kind_of(error)
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        if self.kinds[kind] > 1:
            return
        end, counts = time.monotonic() + self.shrinking, dict(self.counts)

        def fails(plainer: bytes) -> bool:
            found = self.judge(plainer) if time.monotonic() < end else None
            return found is not None and kind_of(found) == kind

        if not slow(error):
            data = shrink(data, fails)
        self.counts = counts
        text = "".join(traceback.format_exception(error))[-3000:]
        print(
            json.dumps({"case": case, "kind": kind, "data": data.hex(), "error": str(error)[:600] or repr(error), "trace": text}),
            flush=True,
        )


def plain(message: str) -> str:
    """Return a message without what is of one case alone: numbers, and what is quoted."""
    return re.sub(r"'[^']*'|\"[^\"]*\"|[-+]?\d[\d.,e+x]*", "#", message)[:100]


def kind_of(error: BaseException) -> str:
    """Return what makes two failures one: the promise that was broken, or what was raised where."""
    if isinstance(error, Broken):
        return error.promise
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "/fuzz/" not in frame.filename] or list(frames)
    return f"{type(error).__name__} in {Path(own[-1].filename).name}:{own[-1].name}"


def late(error: BaseException) -> bool:
    return isinstance(error, Broken) and " s of the processor" in error.promise


def slow(error: BaseException) -> bool:
    """Tell whether a failure is one of time or memory, which takes too long to see again and again."""
    return isinstance(error, Hang) or (isinstance(error, Broken) and error.promise.startswith("it takes"))


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("target")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", default="0")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--most", type=int)
    parser.add_argument("--cold", action="store_true", help="judge from the start: a case of the warming up is deadly")
    parser.add_argument("--data", help="this case alone, in hexadecimal digits")
    parser.add_argument("--plant", help="a fault of plants.py, to be found")
    parser.add_argument("--shrink", type=float, default=3.0, help="seconds in which the first of each kind is made plainer")
    parser.add_argument("--record", action="store_true", help="tell of it as of one among others")
    options = parser.parse_args()
    if options.plant:
        PLANTS[options.plant].plant()
    worker = Worker(options.target, options.folder, options.shrink)
    worker.judge(b"")  # which makes the seeds, and compiles
    getattr(worker.module, "warm_up", lambda: None)()
    fence()
    for number in range(0 if options.cold else WARM):  # what is imported and kept at first use is no case's
        worker.state.write(case=number - WARM)
        worker.judge(by_chance("warm", options.target, number))
    worker.watch.forget()
    worker.counts, worker.messages = dict.fromkeys(worker.counts, 0), set()
    worker.state.write(ready=1)
    if options.data is not None:
        error = worker.judge(data := bytes.fromhex(options.data))
        if options.record:
            if error is not None:
                worker.tell(0, data, error)
            return 0
        print(worker.counts, worker.messages)
        if error is not None:
            traceback.print_exception(error, file=sys.stdout)
            print("data", data.hex())
        return error is not None
    worker.run(options.seed, options.first, options.seconds, options.most)
    print(json.dumps({"kinds": worker.kinds, "messages": sorted(worker.messages)}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
