"""The weight gradient of a convolution: the same tiles, with pixels as the depth.

    dw[tap, c, k] = sum over pixels of  x[pixel + tap, c] dy[pixel, k]

    for group of k, group of c, chunk of pixels:         one job, claimed by whichever thread is free
        sums[panel of k, (tap, c)] = 0                   in scratch, for the second-level cache
        for block of pixels in the chunk:
            the block's windows: as they lie, or a strip packing.py
            for panel of k:
                pack dy where mask > 0, sum it for db
                for tile of rows (tap, c):               tiles.py: the block's pixels summed in registers
                    sums[panel, tile] += x[windows]^T @ dy
        store sums as the chunk's partial sum
    dw = the partial sums, added in the order of the chunks

How many chunks there are depends on the shape alone, so the sums' order does not depend on threads.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import carray
from numpy.typing import NDArray

from ..buffers import empty
from ..geometry import Pair, Shape, evenly
from .generated import add_pixels, copy, pointer
from .jit import part
from .packing import clear_pixels, strip, windows
from .plans import LINE, Block, Plan, block_at, blocks, lanes_of, most_points, scratch, sizes, source, table
from .threads import address, jobs, launch
from .tiles import PANEL, ROWS, multiply

Array = NDArray[np.floating]

SUMS_BYTES = 160 * 1024  # of a job's sums: they stay in the second-level cache, beside a block's x and dy
GROUP_COLUMNS = 64  # of k, where there are as many
BLOCK_PIXELS = 128
ROW_PIXELS = 64  # at least, where a row of dy has them
JOBS = 64  # wanted, where the shape has them, and where chunks for them do not take more than
PARTIAL_BYTES = 2**26
CHUNK_BLOCKS = 4  # at least: to store the sums costs as much as a third of a block
ELEMENTS = 8192  # of dw, whose partial sums one job adds
SPREAD = 64  # bytes between the pixels of a strip, lest pixels a power of two apart share one set of the cache
DENSE_BYTES = 128  # pixels this narrow are read where they lie: their lines do share no set


def conv2d_weight_grad(
    x: Array, dy: Array, w_shape: tuple[int, ...], *, stride: Pair, padding: Pair, mask: Array | None = None
) -> tuple[Array, Array]:  # fmt: skip
    """dw = im2col(x)^T @ dy, and db = sum of dy: one partial sum a chunk, added in order."""
    plan = _plan(source(x, None, (w_shape[0], w_shape[1]), stride, padding), dy.shape)
    return by_chunks(_products, dy.dtype.type(0), plan | {"dy": source(dy, mask)}, dy, w_shape)


def _plan(x: Plan, dy_shape: Shape) -> Plan:
    """Choose blocks, groups and chunks, and lay a job's scratch out."""
    n, p, q, k = dy_shape
    taps, size, width = x["r"] * x["s"], x["size"], PANEL // x["size"]
    group_k = -(-evenly(k, GROUP_COLUMNS) // width) * width
    group_c = evenly(x["c"], max(8, SUMS_BYTES // (taps * group_k * size) // 8 * 8))
    cut = blocks(n, p, q, BLOCK_PIXELS, ROW_PIXELS, apart=True)
    shares = shared(taps * x["c"] * k * size, (x["c"], group_c), (k, group_k), JOBS, cut["count"] // CHUNK_BLOCKS)
    panels, rows = group_k // width, taps * group_c + ROWS
    height, row = (cut["block_p"] - 1) * x["stride_h"] + x["r"], (cut["block_q"] - 1) * x["stride_w"] + x["s"]
    pieces = scratch(
        sums=panels * rows * PANEL, dy=most_points(cut) * PANEL, x_rows=8 * rows, sum_rows=8 * rows, taps=8 * cut["block_p"],
        strip=height * row * (group_c * size + SPREAD),
    )  # fmt: skip
    return {"x": x, "blocks": cut, "shares": shares, "panel": rows * PANEL, "scratch": pieces}


def shared(dw_bytes: int, c: Pair, k: Pair, n_jobs: int, most_chunks: int) -> Plan:
    """Share dw out to jobs: groups of c (of how many, and how many a group) and of k, and chunks of the pixels' blocks."""
    n_groups = max(1, -(-c[0] // c[1]) * -(-k[0] // k[1]))
    n_chunks = max(1, min(-(-n_jobs // n_groups), most_chunks, PARTIAL_BYTES // max(1, dw_bytes)))
    return {"c": c[0], "group_c": c[1], "k": k[0], "group_k": k[1], "n_chunks": n_chunks, "n_jobs": n_groups * n_chunks}


def by_chunks(kernel: Any, zero: Any, g: Plan, dy: Array, w_shape: Shape) -> tuple[Array, Array]:
    """Return dw and db from a kernel that sums them chunk by chunk: the chunks' partial sums, added in order."""
    n_chunks, k = g["shares"]["n_chunks"], w_shape[3]
    if not dy.size:
        return np.zeros(w_shape, dy.dtype), np.zeros(k, dy.dtype)
    partial, sums = empty((n_chunks, *w_shape), dy.dtype), np.zeros((n_chunks, k))
    g = g | {"dw": address(partial), "db": address(sums)}
    launch(kernel, g["shares"]["n_jobs"], g["scratch"]["bytes"], zero, table([g]))
    dw = partial.reshape(w_shape) if n_chunks == 1 else empty(w_shape, dy.dtype)
    if n_chunks > 1:
        arguments = dy.dtype.type(0), address(partial), n_chunks, address(dw), dw.size
        launch(add_partials, -(-dw.size // ELEMENTS), 0, *arguments)
    return dw, sums.sum(axis=0).astype(dy.dtype)


class Share(NamedTuple):
    """What a job sums: blocks first to last, one chunk, for channels c0 to c1 of x and k0 to k1 of dy."""

    chunk: int
    first: int
    last: int
    c0: int
    c1: int
    k0: int
    k1: int


@part
def share_of(shares: Any, n_blocks: int, job: int) -> Share:
    """Return a job's share by its number: the groups of c are counted fastest, then those of k."""
    rest, group_c = divmod(job, -(-shares.c // shares.group_c))
    chunk, group_k = divmod(rest, -(-shares.k // shares.group_k))
    first, last = chunk * n_blocks // shares.n_chunks, (chunk + 1) * n_blocks // shares.n_chunks
    c0, k0 = group_c * shares.group_c, group_k * shares.group_k
    return Share(chunk, first, last, c0, min(c0 + shares.group_c, shares.c), k0, min(k0 + shares.group_k, shares.k))


@jobs
def _products(job: int, base: int, zero: Any, plans: Any) -> None:
    """A job sums one chunk for a group of k and a group of c, and stores the partial sum."""
    g = plans[0]
    x, share, width = g.x, share_of(g.shares, g.blocks.count, job), PANEL // g.x.size
    sums, dy, taps = base + g.scratch.sums, base + g.scratch.dy, base + g.scratch.taps
    x_rows, sum_rows = base + g.scratch.x_rows, base + g.scratch.sum_rows
    for number in range(share.first, share.last):
        block = block_at(g.blocks, number)
        _, p, q = sizes(block)
        laid_out, may_lie = base + g.scratch.strip, x.pixel <= DENSE_BYTES
        start, _, row, pixel = windows(zero, x, block, share.c0, share.c1, laid_out, SPREAD, may_lie)
        rows = _address_rows(x, share.c1 - share.c0, row, pixel, x_rows, sums, sum_rows)
        offsets = carray(pointer(0, taps), (p,))
        for i in range(p):
            offsets[i] = i * x.stride_h * row
        for k in range(share.k0, share.k1, width):
            count = min(share.k1 - k, width)
            lanes = lanes_of(count, width)
            _pack_dy(zero, g.dy, block, k, count, lanes, dy)
            if share.c0 == 0:
                add_pixels(zero, g.db + (share.chunk * g.dy.c + k) * 8, dy, lanes * x.size, p * q, count)
            a, to = (x_rows, start, x.stride_w * pixel), (sum_rows, (k - share.k0) // width * g.panel)
            multiply(zero, lanes == width, rows, a, (taps, p, q), dy, to, (number > share.first, 0, 0))
    for k in range(share.k0, share.k1, width):
        _store(zero, g, share, k, min(share.k1 - k, width), sums + (k - share.k0) // width * g.panel)


@part
def _address_rows(x: Any, channels: int, row: int, pixel: int, x_rows: int, sums: int, sum_rows: int) -> int:
    """Fill the tables of the rows (tap, c), their places in a window and in the sums. Return how many there are.

    A cache line of channels goes through all taps before the next, which finds it still in the first-level cache. What
    fills the last tile reads the first row.
    """
    count = x.r * x.s * channels
    filled = -(-count // ROWS) * ROWS
    places, targets = carray(pointer(0, x_rows), (filled,)), carray(pointer(0, sum_rows), (filled,))
    line = LINE // x.size
    i = 0
    for c0 in range(0, channels, line):
        for r in range(x.r):
            for s in range(x.s):
                for c in range(c0, min(c0 + line, channels)):
                    places[i] = r * row + s * pixel + c * x.size
                    i += 1
    for i in range(count, filled):
        places[i] = 0
    for i in range(filled):
        targets[i] = sums + i * PANEL
    return count


@part
def _pack_dy(zero: Any, dy: Any, block: Block, k: int, count: int, lanes: int, target: int) -> None:
    """Lay the block's dy of `count` columns out as rows of `lanes`: where mask > 0, if there is one; zeros behind."""
    strip(zero, dy, block, k, k + count, target, lanes * dy.size)
    if count < lanes:
        _, p, q = sizes(block)
        clear_pixels(zero, target + count * dy.size, p * q, lanes - count, lanes * dy.size)


@part
def _store(zero: Any, g: Any, share: Share, k: int, count: int, sums: int) -> None:
    """Copy the sums of a panel to the chunk's partial dw (R, S, C, K), in the order of _address_rows."""
    x, line = g.x, LINE // g.x.size
    for first in range(share.c0, share.c1, line):
        for tap in range(x.r * x.s):
            for c in range(first, min(first + line, share.c1)):
                copy(zero, g.dw + (((share.chunk * x.r * x.s + tap) * x.c + c) * g.dy.c + k) * x.size, sums, count)
                sums += PANEL


@jobs
def add_partials(job: int, base: int, zero: Any, partials: int, n_partials: int, total: int, size: int) -> None:
    """Add the partial sums, one after the other, a piece of ELEMENTS a job."""
    rows, sums = carray(pointer(zero, partials), (n_partials, size)), carray(pointer(zero, total), (size,))
    first, last = job * ELEMENTS, min((job + 1) * ELEMENTS, size)
    for i in range(first, last):
        sums[i] = rows[0, i]
    for partial in range(1, n_partials):
        for i in range(first, last):
            sums[i] += rows[partial, i]
