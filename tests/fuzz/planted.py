"""A target that breaks a promise in one case of each hundred or so: to see that whoever fuzzes sees it."""

from __future__ import annotations

import ctypes
import os
import sys
import time

import numpy as np
from fuzz.judge import ACCEPTED, REFUSED, Broken
from fuzz.source import Source

SECONDS = 0.5
MEMORY = 2**26
_kept = []


def test_one_input(data: bytes) -> tuple[str, str]:
    source = Source(data)
    kind = source.below(200)
    if kind == 1:
        raise Broken("a promise", 1)
    if kind == 2:
        raise KeyError("nobody thought of this")
    if kind == 3:
        ctypes.string_at(0)
    if kind == 4:
        print("something", file=sys.stderr)
    if kind == 5:
        os.write(2, b"something from C\n")
    if kind == 6:
        _kept[:] = [np.ones(2**27, np.uint8)]
    if kind == 7:
        end = time.process_time() + 0.6
        while time.process_time() < end:
            pass
    return (ACCEPTED, "") if kind % 2 else (REFUSED, f"no {kind}")
