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

import math
from typing import Any

import numpy as np
from numba import carray
from numpy.typing import NDArray

from ..buffers import empty
from ..geometry import Pair, evenly, output_hw
from .direct import pack_weights, target_of
from .generated import clear, copy, pointer
from .jit import part
from .packing import source, table
from .threads import address, jobs, launch
from .tiles import PANEL, ROWS, VECTOR, grid, multiply
from .transforms import finish, transform
from .windows import transform_inputs
from .winograd_matrices import FORWARD

Array = NDArray[np.floating]

BLOCK_TILES = 64
CHANNELS = 256  # a block
LEAST_COLUMNS, MOST_COLUMNS = 64, 256  # of a job: the more, the less is transformed again, but not so many that few jobs are left
JOBS = 8

TAPS = 9
LINE = 64  # bytes: planes lie as much off a multiple of 4096, or they would share one set of the cache

weights_4, output_4 = transform(FORWARD[4].g, FORWARD[4].divisor), finish(FORWARD[4].at)
weights_2, output_2 = transform(FORWARD[2].g, FORWARD[2].divisor), finish(FORWARD[2].at)


def conv2d(
    x: Array, w: Array, b: Array | None = None, *, m: int, padding: Pair, relu: bool = False, out: Array | None = None
) -> Array:
    """y = im2col(x) @ w + b, by tiles of m x m."""
    _, _, c, k = w.shape
    y = empty((x.shape[0], *output_hw(x.shape, (3, 3), (1, 1), padding), k), x.dtype) if out is None else out
    g = source(x, None, (3, 3), (1, 1), padding) | target_of(y, (0, 0), (1, 1))
    g |= {"weight_depth": k * w.itemsize, "weight_column": w.itemsize}
    _run(g, np.arange(TAPS) * c * k * w.itemsize, w, b, relu, m)
    return y


def conv2d_input_grad(
    dy: Array, w: Array, x_shape: tuple[int, ...], *, m: int, padding: Pair, mask: Array | None = None,
    b: Array | None = None, relu: bool = False, out: Array | None = None,
) -> Array:  # fmt: skip
    """dx: the convolution of dy with the taps in reverse."""
    dx = empty(x_shape, dy.dtype) if out is None else out
    g = source(dy, mask, (3, 3), (1, 1), (2 - padding[0], 2 - padding[1])) | target_of(dx, (0, 0), (1, 1))
    g |= {"weight_depth": w.itemsize, "weight_column": w.strides[2]}
    _run(g, np.arange(TAPS)[::-1] * w.strides[1], w, b, relu, m)
    return dx


