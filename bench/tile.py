"""How fast is the tile alone, with its data in the first-level cache, and would another shape be faster?

    python bench/tile.py

One thread. A tile of rows x vectors sums over 3 taps of 96 channels, again and again, on the same few kilobytes; shapes
take turns, medians. "share" is of the fastest here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import measure
import numba
import numpy as np

from minunet.kernels.cpu import generated
from minunet.kernels.cpu.isa import ISA
from minunet.kernels.cpu.threads import address

SHAPES = ((4, 2), (5, 2), (6, 2), (8, 2), (4, 3), (8, 1), (12, 1))  # rows, vectors
TAPS, DEPTH, CALLS = 3, 96, 4000
LANES = ISA.vector_bytes // 4


def main() -> None:
    """Time each shape, and print a table."""
    arguments = measure.parser(__doc__, repeat=15).parse_args()
    report = measure.Report(__doc__, arguments.json)
    seconds = measure.medians({f"{rows} x {vectors}": tile(rows, vectors) for rows, vectors in SHAPES}, arguments.repeat)
    speeds = {
        name: 2e-9 * rows * vectors * LANES * TAPS * DEPTH * CALLS / seconds[name]
        for (rows, vectors), name in zip(SHAPES, seconds, strict=True)
    }
    report.table(f"{ISA.name}, {LANES} floats a vector", ("rows x vectors", "GFLOP/s", "share"))
    for name, speed in speeds.items():
        report.row(name, f"{speed:.1f}", f"{speed / max(speeds.values()):.0%}")
    report.write(gflops=speeds)


def tile(rows: int, vectors: int) -> Callable[[], Any]:
    """Return what runs a tile of this shape CALLS times."""
    kernel = generated._tile(rows, vectors)

    @numba.njit(nogil=True)
    def run(zero: Any, a_rows: int, taps: int, b: int, c_rows: int) -> None:
        for _ in range(CALLS):
            kernel(zero, a_rows, 0, 4, taps, TAPS, DEPTH, b, c_rows, 0, 0, 0, 0)

    pixel = DEPTH + 8  # floats: pixels a power of two apart would share a set of the cache
    a, b = np.ones((rows + TAPS, pixel), np.float32), np.ones((TAPS * DEPTH, vectors * LANES), np.float32)
    c = np.zeros((rows, vectors * LANES), np.float32)
    tables = [address(a) + np.arange(rows) * 4 * pixel, np.arange(TAPS) * 4 * pixel, address(c) + np.arange(rows) * c.strides[0]]
    a_rows, taps, c_rows = map(address, tables)

    def timed() -> None:
        run(np.float32(0), a_rows, taps, address(b), c_rows)
        if not (c == TAPS * DEPTH).all():  # keeps a, b, c and the tables alive, too
            sys.exit(f"the tile of {rows} x {vectors} is wrong; tables {tables}, {a.shape}")

    return timed


if __name__ == "__main__":
    main()
