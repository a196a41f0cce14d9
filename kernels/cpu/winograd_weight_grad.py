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

from typing import Any

import numpy as np
from numba import carray
from numpy.typing import NDArray

from ..geometry import Pair, Shape, evenly
from .direct_weight_grad import Share, by_chunks, share_of, shared
from .generated import add_pixels, copy, pointer
from .jit import part
from .plans import Plan, block_at, blocks, lanes_of, most_points, scratch, sizes, source
from .threads import jobs
from .tiles import PANEL, ROWS, VECTOR, multiply
from .transforms import transform
from .windows import strip_bytes, transform_dy, transform_inputs
from .winograd import BLOCK_TILES, ROW_TILES, plane_bytes
from .winograd_matrices import WEIGHT_GRAD

Array = NDArray[np.floating]

GROUPS = 128, 64  # channels of x, and of dy, of a job: the more, the less is transformed again; the first that leaves ENOUGH
ENOUGH = 16  # jobs
JOBS = 32  # wanted, where the shape has them, and where chunks for them do not take more than PARTIAL_BYTES
CHUNK_BLOCKS = 2  # at least: to transform the sums back costs a tenth of a block

transform_sums = transform({m: (w.at, w.divisor / w.power) for m, w in WEIGHT_GRAD.items()})


def conv2d_weight_grad(
    x: Array, dy: Array, w_shape: tuple[int, ...], *, m: int, padding: Pair, mask: Array | None = None
) -> tuple[Array, Array]:
    """dw = im2col(x)^T @ dy, and db = sum of dy: one partial sum a chunk, added in order."""
    plan = _plan(source(x, None, (3, 3), (1, 1), padding), dy.shape, m)
    return by_chunks(_products, (dy.dtype.type(0),) * m, plan | {"dy": source(dy, mask)}, dy, w_shape)


def _plan(x: Plan, dy_shape: Shape, m: int) -> Plan:
    """Choose blocks, groups and chunks, and lay a job's scratch out."""
    n, p, q, k = dy_shape
    size, width = x["size"], PANEL // x["size"]
    cut = blocks(n, -(-p // m), -(-q // m), BLOCK_TILES, ROW_TILES)
    for most in GROUPS:
        group_c, group_k = evenly(x["c"], most), -(-evenly(k, most) // width) * width
        shares = shared(9 * x["c"] * k * size, (x["c"], group_c), (k, group_k), JOBS, cut["count"] // CHUNK_BLOCKS)
        if shares["n_jobs"] >= ENOUGH:
            break
    tiles, planes, height, panels = most_points(cut), (m + 2) ** 2, group_c + ROWS, group_k // width
    v, d = plane_bytes(tiles * -(-group_c * size // VECTOR) * VECTOR), plane_bytes(panels * tiles * PANEL)
    sums = plane_bytes(panels * height * PANEL)
    pieces = scratch(
        v=planes * v, d=(planes + 1) * d, sums=planes * sums, c_rows=8 * height, sum_rows=8 * height, no_offset=8,
        spill=9 * VECTOR, strip=strip_bytes(cut, m),
    )  # fmt: skip
    return {
        "x": x, "blocks": cut, "shares": shares, "v": v, "d": d, "sums": sums, "d_panel": tiles * PANEL,
        "sums_panel": height * PANEL, "scratch": pieces,
    }  # fmt: skip


@jobs
def _products(job: int, base: int, side: Any, plans: Any) -> None:
    """A job sums one chunk for a group of k and a group of c, and stores the partial sum."""
    g, zero, planes = plans[0], side[0], (len(side) + 2) ** 2
    x, at, share, width = g.x, g.scratch, share_of(g.shares, g.blocks.count, job), PANEL // g.x.size
    k0, k1, channels = share.k0, share.k1, share.c1 - share.c0
    pixel = -(-channels * x.size // VECTOR) * VECTOR
    v, d, sums, no_offset = base + at.v, base + at.d, base + at.sums, base + at.no_offset
    c_rows, sum_rows = base + at.c_rows, base + at.sum_rows
    _address_channels(x.size, channels, g.sums_panel // PANEL, c_rows, sums, sum_rows)
    carray(pointer(0, no_offset), (1,))[0] = 0  # one tap: the tiles follow each other
    for number in range(share.first, share.last):
        block = block_at(g.blocks, number)
        n, p, q = sizes(block)
        tiles = n * p * q
        transform_inputs(side, x, block, share.c0, share.c1, base + at.strip, v, (g.v, PANEL, pixel))
        transform_dy(side, g.dy, block, k0, k1, base + at.strip, d, (g.d, g.d_panel, 0))
        for k in range(k0, k1, width):
            panel, count = (k - k0) // width, min(k1 - k, width)
            lanes, here, there = lanes_of(count, width), d + panel * g.d_panel, panel * g.sums_panel
            if share.c0 == 0:  # dy's sums over the tiles, in float64
                db = g.db + (share.chunk * g.dy.c + k) * 8
                add_pixels(zero, db, here + planes * g.d, lanes * x.size, tiles, count)
            for plane in range(planes):
                a, to, end = (c_rows, v + plane * g.v, pixel), (sum_rows, plane * g.sums + there), (number > share.first, 0, 0)
                multiply(zero, lanes == width, channels, a, (no_offset, 1, tiles), here + plane * g.d, to, end)
            if number + 1 == share.last:
                _store(side, g, base, share, k, count, sums + there)


@part
def _address_channels(size: int, count: int, height: int, c_rows: int, sums: int, sum_rows: int) -> None:
    """Fill the tables of the channels' places in a tile of V and of their sums. Rows too many read the first channel."""
    channels, places = carray(pointer(0, c_rows), (height,)), carray(pointer(0, sum_rows), (height,))
    for i in range(height):
        channels[i] = i * size if i < count else 0
        places[i] = sums + i * PANEL


@part
def _store(side: Any, g: Any, base: int, share: Share, k: int, count: int, sums: int) -> None:
    """dw = A^T S A for one panel: 9 taps. A vector that hangs over the last channel goes by way of scratch."""
    size, spill, row = g.x.size, base + g.scratch.spill, (len(side) + 2) * g.sums
    column = g.x.c * g.dy.c * size
    for c in range(share.c0, share.c1):
        for first in range(0, count, VECTOR // size):
            here, dw = sums + first * size, g.dw + share.chunk * 9 * column + (c * g.dy.c + k + first) * size
            if first + VECTOR // size <= count:
                transform_sums(side, here, row, g.sums, dw, 3 * column, column)
            else:
                transform_sums(side, here, row, g.sums, spill, 3 * VECTOR, VECTOR)
                for tap in range(9):
                    copy(side[0], dw + tap * column, spill + tap * VECTOR, count - first)
        sums += PANEL
