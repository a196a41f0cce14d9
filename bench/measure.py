"""What the scripts share: options, timing in turns, tables that print row by row and are kept as JSON, absent peers."""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from machine import Others, describe

from minunet import kernels
from minunet.files import atomic_write, require_writable

Run = Callable[[], object]
Config = tuple[int, int, int]  # batch, side, base channels
PAUSE = 0.01  # seconds before each run: OpenMP's threads spin for some ms after their work, in the time of who comes next
BUSY = ": too much to quote these figures (PyTorch's threads wait for each other at every barrier)"
SHORT = 0.05  # seconds
MOST_ROUNDS = 50  # of one comparison: more would not move a median that a reader sees


def parser(doc: str | None, *, repeat: int = 0, peers: str = "") -> argparse.ArgumentParser:
    """Return a parser with the script's docstring and the options that scripts share; 0: nothing is repeated."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    if repeat:
        counted = f"counted runs of each (default: {repeat}, after one to warm up)"
        made.add_argument("--repeat", type=whole, default=repeat, metavar="N", help=counted)
    made.add_argument("--json", type=Path, metavar="PATH", help="write the machine, the tables and the medians here too")
    if peers:
        made.add_argument("--skip-peers", action="store_true", help=f"leave out {peers}")
    return made


def whole(text: str) -> int:
    """Return a whole number from 1 up, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 up")
    return int(text)


def config(text: str) -> Config:
    """Return batch, side and base channels, for argparse."""
    try:
        batch, side, base = map(int, text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not BATCH,SIDE,BASE, as in 4,256,16") from None
    return batch, side, base


def name_of(batch: int, side: int, base: int) -> str:
    """Return how a configuration is called in tables."""
    return f"batch {batch}, {side} x {side}, base {base}"


def data(batch: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return random images (N, H, W, 1) and labels."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((batch, side, side, 1), np.float32), rng.integers(0, 2, (batch, side, side))


def installed(module: str, called: str) -> bool:
    """Tell whether a peer is there; say by name that it is skipped where it is not."""
    if find_spec(module):
        return True
    print(f"{called} is not installed: skipped (pip install 'minunet[bench]')")
    return False


def load(module: str) -> Any:
    """Import a peer that is installed; without a type, for most of them bring none."""
    return importlib.import_module(module)


def medians(runs: Mapping[str, Run], repeat: int, *, warm_up: bool = True, seconds: float = 0) -> dict[str, float]:
    """Return each one's median seconds; they take turns, so that a noisy minute is shared.

    There are `repeat` rounds, and more until `seconds` are spent (short runs need many to be told apart). A short run is
    made twice in its turn and timed the second time: the pause let the others' threads sleep, and its own caches cool.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    rounds = -1 if warm_up else 0
    begun = time.perf_counter()
    while rounds < repeat or (rounds < MOST_ROUNDS and time.perf_counter() - begun < seconds):
        for name, run in runs.items():
            time.sleep(PAUSE)
            if times[name] and times[name][-1] < SHORT:
                run()
            start = time.perf_counter()
            run()
            if rounds >= 0:
                times[name].append(time.perf_counter() - start)
        rounds += 1
    return {name: statistics.median(values) for name, values in times.items()}


class Report:
    """A script's output: what it was measured on, and tables; printed as they come, and kept for --json."""

    def __init__(self, doc: str | None, path: Path | None = None) -> None:
        self.path = path
        if path:  # stop now at what would fail after minutes
            path.parent.mkdir(parents=True, exist_ok=True)
            require_writable(path)
        self.question = (doc or "").strip().splitlines()[0]
        self.machine = f"{describe()}\nminunet's kernels: {kernels.available()[-1]}"  # "reference" where Numba does not work
        self.tables: list[dict[str, Any]] = []
        self.others = Others()
        print(self.machine)

    def note(self, line: str) -> None:
        """Print a line that belongs to the figures, and keep it beside the machine."""
        self.machine += f"\n{line}"
        print(line)

    def table(self, title: str, columns: Sequence[str], width: int = 26, others: int = 9) -> None:
        """Begin a table; its first column holds text and is `width` wide, the others hold numbers, `others` wide or more."""
        self._widths = [width, *(max(len(name), others) + 2 for name in columns[1:])]
        self.tables.append({"title": title, "columns": list(columns), "rows": []})
        print(f"\n{title}")
        self._print(columns)

    def row(self, *cells: str) -> None:
        """Add a row to the latest table, and print it."""
        self.tables[-1]["rows"].append(list(cells))
        self._print(cells)

    def _print(self, cells: Sequence[str]) -> None:
        first, *others = cells
        padded = (f" {cell}".rjust(width) for cell, width in zip(others, self._widths[1:], strict=True))
        print(f"{first:{self._widths[0]}}" + "".join(padded), flush=True)

    def write(self, **values: Any) -> None:
        """Say what others did meanwhile; write everything, and `values` unrounded, as JSON where a path was given."""
        share = self.others.share()
        if share is not None:
            print()
            self.note(f"other programs took {share:.0%} of the cores' time" + (BUSY if share > 0.05 else ""))
        if self.path is None:
            return
        command = " ".join(["python", f"bench/{Path(sys.argv[0]).name}", *_without_json(sys.argv[1:])])
        kept = {"question": self.question, "command": command, "machine": self.machine, "tables": self.tables}
        atomic_write(self.path, json.dumps(kept | values, indent=1).encode())


def _without_json(options: list[str]) -> list[str]:
    """Return the options less --json PATH: where the figures went does not belong to what was measured."""
    kept = iter(options)
    return [o for o in kept if not (o.startswith("--json=") or (o == "--json" and next(kept, True)))]
