"""Run as a program: goes to every public door with every hostile array, under guard pages.

    python -m doors.walk PART               one of the table's, "numbers", or "all" of them, each in a process of its own

What is refused has a sentence; what is taken gives what the definitions in NumPy give of a plain copy. A byte read or written
outside an array ends the process: the last line that it printed says where.
"""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from typing import Any

import numpy as np
from doors import hostile
from doors.table import NUMBERS, PARTS, Door
from guarded import results_guarded

from minunet import kernels

REFUSALS = (ValueError, TypeError, FloatingPointError, MemoryError)

# "a is b; it takes c", or the like: what Python's own errors never say.
SENTENCE = (" takes ", " holds ", " has ", " is ", "Unable to allocate")


def outcome(call: Any, arrays: dict[str, Any]) -> Any:
    """Return what a call makes, as plain copies; or its refusal, once that is found to be a sentence."""
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = call(**arrays)
    except REFUSALS as error:
        text = str(error)
        assert len(text) < 2000 and any(word in text for word in SENTENCE), repr(error)
        return error
    return [np.array(a, copy=True) for a in (made if isinstance(made, (tuple, list)) else [made]) if a is not None]


def plain(a: Any) -> Any:
    """Return an array's own copy, as NumPy makes it."""
    return np.array(a, dtype=a.dtype.newbyteorder("="), copy=True, order="C") if isinstance(a, np.ndarray) else a


def same(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    """Tell whether two results agree, up to what Winograd's algorithm rounds; what is not finite is anywhere in both."""
    for a, b in zip(one, other, strict=True):
        finite = np.isfinite(a.astype(float)) & np.isfinite(b.astype(float))
        scale = max(1.0, float(np.abs(b[finite]).max(initial=0)))
        if a.shape != b.shape or a.dtype != b.dtype or not np.allclose(a[finite] / scale, b[finite] / scale, atol=1e-4):
            return False
    return True


def walk(name: str, door: Door, case: str, arrays: dict[str, Any], expected: str) -> str:
    """Go to a door once. Return what became of it."""
    print(f"{name}: {case}", flush=True)
    with kernels.use_backend("reference"):
        defined = outcome(door.call, {key: plain(a) for key, a in arrays.items()})
    with results_guarded(at_end=True), kernels.threads(2):
        found = outcome(door.call, {key: plain(a) if key not in case.split(" ", 1)[0] else a for key, a in arrays.items()})
    refused = isinstance(found, Exception)
    if refused:
        assert expected != hostile.SAME, f"refused: {found}"
        return "refused"
    assert expected != hostile.REFUSED, "taken"
    assert not isinstance(defined, Exception), f"taken, where a plain copy is refused: {defined}"
    assert expected == hostile.EXTREME or same(found, defined), "other numbers than those of the definition"
    return "taken"


def walk_arrays(part: str) -> str:
    """Go to a part's doors with hostile arrays. Return how it went."""
    counts, doors = {"refused": 0, "taken": 0}, PARTS[part]()
    for name, door in doors.items():
        assert walk(name, door, "as it should be", dict(door.arrays), hostile.SAME) == "taken"
        for key in door.arrays:
            for what, a, expected in hostile.cases(door, key):
                counts[walk(name, door, f"{key} {what}", door.arrays | {key: a}, expected)] += 1
        for what, arrays in hostile.overlaps(door):
            print(f"{name}: {what}", flush=True)
            with results_guarded(at_end=True):
                assert isinstance(outcome(door.call, arrays), ValueError), "taken"
            counts["refused"] += 1
    return f"{sum(counts.values())} calls: {counts['refused']} refused, {counts['taken']} taken, at {len(doors)} doors"


def walk_numbers() -> str:
    """Go to each door with hostile numbers. What is taken gives what the definition gives."""
    counts = {"refused": 0, "taken": 0}
    for name, (call, good) in NUMBERS.items():
        for n in (good, *hostile.NUMBERS):
            shown = "a number of 5000 digits" if type(n) is int and n > 10**4000 else repr(n)
            print(f"{name}: {shown}", flush=True)
            with kernels.use_backend("reference"):
                defined = outcome(lambda n=n, call=call: call(n), {})
            with results_guarded(at_end=True):
                found = outcome(lambda n=n, call=call: call(n), {})
            assert isinstance(found, Exception) == isinstance(defined, Exception), f"{found} here, {defined} by definition"
            assert n is not good or not isinstance(found, Exception), found
            if isinstance(found, Exception):
                counts["refused"] += 1
                continue
            assert all(np.isfinite(a).all() for a in found), "taken, and not finite"
            assert same(found, defined), "other numbers than those of the definition"
            counts["taken"] += 1
    return f"{sum(counts.values())} calls: {counts['refused']} refused, {counts['taken']} taken, at {len(NUMBERS)} doors"


def walk_all() -> str:
    """Walk each part in a process of its own. Return the sums of how it went."""
    sums = np.zeros(4, int)
    for part in (*PARTS, "numbers"):
        done = subprocess.run([sys.executable, "-m", "doors.walk", part], capture_output=True, text=True)
        assert done.returncode == 0, f"{part}: exit status {done.returncode}: {done.stdout[-300:]}{done.stderr[-3000:]}"
        sums += [int(number) for number in re.findall(r"\d+", done.stdout.splitlines()[-1])]
    return "{} calls: {} refused, {} taken, at {} doors".format(*sums)


def main(part: str) -> None:
    print(walk_all() if part == "all" else walk_numbers() if part == "numbers" else walk_arrays(part))


if __name__ == "__main__":
    main(sys.argv[1])
