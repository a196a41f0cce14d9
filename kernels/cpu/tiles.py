"""Many tiles: the product of a table of rows with one packed panel, which all convolutions are made of."""

from __future__ import annotations

import math
from typing import Any

from numba import carray

from .generated import narrow, pointer, tall
from .isa import ISA
from .jit import part

TALL, NARROW, PANEL, VECTOR = ISA.tall, ISA.narrow, ISA.panel_bytes, ISA.vector_bytes
ROWS = math.lcm(TALL, NARROW)  # tables of rows are filled up to a multiple of either tile's height


@part
def multiply(
    zero: Any, wide: bool, rows: int, a: tuple[int, ...], taps: tuple[int, ...], b: int, c: tuple[int, ...], end: tuple[int, ...]
) -> None:
    """Run a tile over all rows: that of two vectors where the panel b is `wide`, else of one.

    generated.py says on what: a is (rows, shift, stride), taps is (taps, how many, depth), c is (rows, shift), and the end
    is (accumulate, bias, relu).
    """
    if wide:
        for i in range(0, rows, TALL):
            tall(zero, a[0] + 8 * i, a[1], a[2], taps[0], taps[1], taps[2], b, c[0] + 8 * i, c[1], end[0], end[1], end[2])
    else:
        for i in range(0, rows, NARROW):
            narrow(zero, a[0] + 8 * i, a[1], a[2], taps[0], taps[1], taps[2], b, c[0] + 8 * i, c[1], end[0], end[1], end[2])


@part
def grid(table: int, filler: int, start: int, counts: tuple[int, int, int], steps: tuple[int, int, int]) -> None:
    """Fill a table with the addresses of a 3-D grid, the last axis first; what fills the last tile with `filler`."""
    count = counts[0] * counts[1] * counts[2]
    filled = -(-count // ROWS) * ROWS
    words = carray(pointer(0, table), (filled,))
    at = 0
    for i in range(counts[0]):
        for j in range(counts[1]):
            for k in range(counts[2]):
                words[at] = start + i * steps[0] + j * steps[1] + k * steps[2]
                at += 1
    for at in range(count, filled):
        words[at] = filler
