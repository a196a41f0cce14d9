"""Run as a program: signals interrupt trainings, whole processes and fits in Python, at drawn moments from start to end.

    PYTHONPATH=. python tests/interruptions.py --times 50 --seed 0      # a quarter of an hour

Ctrl-C so many times, Ctrl-C twice as often, SIGTERM and SIGHUP 2/5 as often. Of each it says what came of it: a model "kept"
as it was then, bit for bit that of a step that was finished, and flagged; a training that had "ended"; "none", where no epoch was
finished, which is told; or the end of Python itself, "before" the program began. And how long it took from the signal to the end
of the process, its imports, compilation, saving and report with it. What is "broken" is printed with the seed that repeats it.
"""

from __future__ import annotations

import argparse
import random
import signal
import statistics
import sys
import tempfile
from collections import Counter
from pathlib import Path

from faults import interruptions as kinds
from faults import moments
from faults.house import House
from faults.trial import BrokenError

ROWS = (
    ("command, at a drawn call", kinds.of_command, 1.0, signal.Signals),
    ("command, in its report", kinds.of_report, 0.2, signal.Signals),
    ("command, at a drawn time", kinds.at_any_time, 1.0, signal.Signals),
    ("command, while it compiles", kinds.compiling, 0.1, signal.Signals),
    ("fit in Python", kinds.of_fit, 1.0, [signal.SIGINT]),
    ("fit with a checkpoint", kinds.of_checkpoint, 1.0, [signal.SIGTERM, signal.SIGHUP]),
)
SIGNALS = (
    ("Ctrl-C", signal.SIGINT, False, 1.0), ("Ctrl-C twice", signal.SIGINT, True, 1.0), ("SIGTERM", signal.SIGTERM, False, 0.4),
    ("SIGHUP", signal.SIGHUP, False, 0.4),
)  # fmt: skip
CAME = ("kept", "ended", "none", "before", "broken")


def main(times: int, seed: int) -> int:
    """Print the table, row by row. Return 1 if anything broke."""
    moments.take_all()
    print(f"{'':28}{'signal':13} {'times':>5}{''.join(f'{name:>7}' for name in CAME)}   median    worst", flush=True)
    broken = 0
    with tempfile.TemporaryDirectory(prefix="minunet-interruptions-") as folder:
        house = House(Path(folder))
        for what, trial, share, taken in ROWS:
            for name, number, twice, part in SIGNALS:
                if number not in list(taken):
                    continue
                n = max(1, round(times * share * part))
                came, seconds = Counter(), []
                for i in range(seed, seed + n):
                    try:
                        with house.room() as room:
                            ending = trial(house, room, random.Random(f"{what}{name}{i}"), number, twice)
                        came[ending.what] += 1
                        seconds += [] if ending.seconds is None else [ending.seconds]
                    except BrokenError as error:
                        came["broken"] += 1
                        print(f"BROKEN  {what}, {name}, --times 1 --seed {i}: {error}", flush=True)
                figures = f"{statistics.median(seconds):7.2f} s{max(seconds):7.2f} s" if seconds else ""
                print(f"{what:28}{name:13} {n:5}" + "".join(f"{came[name]:7}" for name in CAME) + figures, flush=True)
                broken += came["broken"]
        step, whole = (kinds.rehearsed(house, kind) for kind in ("plain", "process"))
        print(f"a step takes {1e3 * step.step:.1f} ms (median), the whole command undisturbed {whole.whole:.1f} s")
    return 1 if broken else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=50, metavar="N", help="Ctrl-C so often, of each kind (default: 50)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="the first one (default: 0)")
    arguments = parser.parse_args()
    sys.exit(main(arguments.times, arguments.seed))
