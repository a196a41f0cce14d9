"""A 3x3 convolution of stride 1, and its input gradient, with a quarter of the multiplications: Winograd's F(m x m, 3 x 3).

For a tile of m x m outputs, whose windows see n x n inputs, n = m + 2 (winograd_matrices.py):

    y = A^T [ sum over c of  (G w G^T) * (B^T x B) ] A          * element by element: n n products instead of 9 m m

The sum over channels makes n n matrix products ("planes") of it, (tiles, C) @ (C, K), which tiles.py does.

    for group of panels of K, block of tiles:            one job, claimed by whichever thread is free
        for block of channels:
            V[plane, tile, c]       = B^T x B            of the image, or of a strip in scratch
            U[plane, panel, c, k]   = G w G^T            from weights packed as for the direct product
            M[plane, panel, tile, k] += V U              generated.py
        y = A^T M A, + b, relu

Each job transforms what it needs for itself: for 64 tiles and 64 outputs that is a tenth of the work, and it spares the
transformed weights, four times the weights, their memory and their way through it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import carray
from numpy.typing import NDArray

from ..buffers import empty
from ..geometry import Pair, evenly, output_hw
from .direct import PRODUCT, pack_weights, target_of
from .generated import claim, clear, copy, pointer
from .jit import jit, part
from .packing import inside, source, strip, table
from .threads import address, launch
from .tiles import PANEL, ROWS, VECTOR, grid, multiply
from .transforms import finish, transform
from .winograd_matrices import FORWARD

Array = NDArray[np.floating]

BLOCK_TILES = 64
GROUP_COLUMNS = 64
CHANNELS = 128  # a block

TAPS = 9
LINE = 64  # bytes: planes lie as much off a multiple of 4096, or they would share one set of the cache

input_4, weights_4, output_4 = transform(FORWARD[4].bt), transform(FORWARD[4].g, FORWARD[4].divisor), finish(FORWARD[4].at)
input_2, weights_2, output_2 = transform(FORWARD[2].bt), transform(FORWARD[2].g, FORWARD[2].divisor), finish(FORWARD[2].at)


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
    """Cut the tiles into blocks, and compute them all."""
    if not g["n"] * g["p"] * g["q"]:
        return
    weight_taps = np.ascontiguousarray(weight_taps)
    g |= _blocks(g["n"], -(-g["p"] // m), -(-g["q"] // m))
    width = PANEL // g["size"]
    panels = -(-g["k"] // width)
    g["group"] = evenly(panels, max(1, GROUP_COLUMNS // width))
    tiles = {"n": g["n"], "p": -(-g["p"] // m), "q": -(-g["q"] // m)}
    g["n_blocks"] = g["most_blocks"] = math.prod(-(-count // g[f"block_{axis}"]) for axis, count in tiles.items())
    g |= {"channels": evenly(g["c"], CHANNELS), "relu": int(relu), "b": 0 if b is None else address(b)}
    g |= {"weights": address(w), "weight_taps": address(weight_taps)}
    n_jobs = -(-panels // g["group"]) * g["n_blocks"]
    launch(_products, n_jobs, _scratch_bytes(g, m), w.dtype.type(0), table(PRODUCT, [g]), m)


def _blocks(n: int, p: int, q: int) -> dict[str, int]:
    """Cut n grids of p x q tiles into even blocks of about BLOCK_TILES; of whole grids where they are small."""
    block_q = evenly(q, max(8, BLOCK_TILES // p))
    block_p = evenly(p, max(1, BLOCK_TILES // block_q))
    whole = block_p == p and block_q == q
    return {"block_n": evenly(n, max(1, BLOCK_TILES // (p * q))) if whole else 1, "block_p": block_p, "block_q": block_q}


def _scratch_bytes(g: dict[str, int], m: int) -> int:
    """Return what a job needs: see _one_job, which lays it out."""
    tiles = g["block_n"] * g["block_p"] * g["block_q"] + ROWS
    planes, size, channels = (m + 2) ** 2, g["size"], g["channels"] + VECTOR // g["size"]
    v, u = plane_bytes(tiles * channels * size), plane_bytes(g["group"] * channels * PANEL)
    laid_out = g["block_n"] * (m * g["block_p"] + 2) * (m * g["block_q"] + 2) * channels * size
    sums = plane_bytes(g["group"] * tiles * PANEL)
    return planes * (v + u + sums) + TAPS * channels * PANEL + 24 * tiles + PANEL + 8 + m * m * PANEL + laid_out


def plane_bytes(size: int) -> int:
    """Return how far apart planes of `size` bytes lie."""
    return -(-size // 4096) * 4096 + LINE


plane_bytes_compiled = part(plane_bytes)


@jit
def _products(claims: int, n_jobs: int, scratch: int, zero: Any, plans: Any, m: int) -> None:
    """Compute jobs until none is left: (group of panels, block of tiles), the blocks counted fastest."""
    job = claim(claims)
    while job < n_jobs:
        group, block = divmod(job, plans[0].n_blocks)
        _one_job(scratch, zero, plans[0], block, group, m)
        job = claim(claims)


@part
def _one_job(scratch: int, zero: Any, g: Any, block: int, group: int, m: int) -> None:
    """Compute the panels of one group for one block of tiles."""
    planes, width, n_p, n_q = (m + 2) ** 2, PANEL // g.size, -(-g.p // m), -(-g.q // m)
    rest, q0 = divmod(block, -(-n_q // g.block_q))
    n0, p0 = divmod(rest, -(-n_p // g.block_p))
    n0, p0, q0 = n0 * g.block_n, p0 * g.block_p, q0 * g.block_q
    n1, p1, q1 = min(n0 + g.block_n, g.n), min(p0 + g.block_p, n_p), min(q0 + g.block_q, n_q)
    tiles, most = (n1 - n0) * (p1 - p0) * (q1 - q0), g.block_n * g.block_p * g.block_q + ROWS
    channels = g.channels + VECTOR // g.size
    v_plane, u_plane = plane_bytes_compiled(most * channels * g.size), plane_bytes_compiled(g.group * channels * PANEL)
    m_plane = plane_bytes_compiled(g.group * most * PANEL)
    v, u, sums = scratch, scratch + planes * v_plane, scratch + planes * (v_plane + u_plane)
    packed = sums + planes * m_plane
    x_rows = packed + TAPS * channels * PANEL
    v_rows = x_rows + 8 * most
    m_rows = v_rows + 8 * most
    bias = m_rows + 8 * most
    no_offset = bias + PANEL
    carray(pointer(0, no_offset), (1,))[0] = 0  # one tap: its transformed weights know no other
    spill = no_offset + 8
    laid_out = spill + m * m * PANEL
    k0, k1 = group * g.group * width, min((group + 1) * g.group * width, g.k)
    grid(m_rows, sums, sums, 1, 1, most // ROWS * ROWS, 0, 0, PANEL)  # a row of its own for each that fills a tile
    for c0 in range(0, g.c, g.channels):
        c1 = min(c0 + g.channels, g.c)
        pixel = -(-(c1 - c0) * g.size // VECTOR) * VECTOR
        grid(v_rows, v, v, 1, 1, tiles, 0, 0, pixel)
        row, column = address_tiles(zero, g, m, n0, n1, p0, p1, q0, q1, c0, c1, pixel, laid_out, x_rows)
        transform_inputs(zero, m, tiles, pixel, x_rows, row, column, v, v_plane)
        for k in range(k0, k1, width):
            count = min(k1 - k, width)
            lanes = width if 2 * count > width else width // 2
            pack_weights(zero, g, c0, c1, k, count, lanes, packed)
            at = (k - k0) // width
            _transform_weights(zero, m, c1 - c0, lanes * g.size, packed, u + at * channels * PANEL, u_plane)
        for plane in range(planes):
            for k in range(k0, k1, width):
                at = (k - k0) // width
                multiply(
                    zero, 2 * min(k1 - k, width) > width, tiles, v_rows, plane * v_plane, g.size, no_offset, 1, c1 - c0,
                    u + plane * u_plane + at * channels * PANEL, m_rows, plane * m_plane + at * most * PANEL, c0 > 0, 0, 0,
                )  # fmt: skip
    for k in range(k0, k1, width):
        count, at = min(k1 - k, width), (k - k0) // width
        if g.b:
            clear(zero, bias, width)
            copy(zero, bias, g.b + k * g.size, count)
        _finish_tiles(zero, g, m, n0, n1, p0, p1, q0, q1, k, count, sums + at * most * PANEL, m_plane, bias, spill)


@part
def address_tiles(
    zero: Any, g: Any, m: int, n0: int, n1: int, p0: int, p1: int, q0: int, q1: int, c0: int, c1: int, pixel: int,
    laid_out: int, x_rows: int,
) -> tuple[int, int]:  # fmt: skip
    """Fill the table of where each tile's inputs begin; return how far apart their rows and columns lie."""
    n, p, q = n1 - n0, p1 - p0, q1 - q0
    whole = pixel == (c1 - c0) * g.size
    if whole and g.mask == 0 and inside(g, m * p0, m * p1, m * q0, m * q1):
        row, image = g.w * g.x_pixel, g.h * g.w * g.x_pixel
        start = g.x + n0 * image + (m * p0 - g.pad_h) * row + (m * q0 - g.pad_w) * g.x_pixel + c0 * g.size
        grid(x_rows, start, start, n, p, q, image, m * row, m * g.x_pixel)
        return row, g.x_pixel
    row = (m * q + 2) * pixel
    if not whole:
        clear(zero, laid_out, n * (m * p + 2) * row // g.size)
    strip(zero, g, n0, n1, m * p0, m * p1, m * q0, m * q1, c0, c1, laid_out, pixel)
    grid(x_rows, laid_out, laid_out, n, p, q, (m * p + 2) * row, m * row, m * pixel)
    return row, pixel


@part
def transform_inputs(
    zero: Any, m: int, tiles: int, pixel: int, x_rows: int, row: int, column: int, v: int, plane: int
) -> None:
    """V[plane, tile, c] = B^T x B, a vector of channels at a time."""
    places = carray(pointer(0, x_rows), (tiles,))
    for tile in range(tiles):
        here = v + tile * pixel
        for at in range(0, pixel, VECTOR):
            if m == 4:
                input_4(zero, places[tile] + at, row, column, here + at, 6 * plane, plane)
            else:
                input_2(zero, places[tile] + at, row, column, here + at, 4 * plane, plane)


@part
def _transform_weights(zero: Any, m: int, depth: int, row: int, packed: int, u: int, plane: int) -> None:
    """U[plane, c, k] = G w G^T, of a packed panel (tap, c, k)."""
    tap = depth * row
    for at in range(0, depth * row, VECTOR):
        if m == 4:
            weights_4(zero, packed + at, 3 * tap, tap, u + at, 6 * plane, plane)
        else:
            weights_2(zero, packed + at, 3 * tap, tap, u + at, 4 * plane, plane)


@part
def _finish_tiles(
    zero: Any, g: Any, m: int, n0: int, n1: int, p0: int, p1: int, q0: int, q1: int, k: int, count: int, sums: int, plane: int,
    bias: int, spill: int,
) -> None:  # fmt: skip
    """y = A^T M A, + b, relu. A vector or a tile that hangs over an edge goes by way of scratch."""
    lanes, b = VECTOR // g.size, bias if g.b else 0
    for n in range(n0, n1):
        for p in range(p0, p1):
            for q in range(q0, q1):
                y = g.y + n * g.y_n + m * p * g.y_p + m * q * g.y_q + k * g.size
                height, wide = min(m, g.p - m * p), min(m, g.q - m * q)
                for first in range(0, count, lanes):
                    at = first * g.size
                    if height == m and wide == m and first + lanes <= count:
                        _output(zero, m, sums + at, plane, y + at, g.y_p, g.y_q, b + at if b else 0, g.relu)
                    else:
                        _output(zero, m, sums + at, plane, spill, m * VECTOR, VECTOR, b + at if b else 0, g.relu)
                        _copy_spilt(zero, spill, m, y + at, g.y_p, g.y_q, height, wide, min(lanes, count - first))
                sums += PANEL


@part
def _copy_spilt(zero: Any, spill: int, m: int, y: int, row: int, column: int, height: int, width: int, count: int) -> None:
    """Copy what exists of a tile of outputs to y."""
    for i in range(height):
        for j in range(width):
            copy(zero, y + i * row + j * column, spill + (i * m + j) * VECTOR, count)


@part
def _output(zero: Any, m: int, sums: int, plane: int, y: int, row: int, column: int, bias: int, relu: int) -> None:
    if m == 4:
        output_4(zero, sums, 6 * plane, plane, y, row, column, bias, relu)
    else:
        output_2(zero, sums, 4 * plane, plane, y, row, column, bias, relu)
