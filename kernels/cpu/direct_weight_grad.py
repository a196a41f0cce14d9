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

from typing import Any

import numpy as np
from numba import carray
from numpy.typing import NDArray

from ..buffers import empty
from ..geometry import Pair, evenly, pixel_stride
from .generated import add_pixels, clear, copy, copy_positive, pointer
from .jit import part
from .packing import inside, source, strip, table
from .threads import address, jobs, launch
from .tiles import PANEL, ROWS, multiply

Array = NDArray[np.floating]

SUMS_BYTES = 160 * 1024  # of a job's sums: they stay in the second-level cache, beside a block's x and dy
GROUP_COLUMNS = 64  # of k, where there are as many
BLOCK_PIXELS = 128
JOBS = 64  # wanted, where the shape has them, and where chunks for them do not take more than
PARTIAL_BYTES = 2**26
CHUNK_BLOCKS = 4  # at least: to store the sums costs as much as a third of a block
ELEMENTS = 8192  # of dw, whose partial sums one job adds
SPREAD = 64  # bytes between the pixels of a strip, lest pixels a power of two apart share one set of the cache
DENSE_BYTES = 128  # pixels this narrow are read where they lie: their lines do share no set

LINE = 64  # bytes of a cache line


def conv2d_weight_grad(
    x: Array, dy: Array, w_shape: tuple[int, ...], *, stride: Pair, padding: Pair, mask: Array | None = None
) -> tuple[Array, Array]:  # fmt: skip
    """dw = im2col(x)^T @ dy, and db = sum of dy: one partial sum a chunk, added in order."""
    r, s, c, k = w_shape
    if not dy.size:
        return np.zeros(w_shape, x.dtype), np.zeros(k, x.dtype)
    zero = x.dtype.type(0)
    g = _plan(source(x, None, (r, s), stride, padding), dy.shape)
    partial, sums = empty((g["n_chunks"], r * s * c, k), x.dtype), empty((g["n_chunks"], k), np.float64)
    g |= {"dw": address(partial), "db": address(sums), "dy": address(dy), "dy_pixel": pixel_stride(dy)}
    g |= {"dy_mask": 0, "dy_mask_pixel": 0} if mask is None else {"dy_mask": address(mask), "dy_mask_pixel": pixel_stride(mask)}
    launch(_products, _n_groups(g) * g["n_chunks"], _scratch_bytes(g), zero, table([g]))
    dw = empty(w_shape, x.dtype) if len(partial) > 1 else partial.reshape(w_shape)
    if len(partial) > 1:
        launch(add_partials, -(-dw.size // ELEMENTS), 0, zero, address(partial), len(partial), address(dw), dw.size)
    return dw, sums.sum(axis=0).astype(x.dtype)


def _plan(g: dict[str, int], dy_shape: tuple[int, ...]) -> dict[str, int]:
    """Choose blocks, groups and chunks."""
    n, p, q, k = dy_shape
    taps, width = g["r"] * g["s"], PANEL // g["size"]
    group_k = -(-evenly(k, GROUP_COLUMNS) // width) * width
    group_c = evenly(g["c"], max(8, SUMS_BYTES // (taps * group_k * g["size"]) // 8 * 8))
    block_q = evenly(q, max(64, BLOCK_PIXELS // p))
    block_p = evenly(p, max(1, BLOCK_PIXELS // block_q))
    g |= {"n": n, "p": p, "q": q, "k": k, "group_c": group_c, "group_k": group_k, "block_p": block_p, "block_q": block_q}
    n_blocks = n * -(-p // block_p) * -(-q // block_q)
    affordable = PARTIAL_BYTES // (taps * g["c"] * k * g["size"])
    return g | {"n_blocks": n_blocks, "n_chunks": max(1, min(-(-JOBS // _n_groups(g)), n_blocks // CHUNK_BLOCKS, affordable))}


def _n_groups(g: dict[str, int]) -> int:
    return -(-g["c"] // g["group_c"]) * -(-g["k"] // g["group_k"])


def _scratch_bytes(g: dict[str, int]) -> int:
    """Return what a job needs: see _one_job, which lays it out."""
    height, width = (g["block_p"] - 1) * g["stride_h"] + g["r"], (g["block_q"] - 1) * g["stride_w"] + g["s"]
    strip = height * width * (g["group_c"] * g["size"] + SPREAD)
    rows = g["r"] * g["s"] * g["group_c"] + ROWS
    panels = -(-g["group_k"] * g["size"] // PANEL)
    return panels * rows * PANEL + g["block_p"] * g["block_q"] * PANEL + 16 * rows + 8 * g["block_p"] + strip


@jobs
def _products(job: int, scratch: int, zero: Any, plans: Any) -> None:
    """A job is (chunk, group of k, group of c), the groups of c counted fastest."""
    g = plans[0]
    rest, group_c = divmod(job, -(-g.c // g.group_c))
    chunk, group_k = divmod(rest, -(-g.k // g.group_k))
    _one_job(scratch, zero, g, chunk, group_k * g.group_k, group_c * g.group_c)


@part
def _one_job(scratch: int, zero: Any, g: Any, chunk: int, k0: int, c0: int) -> None:
    """Sum one chunk for a group of k and a group of c, and store the partial sum."""
    k1, c1, width = min(k0 + g.group_k, g.k), min(c0 + g.group_c, g.c), PANEL // g.size
    most = g.r * g.s * g.group_c + ROWS
    dy = scratch + -(-g.group_k // width) * most * PANEL
    x_rows = dy + g.block_p * g.block_q * PANEL
    sum_rows = x_rows + 8 * most
    taps = sum_rows + 8 * most
    laid_out = taps + 8 * g.block_p
    if c0 == 0:
        carray(pointer(0.0, g.db + (chunk * g.k + k0) * 8), (k1 - k0,))[:] = 0
    first = chunk * g.n_blocks // g.n_chunks
    for block in range(first, (chunk + 1) * g.n_blocks // g.n_chunks):
        n, p0, p1, q0, q1 = _block(g, block)
        start, row, pixel = _lay_windows(zero, g, n, p0, p1, q0, q1, c0, c1, laid_out)
        rows = _address_rows(g, c1 - c0, row, pixel, x_rows, scratch, sum_rows)
        offsets = carray(pointer(0, taps), (g.block_p,))
        for p in range(p1 - p0):
            offsets[p] = p * g.stride_h * row
        for k in range(k0, k1, width):
            count = min(k1 - k, width)
            lanes = width if 2 * count > width else width // 2
            _pack_dy(zero, g, n, p0, p1, q0, q1, k, count, lanes, dy)
            if c0 == 0:
                add_pixels(zero, g.db + (chunk * g.k + k) * 8, dy, lanes * g.size, (p1 - p0) * (q1 - q0), count)
            multiply(
                zero, lanes == width, rows, x_rows, start, g.stride_w * pixel, taps, p1 - p0, q1 - q0, dy, sum_rows,
                (k - k0) // width * most * PANEL, block > first, 0, 0,
            )  # fmt: skip
    for k in range(k0, k1, width):
        _store(zero, g, chunk, k, min(k1 - k, width), c0, c1, scratch + (k - k0) // width * most * PANEL)


@part
def _address_rows(g: Any, channels: int, row: int, pixel: int, x_rows: int, sums: int, sum_rows: int) -> int:
    """Fill the tables of the rows (tap, c), their places in a window and in the sums. Return how many there are.

    A cache line of channels goes through all taps before the next, which finds it still in the first-level cache. What
    fills the last tile reads the first row.
    """
    count = g.r * g.s * channels
    filled = -(-count // ROWS) * ROWS
    windows, places = carray(pointer(0, x_rows), (filled,)), carray(pointer(0, sum_rows), (filled,))
    line = LINE // g.size
    i = 0
    for c0 in range(0, channels, line):
        for r in range(g.r):
            for s in range(g.s):
                for c in range(c0, min(c0 + line, channels)):
                    windows[i] = r * row + s * pixel + c * g.size
                    i += 1
    for i in range(count, filled):
        windows[i] = 0
    for i in range(filled):
        places[i] = sums + i * PANEL
    return count


@part
def _block(g: Any, block: int) -> tuple[int, int, int, int, int]:
    """Return a block's image, rows and columns."""
    rest, q = divmod(block, -(-g.q // g.block_q))
    n, p = divmod(rest, -(-g.p // g.block_p))
    p0, q0 = p * g.block_p, q * g.block_q
    return n, p0, min(p0 + g.block_p, g.p), q0, min(q0 + g.block_q, g.q)


@part
def _lay_windows(
    zero: Any, g: Any, n: int, p0: int, p1: int, q0: int, q1: int, c0: int, c1: int, laid_out: int
) -> tuple[int, int, int]:  # fmt: skip
    """Return where the block's windows start, and how far apart the rows and the pixels there lie."""
    if g.x_pixel <= DENSE_BYTES and inside(g, p0, p1, q0, q1):
        row = g.w * g.x_pixel
        top, left = p0 * g.stride_h - g.pad_h, q0 * g.stride_w - g.pad_w
        return g.x + (n * g.h + top) * row + left * g.x_pixel + c0 * g.size, row, g.x_pixel
    pixel = (c1 - c0) * g.size + SPREAD
    strip(zero, g, n, n + 1, p0, p1, q0, q1, c0, c1, laid_out, pixel)
    return laid_out, ((q1 - q0 - 1) * g.stride_w + g.s) * pixel, pixel


@part
def _pack_dy(
    zero: Any, g: Any, n: int, p0: int, p1: int, q0: int, q1: int, k: int, count: int, lanes: int, target: int
) -> None:  # fmt: skip
    """Lay the block's dy of `count` columns out as rows of `lanes`: where mask > 0, if there is one; zeros behind."""
    for p in range(p0, p1):
        pixel = (n * g.p + p) * g.q + q0
        source, mask = g.dy + pixel * g.dy_pixel + k * g.size, g.dy_mask + pixel * g.dy_mask_pixel + k * g.size
        for _ in range(q0, q1):
            if g.dy_mask:
                copy_positive(zero, target, source, mask, count)
            else:
                copy(zero, target, source, count)
            if count < lanes:
                clear(zero, target + count * g.size, lanes - count)
            source, mask, target = source + g.dy_pixel, mask + g.dy_mask_pixel, target + lanes * g.size


@part
def _store(zero: Any, g: Any, chunk: int, k: int, count: int, c0: int, c1: int, sums: int) -> None:
    """Copy the sums of a panel to the chunk's partial dw (R, S, C, K), in the order of _address_rows."""
    line = LINE // g.size
    for first in range(c0, c1, line):
        for tap in range(g.r * g.s):
            for c in range(first, min(first + line, c1)):
                copy(zero, g.dw + (((chunk * g.r * g.s + tap) * g.c + c) * g.k + k) * g.size, sums, count)
                sums += PANEL


@jobs
def add_partials(job: int, scratch: int, zero: Any, partials: int, n_partials: int, total: int, size: int) -> None:
    """Add the partial sums, one after the other, a piece of ELEMENTS a job."""
    rows, sums = carray(pointer(zero, partials), (n_partials, size)), carray(pointer(zero, total), (size,))
    first, last = job * ELEMENTS, min((job + 1) * ELEMENTS, size)
    for i in range(first, last):
        sums[i] = rows[0, i]
    for partial in range(1, n_partials):
        for i in range(first, last):
            sums[i] += rows[partial, i]
