"""The weight gradient of a 3x3 convolution of stride 1, by Winograd's F(3 x 3, m x m): dy is the kernel, dw the output.

    dw = A^T [ sum over tiles of  (G dy G^T) * (B^T x B) ] A        n n products a tile instead of 9 m m

The sum over tiles makes n n matrix products ("planes") of it, (C, tiles) @ (tiles, K).

    for chunk of blocks, group of k, group of c:         one job, claimed by whichever thread is free
        for block of tiles in the chunk:
            V[plane, tile, c]        = B^T x B           windows.py
            D[plane, panel, tile, k] = G dy G^T          of dy where mask > 0; the sum of that is the chunk's db
            S[plane, panel, c, k]   += V^T D             generated.py
        the chunk's partial dw = A^T S A                 9 taps, so that what is stored is small
    dw = the partial sums, added in the order of the chunks
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import carray
from numpy.typing import NDArray

from ..buffers import empty
from ..geometry import Pair, evenly
from .direct_weight_grad import ELEMENTS, PARTIAL_BYTES, add_partials
from .generated import add_pixels, copy, pointer
from .jit import part
from .packing import source, table
from .threads import address, jobs, launch
from .tiles import PANEL, ROWS, VECTOR, multiply
from .transforms import transform
from .windows import transform_dy, transform_inputs
from .winograd import blocks, plane_bytes, plane_bytes_compiled
from .winograd_matrices import WEIGHT_GRAD

Array = NDArray[np.floating]

GROUPS = 128, 64  # channels of x, and of dy, of a job: the more, the less is transformed again; the first that leaves ENOUGH
ENOUGH = 16  # jobs
JOBS = 32  # wanted, where the shape has them, and where chunks for them do not take more than PARTIAL_BYTES
CHUNK_BLOCKS = 2  # at least: to transform the sums back costs a tenth of a block

taps_2, taps_4 = (transform(w.at, w.divisor / w.power) for w in (WEIGHT_GRAD[2], WEIGHT_GRAD[4]))


def conv2d_weight_grad(
    x: Array, dy: Array, w_shape: tuple[int, ...], *, m: int, padding: Pair, mask: Array | None = None
) -> tuple[Array, Array]:
    """dw = im2col(x)^T @ dy, and db = sum of dy: one partial sum a chunk, added in order."""
    _, _, c, k = w_shape
    if not dy.size:
        return np.zeros(w_shape, x.dtype), np.zeros(k, x.dtype)
    zero = x.dtype.type(0)
    g = _plan(source(x, None, (3, 3), (1, 1), padding), dy.shape, m)
    partial, sums = empty((g["n_chunks"], 9 * c, k), x.dtype), np.empty((g["n_chunks"], k))
    g |= {"dw": address(partial), "db": address(sums)}
    rows = [g, g | source(dy, mask, (1, 1), (1, 1), (0, 0))]
    launch(_products, _n_groups(g) * g["n_chunks"], _scratch_bytes(g, m), zero, table(rows), (0,) * m)
    dw = empty(w_shape, x.dtype) if len(partial) > 1 else partial.reshape(w_shape)
    if len(partial) > 1:
        launch(add_partials, -(-dw.size // ELEMENTS), 0, zero, address(partial), len(partial), address(dw), dw.size)
    return dw, sums.sum(axis=0).astype(x.dtype)


def _plan(g: dict[str, int], dy_shape: tuple[int, ...], m: int) -> dict[str, int]:
    """Choose blocks, groups and chunks."""
    n, p, q, k = dy_shape
    n_p, n_q, width = -(-p // m), -(-q // m), PANEL // g["size"]
    g |= {"m": m, "n": n, "p": p, "q": q, "n_p": n_p, "n_q": n_q, "k": k} | blocks(n, n_p, n_q)
    g["n_blocks"] = math.prod(-(-g[count] // g[f"block_{axis}"]) for axis, count in {"n": "n", "p": "n_p", "q": "n_q"}.items())
    affordable = PARTIAL_BYTES // (9 * g["c"] * k * g["size"])
    for group in GROUPS:
        g |= {"group_c": evenly(g["c"], group), "group_k": -(-evenly(k, group) // width) * width}
        g["n_chunks"] = max(1, min(-(-JOBS // _n_groups(g)), g["n_blocks"] // CHUNK_BLOCKS, affordable))
        if _n_groups(g) * g["n_chunks"] >= ENOUGH:
            break
    return g


def _n_groups(g: dict[str, int]) -> int:
    return -(-g["c"] // g["group_c"]) * -(-g["k"] // g["group_k"])


def _scratch_bytes(g: dict[str, int], m: int) -> int:
    """Return what a job needs: see _one_job, which lays it out."""
    planes, tiles, size = (m + 2) ** 2, g["block_n"] * g["block_p"] * g["block_q"], g["size"]
    panels, pixel = g["group_k"] * size // PANEL, -(-g["group_c"] * size // VECTOR) * VECTOR
    height = g["group_c"] + ROWS
    v, d, sums = plane_bytes(tiles * pixel), plane_bytes(panels * tiles * PANEL), plane_bytes(panels * height * PANEL)
    strip = g["block_n"] * (m * g["block_p"] + 2) * (m * g["block_q"] + 2) * PANEL
    return planes * (v + d + sums) + d + 16 * height + 8 + 9 * VECTOR + strip


@jobs
def _products(job: int, scratch: int, zero: Any, plans: Any, side: Any) -> None:
    """A job is (chunk, group of k, group of c), the groups of c counted fastest."""
    g = plans[0]
    rest, group_c = divmod(job, -(-g.c // g.group_c))
    chunk, group_k = divmod(rest, -(-g.k // g.group_k))
    _one_job(scratch, zero, g, plans[1], chunk, group_k * g.group_k, group_c * g.group_c, side)


@part
def _one_job(scratch: int, zero: Any, g: Any, gdy: Any, chunk: int, k0: int, c0: int, side: Any) -> None:
    """Sum one chunk for a group of k and a group of c, and store the partial sum."""
    planes, most, width = (g.m + 2) ** 2, g.block_n * g.block_p * g.block_q, PANEL // g.size
    k1, c1 = min(k0 + g.group_k, g.k), min(c0 + g.group_c, g.c)
    panels, pixel = g.group_k // width, -(-(c1 - c0) * g.size // VECTOR) * VECTOR
    height = g.group_c + ROWS
    v_plane = plane_bytes_compiled(most * (-(-g.group_c * g.size // VECTOR) * VECTOR))
    d_plane, s_plane = plane_bytes_compiled(panels * most * PANEL), plane_bytes_compiled(panels * height * PANEL)
    v, d, sums = scratch, scratch + planes * v_plane, scratch + planes * v_plane + (planes + 1) * d_plane
    c_rows = sums + planes * s_plane
    s_rows = c_rows + 8 * height
    no_offset = s_rows + 8 * height
    spill = no_offset + 8
    laid_out = spill + 9 * VECTOR
    _address_channels(g.size, c1 - c0, height, c_rows, sums, s_rows, no_offset)
    if c0 == 0:
        carray(pointer(0.0, g.db + (chunk * g.k + k0) * 8), (k1 - k0,))[:] = 0
    first = chunk * g.n_blocks // g.n_chunks
    for block in range(first, (chunk + 1) * g.n_blocks // g.n_chunks):
        rest, q0 = divmod(block, -(-g.n_q // g.block_q))
        n0, p0 = divmod(rest, -(-g.n_p // g.block_p))
        n0, p0, q0 = n0 * g.block_n, p0 * g.block_p, q0 * g.block_q
        n1, p1, q1 = min(n0 + g.block_n, g.n), min(p0 + g.block_p, g.n_p), min(q0 + g.block_q, g.n_q)
        tiles = (n1 - n0) * (p1 - p0) * (q1 - q0)
        transform_inputs(zero, g, side, n0, n1, p0, p1, q0, q1, c0, c1, laid_out, v, v_plane)
        transform_dy(zero, gdy, side, n0, n1, p0, p1, q0, q1, k0, k1, laid_out, d, d_plane, most * PANEL)
        if c0 == 0:
            _add_bias_grad(zero, g, chunk, k0, k1, tiles, d + planes * d_plane, most * PANEL)
        last = block + 1 == (chunk + 1) * g.n_blocks // g.n_chunks
        for k in range(k0, k1, width):
            at, count = (k - k0) // width, min(k1 - k, width)
            for plane in range(planes):
                multiply(
                    zero, 2 * count > width, c1 - c0, c_rows, v + plane * v_plane, pixel, no_offset, 1, tiles,
                    d + plane * d_plane + at * most * PANEL, s_rows, plane * s_plane + at * height * PANEL, block > first,
                    0, 0,
                )  # fmt: skip
            if last:
                _store(zero, g, side, chunk, k, count, c0, c1, sums + at * height * PANEL, s_plane, spill)


@part
def _address_channels(size: int, count: int, height: int, c_rows: int, sums: int, s_rows: int, no_offset: int) -> None:
    """Fill the tables of the channels' places in a tile of V and of their sums. Rows too many read the first channel."""
    channels, places = carray(pointer(0, c_rows), (height,)), carray(pointer(0, s_rows), (height,))
    for i in range(height):
        channels[i] = i * size if i < count else 0
        places[i] = sums + i * PANEL
    carray(pointer(0, no_offset), (1,))[0] = 0  # one tap: the tiles follow each other


