"""A 3x3 convolution of stride 1, and its input gradient, with a quarter of the multiplications: Winograd's F(m x m, 3 x 3).

For a tile of m x m outputs, whose windows see n x n inputs, n = m + 2 (winograd_matrices.py):

    y = A^T [ sum over c of  (G w G^T) * (B^T x B) ] A          * element by element: n n products instead of 9 m m

The sum over channels makes n n matrix products ("planes") of it, (tiles, C) @ (C, K), which tiles.py does.

    for group of panels of K, block of tiles:            one job, claimed by whichever thread is free
        for block of channels:
            V[plane, tile, c] = B^T x B                  windows.py
            for panel of the group:
                U[plane, c, k] = G w G^T                 from weights packed as for the direct product
                M[plane, tile, k] += V U                 generated.py
                y = A^T M A, + b, relu                   behind the last block of channels

Each job transforms what it needs for itself: that spares the transformed weights, four times the weights, their memory and
their way through it (docs/kernels.md tells what share it takes). U and M of one panel stay in the cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray
from numpy.typing import NDArray

from ..buffers import empty
from ..geometry import Pair, evenly, output_hw
from .generated import clear, copy, pointer
from .jit import part
from .packing import pack_weights
from .plans import LINE, Block, Plan, block_at, blocks, lanes_of, most_points, scratch, sizes, source, table, target, weights
from .threads import address, jobs, launch
from .tiles import PANEL, ROWS, VECTOR, grid, multiply
from .transforms import finish, transform
from .windows import strip_bytes, transform_inputs
from .winograd_matrices import FORWARD

Array = NDArray[np.floating]

BLOCK_TILES = 64
ROW_TILES = 8  # at least, where a row of an image has them
CHANNELS = 256  # a block
LEAST_COLUMNS, MOST_COLUMNS = 64, 256  # of a job: the more, the less is transformed again, but not so many that few jobs are left
JOBS = 8

TAPS = 9

transform_weights = transform({m: (f.g, f.divisor) for m, f in FORWARD.items()})
output = finish({m: f.at for m, f in FORWARD.items()})


def conv2d(
    x: Array, w: Array, b: Array | None = None, *, m: int, padding: Pair, relu: bool = False, out: Array | None = None
) -> Array:
    """y = im2col(x) @ w + b, by tiles of m x m."""
    _, _, c, k = w.shape
    y = empty((x.shape[0], *output_hw(x.shape, (3, 3), (1, 1), padding), k), x.dtype) if out is None else out
    taps = np.arange(TAPS) * (c * k * w.itemsize)
    _run({"x": source(x, None, (3, 3), (1, 1), padding), "y": target(y), "w": weights(w, taps)}, b, relu, m, y)
    return y


def conv2d_input_grad(
    dy: Array, w: Array, x_shape: tuple[int, ...], *, m: int, padding: Pair, mask: Array | None = None,
    b: Array | None = None, relu: bool = False, out: Array | None = None,
) -> Array:  # fmt: skip
    """dx: the convolution of dy with the taps in reverse."""
    dx = empty(x_shape, dy.dtype) if out is None else out
    x = source(dy, mask, (3, 3), (1, 1), (2 - padding[0], 2 - padding[1]))
    taps = np.ascontiguousarray(np.arange(TAPS)[::-1] * w.strides[1])
    _run({"x": x, "y": target(dx), "w": weights(w, taps, turned=True)}, b, relu, m, dx)
    return dx


def _run(g: Plan, b: Array | None, relu: bool, m: int, y: Array) -> None:
    """Compute all tiles, block after block."""
    if not y.size:
        return
    g = _plan(g, m) | {"b": 0 if b is None else address(b), "relu": int(relu)}
    n_jobs = -(-g["y"]["k"] * y.itemsize // (PANEL * g["group"])) * g["blocks"]["count"]
    launch(_products, n_jobs, g["scratch"]["bytes"], (y.dtype.type(0),) * m, table([g]))


def _plan(g: Plan, m: int) -> Plan:
    """Cut the tiles and the channels into blocks, and the panels into groups, and lay a job's scratch out."""
    x, y, size = g["x"], g["y"], g["x"]["size"]
    cut = blocks(y["n"], -(-y["p"] // m), -(-y["q"] // m), BLOCK_TILES, ROW_TILES)
    groups = min(max(-(-y["k"] // MOST_COLUMNS), JOBS // cut["count"]), -(-y["k"] // LEAST_COLUMNS))
    group, channels = -(-y["k"] * size // (PANEL * groups)), evenly(x["c"], CHANNELS)
    kept = group if x["c"] > channels else 1  # panels of sums: one, where no other block of channels comes back to them
    tiles, planes, wide = most_points(cut) + ROWS, (m + 2) ** 2, channels + VECTOR // size
    v, u, sums = plane_bytes(tiles * wide * size), plane_bytes(wide * PANEL), plane_bytes(kept * tiles * PANEL)
    pieces = scratch(
        v=planes * v, u=planes * u, sums=planes * sums, packed=TAPS * wide * PANEL, v_rows=8 * tiles, sum_rows=8 * tiles,
        bias=PANEL, no_offset=8, spill=m * m * VECTOR, strip=strip_bytes(cut, m),
    )  # fmt: skip
    return g | {
        "blocks": cut, "group": group, "channels": channels, "v": v, "u": u, "sums": sums,
        "panel": tiles * PANEL if kept > 1 else 0, "scratch": pieces,
    }  # fmt: skip


def plane_bytes(size: int) -> int:
    """Return how far apart planes of `size` bytes lie: a line off a multiple of 4096, lest all share one set of the cache."""
    return -(-size // 4096) * 4096 + LINE


@jobs
def _products(job: int, base: int, side: Any, plans: Any) -> None:
    """A job is the panels of one group for one block of tiles; of the jobs, the blocks are counted fastest.

    `side` is m zeros: a tuple's length is part of its type, so that what other tiles need is not even compiled.
    """
    g, zero, planes = plans[0], side[0], (len(side) + 2) ** 2
    x, y, at, width = g.x, g.y, g.scratch, PANEL // g.x.size
    group, number = divmod(job, g.blocks.count)
    block = block_at(g.blocks, number)
    n, p, q = sizes(block)
    tiles, most = n * p * q, g.blocks.block_n * g.blocks.block_p * g.blocks.block_q + ROWS
    v, u, packed, sums = base + at.v, base + at.u, base + at.packed, base + at.sums
    v_plane, u_plane, sums_plane = g.v, g.u, g.sums
    v_rows, sum_rows, no_offset = base + at.v_rows, base + at.sum_rows, base + at.no_offset
    carray(pointer(0, no_offset), (1,))[0] = 0  # one tap: its transformed weights know no other
    grid(sum_rows, sums, sums, (1, 1, most // ROWS * ROWS), (0, 0, PANEL))  # a row of its own for each that fills a tile
    k0, k1 = group * g.group * width, min((group + 1) * g.group * width, y.k)
    for c0 in range(0, x.c, g.channels):
        c1 = min(c0 + g.channels, x.c)
        pixel = -(-(c1 - c0) * x.size // VECTOR) * VECTOR
        grid(v_rows, v, v, (1, 1, tiles), (0, 0, pixel))
        transform_inputs(side, x, block, c0, c1, base + at.strip, v, (v_plane, PANEL, pixel))
        for k in range(k0, k1, width):
            count = min(k1 - k, width)
            lanes = lanes_of(count, width)
            here = (k - k0) // width * g.panel
            pack_weights(zero, g.w, c0, c1, k, count, lanes, packed)
            tap = (c1 - c0) * lanes * x.size
            for i in range(0, tap, VECTOR):  # U[plane, c, k] = G w G^T
                transform_weights(side, packed + i, 3 * tap, tap, u + i, (len(side) + 2) * u_plane, u_plane)
            for plane in range(planes):
                a, to = (v_rows, plane * v_plane, x.size), (sum_rows, plane * sums_plane + here)
                taps, end = (no_offset, 1, c1 - c0), (c0 > 0, 0, 0)
                multiply(zero, lanes == width, tiles, a, taps, u + plane * u_plane, to, end)
            if c1 == x.c:
                if g.b:
                    clear(zero, base + at.bias, width)
                    copy(zero, base + at.bias, g.b + k * x.size, count)
                _finish_tiles(side, g, base, block, k, count, sums + here)


@part
def _finish_tiles(side: Any, g: Any, base: int, block: Block, k: int, count: int, sums: int) -> None:
    """y = A^T M A, + b, relu. A vector or a tile that hangs over an edge goes by way of scratch."""
    m, y, size, spill, bias = len(side), g.y, g.x.size, base + g.scratch.spill, base + g.scratch.bias
    row, column, plane, relu = y.row, y.pixel, g.sums, g.relu
    for n in range(block.n0, block.n1):
        for p in range(block.p0, block.p1):
            for q in range(block.q0, block.q1):
                tile = y.start + n * y.image + m * p * row + m * q * column + k * size
                height, wide = min(m, y.p - m * p), min(m, y.q - m * q)
                for at in range(0, count * size, VECTOR):
                    b = bias + at if g.b else 0
                    if height == m and wide == m and at + VECTOR <= count * size:
                        output(side, sums + at, (m + 2) * plane, plane, tile + at, row, column, b, relu)
                    else:
                        output(side, sums + at, (m + 2) * plane, plane, spill, m * VECTOR, VECTOR, b, relu)
                        exist = min(VECTOR, count * size - at) // size
                        for i in range(height):
                            for j in range(wide):
                                here = tile + at + i * row + j * column
                                copy(side[0], here, spill + (i * m + j) * VECTOR, exist)
                sums += PANEL
