"""Fuzz minunet: cases by chance for each target, in processes of their own, so that one that dies is seen and named.

    make fuzz                                                    # all targets, 20 minutes
    PYTHONPATH=tests python -m fuzz.run --target model --seconds 60 --seed 7
    PYTHONPATH=tests python -m fuzz.run --target model --seed 7 --case 4711      # one case again; or --data HEX
    PYTHONPATH=tests python -m fuzz.run --target image --atheris                 # guided by coverage, where atheris is installed

A case is a function of target, seed and number. Exit status 1 where a promise was broken: what was raised, and the command that
shows it again, is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fuzz import targets
from fuzz.state import State
from fuzz.watch import HANG

ROOT = Path(__file__).resolve().parents[2]
SLICE = 60.0  # seconds of one target before the next one's turn
PATIENCE = 3 * HANG  # seconds without a next case: not even Python runs any more
START = 300  # seconds that a worker may take to start: kernels may have to be compiled


@dataclass
class Tally:
    """What came of one target."""

    target: str
    executions: int = 0
    refused: int = 0
    accepted: int = 0
    seconds: float = 0.0
    longest: float = 0.0
    memory: int = 0
    next_case: int = 0
    cold: bool = False
    messages: set[str] = field(default_factory=set)
    failures: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, numbers: dict[str, Any], seconds: float) -> None:
        self.executions += int(numbers["executions"])
        self.refused += int(numbers["refused"])
        self.accepted += int(numbers["accepted"])
        self.seconds += seconds
        self.longest = max(self.longest, numbers["longest"])
        self.memory = max(self.memory, int(numbers["memory"]))
        self.next_case = int(numbers["case"]) + 1

    def row(self) -> str:
        rate = self.executions / self.seconds if self.seconds else 0.0
        return (
            f"{self.target:10} {self.executions:>10,} {rate:>8,.0f} {self.refused:>10,} {self.accepted:>10,} "
            f"{len(self.messages):>6} {1000 * self.longest:>9,.0f} {self.memory / 2**20:>8,.1f} {len(self.failures):>8}"
        )


HEADINGS = (
    f"{'target':10} {'executions':>10} {'a second':>8} {'refused':>10} {'accepted':>10} {'kinds':>6} {'longest/ms':>9} "
    f"{'most/MiB':>8} {'failures':>8}"
)


def main() -> int:
    """Fuzz what the command line asks for; return the exit status."""
    options = _options()
    chosen = options.target or list(targets.SHARES)
    if options.case is not None or options.data is not None:
        return _again(options, chosen)
    tallies = {target: Tally(target) for target in chosen}
    started = time.monotonic()
    turn = _guided if options.atheris else _slice
    with ThreadPoolExecutor(options.jobs) as pool:
        for seconds in rounds(chosen, options.seconds * min(options.jobs, len(chosen))):
            list(pool.map(lambda target: turn(tallies[target], options.seed, seconds[target]), seconds))  # noqa: B023
    print("\n".join([HEADINGS, *(tally.row() for tally in tallies.values())]))
    total = sum(tally.executions for tally in tallies.values())
    failed = sum(len(tally.failures) for tally in tallies.values())
    print(f"{total:,} executions in {time.monotonic() - started:.0f} s; {failed} failures")
    for tally in tallies.values():
        for kind, record in tally.failures.items():
            print(f"\n{tally.target}: {kind}, {record['count']} times, first in case {record['case']} of seed {options.seed}")
            print(f"    {record['error'][:600]}\n    again: python -m fuzz.run --target {tally.target} --data {record['data']}")
            if options.traces:
                print(record["trace"][-1500:])
    return 1 if failed else 0


def rounds(chosen: Sequence[str], seconds: float) -> Iterable[dict[str, float]]:
    """Give the targets' turns, the longest first, round and round: each has its share of the time in all."""
    shares = dict(sorted(((target, targets.SHARES[target]) for target in chosen), key=lambda item: -item[1]))
    n = max(1, round(seconds / (SLICE * len(shares))))
    for _ in range(n):
        yield {target: seconds * share / sum(shares.values()) / n for target, share in shares.items()}


def environment(target: str) -> dict[str, str]:
    """Return a worker's: one thread; of images, memory from malloc that is never zero by chance (LLVM does not stand it)."""
    paths = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    perturbed = {"MALLOC_PERTURB_": "165"} if target == "image" else {}
    return os.environ | {"PYTHONPATH": paths, "MINUNET_NUM_THREADS": "1", "PYTHONHASHSEED": "0"} | perturbed


