"""Philox4x32-10: random numbers that are a function of their number, so that each is drawn where it is needed, in any order.

Salmon, Moraes, Dror and Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3", section 3.3. A block of four 32-bit words is
a counter of four words, mixed with a key of two in ten rounds of multiplications.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Words = tuple[NDArray[np.uint64], ...]  # 32 bits each, in 64 that hold their products

MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
STEPS = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)  # of the key from round to round: the golden ratio's digits, and sqrt(3)'s
LOW, HALF = np.uint64(0xFFFFFFFF), np.uint64(32)


def philox4x32(counter: Words, key: Words) -> Words:
    """Return the four words of a counter of four under a key of two."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        first, second = MULTIPLIERS[0] * c0, MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (second >> HALF) ^ c1 ^ k0, second & LOW, (first >> HALF) ^ c3 ^ k1, first & LOW
        k0, k1 = (k0 + STEPS[0]) & LOW, (k1 + STEPS[1]) & LOW
    return c0, c1, c2, c3


def words(n: int, seed: int) -> NDArray[np.uint64]:
    """Return the first n words under a seed of 64 bits: word i is number i % 4 of the block whose counter is i // 4."""
    counter, key = np.arange(-(-n // 4), dtype=np.uint64), np.uint64(seed)
    zero = np.zeros_like(counter)
    block = philox4x32((counter & LOW, counter >> HALF, zero, zero), (key & LOW, key >> HALF))
    return np.stack(block, axis=1).ravel()[:n]  # (n / 4, 4) -> (n,)


def limit(rate: float) -> int:
    """Return how many of the 2^32 words are below the limit that a share `rate` is: none at 0, never all below 1."""
    return int(rate * 2**32)
