"""Where every random draw of training comes from."""

from __future__ import annotations

import zlib

import numpy as np


def generator(random_state: int, purpose: str, *counters: int) -> np.random.Generator:
    """Return a generator that depends on its arguments alone: not on threads, nor on what was drawn before.

    One purpose has one number of counters: zeros at the end make no difference to NumPy's SeedSequence.
    """
    return np.random.default_rng([random_state, zlib.crc32(purpose.encode()), *counters])