def _run(g: dict[str, int], weight_taps: NDArray, w: Array, b: Array | None, relu: bool, m: int) -> None:
    """Compute all tiles, block after block."""
    if not g["n"] * g["p"] * g["q"]:
        return
    weight_taps = np.ascontiguousarray(weight_taps)
    g = _plan(g, m)
    g |= {"relu": int(relu), "b": 0 if b is None else address(b), "weights": address(w), "weight_taps": address(weight_taps)}
    n_jobs = -(-g["k"] * g["size"] // (PANEL * g["group"])) * g["n_blocks"]
    launch(_products, n_jobs, _scratch_bytes(g, m), w.dtype.type(0), table([g]), (0,) * m)


def _plan(g: dict[str, int], m: int) -> dict[str, int]:
    """Cut the tiles and the channels into blocks, and the panels into groups."""
    tiles = {"n": g["n"], "p": -(-g["p"] // m), "q": -(-g["q"] // m)}
    g = g | blocks(*tiles.values()) | {"m": m, "channels": evenly(g["c"], CHANNELS)}
    g["n_blocks"] = g["most_blocks"] = math.prod(-(-count // g[f"block_{axis}"]) for axis, count in tiles.items())
    groups = min(max(-(-g["k"] // MOST_COLUMNS), JOBS // g["n_blocks"]), -(-g["k"] // LEAST_COLUMNS))
    return g | {"group": -(-g["k"] * g["size"] // (PANEL * groups))}


def blocks(n: int, p: int, q: int) -> dict[str, int]:
    """Cut n grids of p x q tiles into even blocks of about BLOCK_TILES; of whole grids where they are small."""
    block_q = evenly(q, max(8, BLOCK_TILES // p))
    block_p = evenly(p, max(1, BLOCK_TILES // block_q))
    whole = block_p == p and block_q == q
    return {"block_n": evenly(n, max(1, BLOCK_TILES // (p * q))) if whole else 1, "block_p": block_p, "block_q": block_q}


def _scratch_bytes(g: dict[str, int], m: int) -> int:
    """Return what a job needs: see _one_job, which lays it out."""
    tiles = g["block_n"] * g["block_p"] * g["block_q"] + ROWS
    planes, size, channels = (m + 2) ** 2, g["size"], g["channels"] + VECTOR // g["size"]
    v, u = plane_bytes(tiles * channels * size), plane_bytes(channels * PANEL)
    sums = plane_bytes(_panels_kept(g) * tiles * PANEL)
    strip = g["block_n"] * (m * g["block_p"] + 2) * (m * g["block_q"] + 2) * PANEL
    return planes * (v + u + sums) + TAPS * channels * PANEL + 16 * tiles + PANEL + 8 + m * m * VECTOR + strip


def _panels_kept(g: dict[str, int]) -> int:
    """Return how many panels of sums a job keeps: one, where no other block of channels comes back to them."""
    return g["group"] if g["c"] > g["channels"] else 1


def plane_bytes(size: int) -> int:
    """Return how far apart planes of `size` bytes lie."""
    return -(-size // 4096) * 4096 + LINE


plane_bytes_compiled = part(plane_bytes)


@jobs
def _products(job: int, scratch: int, zero: Any, plans: Any, side: Any) -> None:
    """A job is (group of panels, block of tiles), the blocks counted fastest.

    `side` is m zeros: a tuple's length is part of its type, so that what other tiles need is not even compiled.
    """
    group, block = divmod(job, plans[0].n_blocks)
    _one_job(scratch, zero, plans[0], block, group, side)


@part
def _one_job(scratch: int, zero: Any, g: Any, block: int, group: int, side: Any) -> None:
    """Compute the panels of one group for one block of tiles."""
    m = g.m
    planes, width, n_p, n_q = (m + 2) ** 2, PANEL // g.size, -(-g.p // m), -(-g.q // m)
    rest, q0 = divmod(block, -(-n_q // g.block_q))
    n0, p0 = divmod(rest, -(-n_p // g.block_p))
    n0, p0, q0 = n0 * g.block_n, p0 * g.block_p, q0 * g.block_q
    n1, p1, q1 = min(n0 + g.block_n, g.n), min(p0 + g.block_p, n_p), min(q0 + g.block_q, n_q)
    tiles, most = (n1 - n0) * (p1 - p0) * (q1 - q0), g.block_n * g.block_p * g.block_q + ROWS
    channels = g.channels + VECTOR // g.size
    kept = g.group if g.c > g.channels else 1
    v_plane, u_plane = plane_bytes_compiled(most * channels * g.size), plane_bytes_compiled(channels * PANEL)
    m_plane = plane_bytes_compiled(kept * most * PANEL)
    v, u, sums = scratch, scratch + planes * v_plane, scratch + planes * (v_plane + u_plane)
    packed = sums + planes * m_plane
    v_rows = packed + TAPS * channels * PANEL
    m_rows = v_rows + 8 * most
    bias = m_rows + 8 * most
    no_offset = bias + PANEL
    spill = no_offset + 8
    laid_out = spill + m * m * VECTOR
    carray(pointer(0, no_offset), (1,))[0] = 0  # one tap: its transformed weights know no other
    k0, k1 = group * g.group * width, min((group + 1) * g.group * width, g.k)
    grid(m_rows, sums, sums, 1, 1, most // ROWS * ROWS, 0, 0, PANEL)  # a row of its own for each that fills a tile
    for c0 in range(0, g.c, g.channels):
        c1 = min(c0 + g.channels, g.c)
        pixel = -(-(c1 - c0) * g.size // VECTOR) * VECTOR
        grid(v_rows, v, v, 1, 1, tiles, 0, 0, pixel)
        transform_inputs(zero, g, side, n0, n1, p0, p1, q0, q1, c0, c1, laid_out, v, v_plane)
        for k in range(k0, k1, width):
            count = min(k1 - k, width)
            lanes = width if 2 * count > width else width // 2
            here = 0 if kept == 1 else (k - k0) // width * most * PANEL
            pack_weights(zero, g, c0, c1, k, count, lanes, packed)
            _transform_weights(zero, side, c1 - c0, lanes * g.size, packed, u, u_plane)
            for plane in range(planes):
                multiply(
                    zero, lanes == width, tiles, v_rows, plane * v_plane, g.size, no_offset, 1, c1 - c0, u + plane * u_plane,
                    m_rows, plane * m_plane + here, c0 > 0, 0, 0,
                )  # fmt: skip
            if c1 == g.c:
                if g.b:
                    clear(zero, bias, width)
                    copy(zero, bias, g.b + k * g.size, count)
                _finish_tiles(zero, g, side, n0, n1, p0, p1, q0, q1, k, count, sums + here, m_plane, bias, spill)


@part
def _transform_weights(zero: Any, side: Any, depth: int, row: int, packed: int, u: int, plane: int) -> None:
    """U[plane, c, k] = G w G^T, of a packed panel (tap, c, k)."""
    tap = depth * row
    for at in range(0, depth * row, VECTOR):
        if len(side) == 4:
            weights_4(zero, packed + at, 3 * tap, tap, u + at, 6 * plane, plane)
        else:
            weights_2(zero, packed + at, 3 * tap, tap, u + at, 4 * plane, plane)


@part
def _finish_tiles(
    zero: Any, g: Any, side: Any, n0: int, n1: int, p0: int, p1: int, q0: int, q1: int, k: int, count: int, sums: int, plane: int,
    bias: int, spill: int,
) -> None:  # fmt: skip
    """y = A^T M A, + b, relu. A vector or a tile that hangs over an edge goes by way of scratch."""
    m, lanes, b = g.m, VECTOR // g.size, bias if g.b else 0
    for n in range(n0, n1):
        for p in range(p0, p1):
            for q in range(q0, q1):
                y = g.y + n * g.y_n + m * p * g.y_p + m * q * g.y_q + k * g.size
                height, wide = min(m, g.p - m * p), min(m, g.q - m * q)
                for first in range(0, count, lanes):
                    at = first * g.size
                    if height == m and wide == m and first + lanes <= count:
                        _output(zero, side, sums + at, plane, y + at, g.y_p, g.y_q, b + at if b else 0, g.relu)
                    else:
                        _output(zero, side, sums + at, plane, spill, m * VECTOR, VECTOR, b + at if b else 0, g.relu)
                        _copy_spilt(zero, spill, m, y + at, g.y_p, g.y_q, height, wide, min(lanes, count - first))
                sums += PANEL


@part
def _copy_spilt(zero: Any, spill: int, m: int, y: int, row: int, column: int, height: int, width: int, count: int) -> None:
    """Copy what exists of a tile of outputs to y."""
    for i in range(height):
        for j in range(width):
            copy(zero, y + i * row + j * column, spill + (i * m + j) * VECTOR, count)


@part
def _output(zero: Any, side: Any, sums: int, plane: int, y: int, row: int, column: int, bias: int, relu: int) -> None:
    if len(side) == 4:
        output_4(zero, sums, 6 * plane, plane, y, row, column, bias, relu)
    else:
        output_2(zero, sums, 4 * plane, plane, y, row, column, bias, relu)
