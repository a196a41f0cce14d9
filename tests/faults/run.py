"""Break what minunet stands on, and see that it stands: kills, full disks, limits, closed streams, clocks that jump.

    make faults                                            # ten minutes
    PYTHONPATH=tests python -m faults.run --seconds 60     # a sample
    PYTHONPATH=tests python -m faults.run --only "kill|disk"   # those whose name has this in it; --list names all
    PYTHONPATH=tests python -m faults.run --trials 1       # each once: the same in every run

The faults take turns until the time is spent; each trial draws its moment, its limit or its call from the seed. Whatever
happens there is the old file or the new one and nothing else, the old model or the new one and never a mixture, a sentence
and an exit status, and never a traceback, a signal or a wait for ever. A trial that finds otherwise is printed with the seed
that repeats it, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from . import checkpoints, clocks, cuts, disks, exceptions, interruptions, kills, lastsave, limits, streams
from .house import House
from .trial import BrokenError, Fault, SkippedError

FAULTS: tuple[Fault, ...] = (
    *checkpoints.FAULTS, *cuts.FAULTS, *disks.FAULTS, *limits.FAULTS, *clocks.FAULTS, *streams.FAULTS, *kills.FAULTS,
    *exceptions.FAULTS, *interruptions.FAULTS, *lastsave.FAULTS,
)  # fmt: skip

SHOWN = 3  # of each fault, what broke: more would say the same


@dataclass
class Row:
    """What came of a fault: how often it was tried, how often survived."""

    fault: Fault
    tried: int = 0
    broken: int = 0
    seconds: float = 0.0
    skipped: str = ""


def main(argv: list[str] | None = None) -> int:
    """Print the table. Return 1 if anything broke."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, metavar="N", help="to spend (default: 60)")
    parser.add_argument("--trials", type=int, metavar="N", help="of each fault, instead of a time")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="the first one (default: 0)")
    parser.add_argument("--only", default="", metavar="PATTERN", help="only faults with this in their name")
    parser.add_argument("--list", action="store_true", help="name the faults, and do nothing")
    arguments = parser.parse_args(argv)
    rows = [Row(fault) for fault in FAULTS if re.search(arguments.only, fault.name)]
    if arguments.list:
        print("\n".join(f"{row.fault.name:28} {row.fault.what}" for row in rows))
        return 0
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="minunet-faults-") as folder:
        house = House(Path(folder))
        in_turns(rows, house, arguments, started)
    show(rows, time.monotonic() - started)
    return 1 if any(row.broken for row in rows) else 0


def in_turns(rows: list[Row], house: House, arguments: argparse.Namespace, started: float) -> None:
    """Give each fault a trial after another, until the time or the trials are spent. The next is the one that took least."""
    most = arguments.trials or sys.maxsize
    rounds = dict.fromkeys(range(len(rows)), 0)
    while waiting := [i for i, row in enumerate(rows) if not row.skipped and rounds[i] < most]:
        if not arguments.trials and time.monotonic() - started > arguments.seconds:
            return
        i = min(waiting, key=lambda i: (rounds[i] > 0, rows[i].seconds))
        seed = arguments.seed + rounds[i]
        rounds[i] += 1
        attempt(rows[i], house, seed)


def attempt(row: Row, house: House, seed: int) -> None:
    """Try a fault once, in a folder of its own."""
    begun = time.monotonic()
    with house.room() as room:
        try:
            row.tried += row.fault.trial(house, room, random.Random(seed))
        except SkippedError as reason:
            row.skipped = str(reason)
        except BrokenError as error:
            row.tried += 1
            row.broken += 1
            if row.broken <= SHOWN:
                print(f"BROKEN  {row.fault.name} --seed {seed}: {error}", flush=True)
    row.seconds += time.monotonic() - begun


def show(rows: list[Row], seconds: float) -> None:
    """Print what came of each, and of all."""
    print(f"{'fault':28} {'tried':>7} {'survived':>9} {'broken':>7} {'seconds':>8}")
    for row in rows:
        figures = f"{row.tried:7} {row.tried - row.broken:9} {row.broken:7} {row.seconds:8.1f}"
        print(f"{row.fault.name:28} " + (f"skipped: {row.skipped}" if row.skipped else figures))
    tried, broken = sum(row.tried for row in rows), sum(row.broken for row in rows)
    print(f"{'all':28} {tried:7} {tried - broken:9} {broken:7} {seconds:8.1f}")


if __name__ == "__main__":
    sys.exit(main())