@part
def _add_bias_grad(zero: Any, g: Any, chunk: int, k0: int, k1: int, tiles: int, totals: int, panel: int) -> None:
    """Add the tiles' sums of dy to the chunk's db, in float64."""
    width = PANEL // g.size
    for k in range(k0, k1, width):
        count = min(k1 - k, width)
        row = PANEL if 2 * count > width else VECTOR
        add_pixels(zero, g.db + (chunk * g.k + k) * 8, totals + (k - k0) // width * panel, row, tiles, count)


@part
def _store(
    zero: Any, g: Any, side: Any, chunk: int, k: int, count: int, c0: int, c1: int, sums: int, plane: int, spill: int
) -> None:  # fmt: skip
    """dw = A^T S A for one panel: 9 taps. A vector that hangs over the last channel goes by way of scratch."""
    lanes, column = VECTOR // g.size, g.c * g.k * g.size
    for c in range(c0, c1):
        for first in range(0, count, lanes):
            here, dw = sums + first * g.size, g.dw + chunk * 9 * column + (c * g.k + k + first) * g.size
            if first + lanes <= count:
                _taps(zero, side, here, plane, dw, 3 * column, column)
            else:
                _taps(zero, side, here, plane, spill, 3 * VECTOR, VECTOR)
                for tap in range(9):
                    copy(zero, dw + tap * column, spill + tap * VECTOR, count - first)
        sums += PANEL


@part
def _taps(zero: Any, side: Any, sums: int, plane: int, dw: int, row: int, column: int) -> None:
    if len(side) == 4:
        taps_4(zero, sums, 6 * plane, plane, dw, row, column)
    else:
        taps_2(zero, sums, 4 * plane, plane, dw, row, column)
