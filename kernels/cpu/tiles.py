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
    zero: Any, wide: bool, rows: int, a_rows: int, a_shift: int, a_stride: int, taps: int, n_taps: int, depth: int, b: int,
    c_rows: int, c_shift: int, accumulate: int, bias: int, relu: int,
) -> None:  # fmt: skip
    """Run a tile (generated.py says on what) over all rows: that of two vectors where the panel is `wide`, else of one."""
    if wide:
        for i in range(0, rows, TALL):
            tall(
                zero, a_rows + 8 * i, a_shift, a_stride, taps, n_taps, depth, b, c_rows + 8 * i, c_shift, accumulate, bias, relu
            )  # fmt: skip
    else:
        for i in range(0, rows, NARROW):
            narrow(
                zero, a_rows + 8 * i, a_shift, a_stride, taps, n_taps, depth, b, c_rows + 8 * i, c_shift, accumulate, bias, relu
            )  # fmt: skip


@part
def grid(table: int, filler: int, start: int, n: int, p: int, q: int, n_step: int, p_step: int, q_step: int) -> None:
    """Fill a table with the addresses start + i n_step + j p_step + k q_step in order; what fills the last tile with `filler`."""
    count = n * p * q
    filled = -(-count // ROWS) * ROWS
    words = carray(pointer(0, table), (filled,))
    at = 0
    for i in range(n):
        for j in range(p):
            for k in range(q):
                words[at] = start + i * n_step + j * p_step + k * q_step
                at += 1
    for at in range(count, filled):
        words[at] = filler
