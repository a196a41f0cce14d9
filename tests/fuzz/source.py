"""Decisions, read from bytes: one byte string is one case, for libFuzzer, for Hypothesis and for plain chance alike.

Zeros, and all that is asked of a string that has ended, are the first choice everywhere, which is the plainest one: so a case
gets plainer where bytes of it are left out or set to 0, and `shrink` needs to know no more of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

SIZE = 192  # bytes of a case by chance

# Where integers break: around the powers of two that are limits somewhere, and beyond all of them.
EDGES = (
    0, 1, -1, 2, 3, 4, 7, 8, 15, 16, 17, 127, 128, 255, 256, 257, 32767, 32768, 65535, 65536, 2**20, 2**24, 2**31 - 1, 2**31,
    2**32 - 1,
    2**32, 2**53, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**30, -2, -128, -(2**15), -(2**31), -(2**31) - 1, -(2**63), -(2**63) - 1,
)  # fmt: skip


def by_chance(seed: str, target: str, number: int) -> bytes:
    """Return a case: a function of the three, on every machine."""
    return hashlib.shake_256(f"{seed}/{target}/{number}".encode()).digest(SIZE)


class Source:
    """Reads decisions from bytes, in order."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, n: int) -> bytes:
        """Return the next n bytes; fewer at the end."""
        self.at += n
        return self.data[self.at - n : self.at]

    def rest(self) -> bytes:
        """Return all that is left."""
        return self.take(max(0, len(self.data) - self.at))

    def word(self, n: int) -> int:
        return int.from_bytes(self.take(n), "little")

    def below(self, n: int) -> int:
        """Return a whole number from 0 to n - 1."""
        return self.word(1 if n <= 2**6 else 2 if n <= 2**13 else 4) % n

    def between(self, least: int, most: int) -> int:
        return least + self.below(most - least + 1)

    def choice(self, items: Sequence[Any]) -> Any:
        return items[self.below(len(items))]

    def once_in(self, n: int) -> bool:
        """Tell "yes" once in n times, never where there is nothing left."""
        return self.below(n) == n - 1

    def edge(self) -> int:
        """Return a whole number at an edge, or one step from it."""
        return self.choice(EDGES) + self.choice((0, 0, 0, 1, -1))


def shrink(data: bytes, fails: Callable[[bytes], bool], tries: int = 400) -> bytes:
    """Return a shorter, plainer case that still fails: bytes are cut off at the end, taken out, and set to 0."""
    before, size = b"", len(data)
    while size and tries > 0:
        for cut in (lambda d, i, n: d[:i], lambda d, i, n: d[:i] + d[i + n :], lambda d, i, n: d[:i] + bytes(n) + d[i + n :]):
            for start in range(0, len(data), size):
                plainer = cut(data, start, min(size, len(data) - start))
                if start < len(data) and plainer != data and tries > 0:
                    tries -= 1
                    data = plainer if fails(plainer) else data
        size, before = (size // 2, data) if size > 1 or data == before else (size, data)
    return data