def room() -> tempfile.TemporaryDirectory[str]:
    """Return a folder for a worker, in memory if there is such: a disk would be asked a thousand times a second."""
    return tempfile.TemporaryDirectory(prefix="fuzz-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)


def _slice(tally: Tally, seed: str, seconds: float) -> None:
    """Let workers judge cases for so long; where one dies, the next goes on behind the case that killed it."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        before = tally.next_case
        if work(tally, ["--seed", seed, "--first", str(before), "--seconds", f"{left:.1f}"], seed):
            return


def work(tally: Tally, arguments: list[str], seed: str) -> bool:
    """Run one worker. Add what it did and found to the tally, and tell whether it came to its end."""
    with room() as place:
        folder = Path(place)
        state = State(folder / "state", fresh=True)
        state.write(case=(first := tally.next_case))
        command = [
            sys.executable,
            "-m",
            "fuzz.worker",
            tally.target,
            str(folder),
            *arguments,
            *(["--cold"] if tally.cold else []),
        ]
        with (folder / "output").open("w") as output:
            started = time.monotonic()
            own = environment(tally.target) | {"TMPDIR": place}
            process = subprocess.Popen(command, cwd=ROOT, env=own, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
            stuck = _waited(process, state)
        numbers = state.read()
        tally.add(numbers, time.monotonic() - started)
        _read(tally, (folder / "output").read_text(errors="replace"))
        if process.returncode == 0:
            return True
        what = "hangs beyond Python" if stuck else f"dies of {_signal(process.returncode)}"
        errors = (folder / "errors").read_text(errors="replace") if (folder / "errors").exists() else ""
        trace = (errors or (folder / "output").read_text(errors="replace"))[-3000:]
        from fuzz.source import by_chance
        from fuzz.worker import WARM

        case = int(numbers["case"])
        if not numbers["ready"]:
            if case >= 0 or tally.cold:
                raise SystemExit(f"the worker of {tally.target} {what} before its first case:\n{trace}")
            tally.cold, tally.next_case, seed, case = True, first, "warm", case + WARM
        data = by_chance(seed, tally.target, case).hex()
        _found(tally, {"kind": what, "case": case, "data": data, "error": f"the process {what}: {_where(trace)}", "trace": trace})
        return False


def _where(trace: str) -> str:
    """Return the first line of minunet's in what faulthandler wrote."""
    return next((line.strip() for line in trace.splitlines() if "/minunet/" in line or "/kernels/" in line), "")


def _signal(status: int) -> str:
    try:
        return signal.Signals(-status).name if status < 0 else f"exit status {status}"
    except ValueError:
        return f"signal {-status}"


def _waited(process: subprocess.Popen[bytes], state: State) -> bool:
    """Wait for a worker's end. One that is stuck is asked where, and killed: return whether it was."""
    last, since, limit = -1.0, time.monotonic(), START
    while True:
        try:
            process.wait(0.2)
            return False
        except subprocess.TimeoutExpired:
            pass
        numbers = state.read()
        if numbers["case"] != last or not numbers["ready"]:
            since = since if numbers["case"] == last else time.monotonic()
            last = numbers["case"]
        limit = PATIENCE if numbers["ready"] else START
        if time.monotonic() - since > limit:
            process.send_signal(signal.SIGUSR1)
            time.sleep(0.5)
            process.kill()
            process.wait()
            return True


def _read(tally: Tally, output: str) -> None:
    """Read what a worker printed: a line for each kind of failure, and at the end one of counts."""
    for line in output.splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if not isinstance(record, dict):
            continue
        if "messages" in record:
            tally.messages |= set(record["messages"])
            for kind, count in record["kinds"].items():
                if kind in tally.failures:
                    tally.failures[kind]["count"] += count - 1
        elif "kind" in record:
            _found(tally, record)


def _found(tally: Tally, record: dict[str, Any]) -> None:
    known = tally.failures.setdefault(record["kind"], record | {"count": 0})
    known["count"] += 1


def _guided(tally: Tally, seed: str, seconds: float) -> None:
    from fuzz import guided

    guided.run(tally, seed, seconds)


def _again(options: argparse.Namespace, chosen: list[str]) -> int:
    """Run one case again, with all that it says."""
    from fuzz.source import by_chance

    if len(chosen) != 1:
        raise SystemExit("one case is of one target: --target NAME")
    data = options.data if options.data is not None else by_chance(options.seed, chosen[0], options.case).hex()
    with room() as place:
        State(Path(place) / "state", fresh=True)
        command = [sys.executable, "-m", "fuzz.worker", chosen[0], place, "--data", data]
        done = subprocess.run(command, cwd=ROOT, env=environment(chosen[0]) | {"TMPDIR": place})
        print((Path(place) / "errors").read_text(errors="replace")[-3000:])
    return 1 if done.returncode else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fuzz.run", description="Give minunet what nobody should, and see that it says so.")
    parser.add_argument("--target", action="append", choices=list(targets.SHARES), help="this one; more than once for more")
    parser.add_argument("--seconds", type=float, default=60.0, metavar="N", help="in all (default: 60)")
    parser.add_argument("--seed", default="0", metavar="TEXT", help="chooses the cases: a commit's hash, say")
    parser.add_argument("--jobs", type=int, default=min(os.cpu_count() or 1, 2), metavar="N", help="targets at a time")
    parser.add_argument("--case", type=int, metavar="N", help="this case of the seed alone")
    parser.add_argument("--data", metavar="HEX", help="these bytes alone")
    parser.add_argument("--atheris", action="store_true", help="let coverage guide the bytes (pip install atheris)")
    parser.add_argument("--traces", action="store_true", help="print each failure's traceback, too")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
